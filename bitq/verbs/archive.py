"""Pack results into one file that describes itself, and take such a file over."""

from pathlib import Path
from typing import Annotated

import typer

from bitq.verbs.common import Json, ResultsOption, ScaleOption, check_new_file, emit
from bitq.verbs.results import Paper, Study, selected


def archive(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The bundle to write, as in results.crate.zip.")],
    paper: Paper = False,
    study: Study = None,
    scale: ScaleOption = "full",
    results: ResultsOption = None,
    models: Annotated[bool, typer.Option(help="With the packed files that are here.")] = True,
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Archive what there is.")] = False,
    as_json: Json = False,
) -> None:
    """Verify results, and pack them with manifest, RO-Crate metadata, bill of materials, licences and configuration."""
    check_new_file(out)

    from bitq.archive.write import write_bundle
    from bitq.paths import results_dir
    from bitq.results.verify import require, verify

    runs, root = selected(paper, study, scale), results or results_dir()
    require(verify(root, runs, allow_missing))
    bundle = write_bundle(out, root, runs, models)
    found = {"runs": len(bundle.runs), "models": bundle.models, "bytes": out.stat().st_size, "root": bundle.root}
    text = f"{out}  {found['runs']} runs, {found['models']} packed files, {found['bytes']:,} bytes, root {bundle.root}"
    emit(found, as_json, text)


def adopt(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="What bitq archive wrote.")],
    results: ResultsOption = None,
    check: Annotated[bool, typer.Option("--check", help="Only say whether it is whole.")] = False,
    as_json: Json = False,
) -> None:
    """Check a bundle completely, then put its runs into the folder of results; nothing there is overwritten."""
    from bitq.archive import adopt as reading
    from bitq.paths import results_dir

    if check:
        whole = reading.check(bundle)
        found = {"runs": len(whole.runs), "models": whole.models, "root": whole.root}
        emit(
            found, as_json, f"{bundle} is whole: {len(whole.runs)} runs, {whole.models} packed files, root {whole.root}"
        )
        return
    root = results or results_dir()
    done = reading.adopt(bundle, root)
    text = f"{len(done.new)} runs are now in {root}, {len(done.there)} were there already"
    if done.manifest:
        text += "; the manifest came with them"
    elif done.new:
        text += "; bitq verify --manifest lists them in the manifest there"
    emit({"new": list(done.new), "there": list(done.there), "manifest": done.manifest}, as_json, text)
