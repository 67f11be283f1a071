"""Verification: only what the grid asked for passes, and every way to damage results is found and named."""

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from bitq.errors import DataError, UsageError
from bitq.grid.select import Selection, grid
from bitq.io import sha256
from bitq.results.folder import MODEL, folder_of, read, text
from bitq.results.manifest import NAME, read_manifest, write_manifest
from bitq.results.predictions import PREDICTIONS, labels_name
from bitq.results.schema import RECORDS as FILES
from bitq.results.verify import Kind, Verdict, describe, require, save, verify
from bitq.run import Run
from tests import synthetic
from tests.synthetic import pretend, pretend_all

RECORDS = ("config.json", "env.json", "history.json", "results.json")
RUNS = Selection(datasets=["cifar10"], models=["resnet18"], methods=["fp32", "ttq"]).of(grid("smoke", ["bitnet"]))
A, B, C = RUNS[:3]
LABELS = labels_name(sha256(synthetic.labels_of(A)))
ELSEWHERE = Selection(datasets=["cifar100"], methods=["ttq"]).of(grid("mini", ["bitnet"]))[0]


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole results with their manifest, never changed; in a folder whose name is not plain."""
    root = tmp_path_factory.mktemp("results") / "résultats d'été"
    pretend_all(RUNS, root)
    write_manifest(root, RUNS)
    return root


@pytest.fixture
def root(sealed: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(sealed, tmp_path / "results"))


def kinds(verdict: Verdict) -> dict[str, str]:
    """What is wrong where; the verdict must not pass, and say so in a list."""
    assert not verdict.ok
    with pytest.raises(DataError) as refused:
        require(verdict)
    assert refused.value.exit_code == 65
    assert all(f"{problem.path}: {problem.text}" in str(refused.value) for problem in verdict.problems)
    return {problem.path: problem.kind for problem in verdict.problems}


def move(root: Path, source: Run, target: Run) -> None:
    shutil.rmtree(folder_of(target, root), ignore_errors=True)
    shutil.move(folder_of(source, root), folder_of(target, root))


def copy(root: Path, source: Run, target: str) -> None:
    shutil.copytree(folder_of(source, root), root / target, dirs_exist_ok=True)


def swap(root: Path, one: str, other: str) -> None:
    (root / one).rename(root / "aside")
    (root / other).rename(root / one)
    (root / "aside").rename(root / other)


def test_whole_results_pass_and_the_verdict_says_where_they_ran(sealed: Path) -> None:
    verdict = verify(sealed, RUNS)
    require(verdict)
    assert (verdict.ok, verdict.expected, verdict.present, verdict.missing) == (True, len(RUNS), len(RUNS), 0)
    assert verdict.root == verdict.manifest == read_manifest(sealed).root  # type: ignore[union-attr]
    assert verdict.environments["torch"] == {"2.15.0": len(RUNS)}
    assert verdict.environments.keys() == {"mode", "device", "machine", "threads", "code", "torch"}
    assert "1 distinct machine: x86_64 AVX512 no-amx" in describe(verdict)


def test_without_any_run_nothing_passes(tmp_path: Path) -> None:
    for allow_missing in (False, True):
        assert set(kinds(verify(tmp_path / "absent", RUNS, allow_missing)).values()) == {"missing"}
    with pytest.raises(UsageError, match="nothing to verify"):
        verify(tmp_path, ())


def test_many_missing_runs_are_counted_with_the_call_that_trains_them(tmp_path: Path) -> None:
    runs = grid("smoke", ["ring"])
    with pytest.raises(DataError) as refused:
        require(verify(tmp_path / "absent", runs))
    first, listed, last = str(refused.value).splitlines()
    assert first.startswith(f"0 of {len(runs)} runs are complete") and "--allow-missing" in last
    assert f"smoke/ring: {len(runs)} runs are not finished; bitq train --study ring --scale smoke does it." in listed


def test_one_missing_run_fails_unless_that_is_allowed(root: Path) -> None:
    (root / NAME).unlink()
    (folder_of(A, root) / "results.json").unlink()
    assert kinds(verify(root, RUNS)) == {A.path: "missing"}
    allowed = verify(root, RUNS, allow_missing=True)
    require(allowed)
    assert (allowed.present, allowed.missing) == (len(RUNS) - 1, 1)
    assert f"not there yet: 1 of {A.scale}/{A.study}" in describe(allowed)


def test_allowing_missing_runs_allows_nothing_else(root: Path) -> None:
    (root / NAME).unlink()
    shutil.rmtree(folder_of(A, root))
    (folder_of(B, root) / "history.json").unlink()
    assert kinds(verify(root, RUNS, allow_missing=True)) == {A.path: "missing", B.path: "damaged"}


def test_a_run_that_the_manifest_lists_may_not_be_lost(root: Path) -> None:
    shutil.rmtree(folder_of(A, root))
    assert kinds(verify(root, RUNS, allow_missing=True)) == {A.path: "lost"}


def test_one_extra_run_fails_only_within_the_selection(root: Path) -> None:
    before = verify(root, RUNS)
    pretend(ELSEWHERE, root)
    verdict = verify(root, RUNS)
    require(verdict)
    assert verdict.outside == (ELSEWHERE.path,)
    assert "outside the selection, not used: 1 in mini/bitnet" in describe(verdict)
    assert verdict.model_copy(update={"outside": ()}) == before
    extra = A.model_copy(update={"seed": 7})
    pretend(extra, root)
    assert kinds(verify(root, RUNS)) == {extra.path: "extra"}


def test_a_run_of_the_selection_is_extra_wherever_it_lies(root: Path) -> None:
    extra = A.model_copy(update={"seed": 7})
    pretend(extra, root)
    (root / "old").mkdir()
    folder_of(extra, root).rename(root / "old" / "s7")
    assert kinds(verify(root, RUNS)) == {"old/s7": "extra"}


def retrain_otherwise(root: Path) -> None:
    """The same place, another recipe."""
    other = A.model_copy(update={"recipe": A.recipe.model_copy(update={"lr": 0.2})})
    pretend(other, root)


def take_over(root: Path) -> None:
    """A second folder claims to be A, with another recipe."""
    folder_of(A, root).rename(root / "aside")
    retrain_otherwise(root)
    folder_of(A, root).rename(root / "twin")
    (root / "aside").rename(folder_of(A, root))


TAMPERINGS: dict[str, tuple[Callable[[Path], object], dict[str, str]]] = {
    "deleted": (lambda root: shutil.rmtree(folder_of(A, root)), {A.path: "lost"}),
    "swapped": (lambda root: swap(root, A.path, B.path), {A.path: "swapped", B.path: "swapped"}),
    "moved": (lambda root: move(root, A, B), {A.path: "lost", B.path: "swapped"}),
    "moved away": (lambda root: folder_of(A, root).rename(root / "a"), {A.path: "lost", "a": "swapped"}),
    "copied over another": (lambda root: copy(root, A, B.path), {B.path: "duplicated"}),
    "copied": (lambda root: copy(root, A, "mini/s1"), {"mini/s1": "duplicated"}),
    "claimed twice": (take_over, {"twin": "duplicated"}),
    "of another grid": (retrain_otherwise, {A.path: "foreign"}),
    "results of another run": (
        lambda root: swap(root, f"{A.path}/results.json", f"{B.path}/results.json"),
        {A.path: "damaged", B.path: "damaged"},
    ),
    "unreadable": (lambda root: (folder_of(A, root) / "config.json").write_bytes(b"{"), {A.path: "damaged"}),
    "too large a number": (
        lambda root: (folder_of(A, root) / "history.json").write_text('{"lr": [1e999]}'),
        {A.path: "damaged"},
    ),
    "other machine claimed": (
        lambda root: replace(folder_of(A, root) / "env.json", b'"cpu"', b'"gpu"'),
        {A.path: "damaged"},
    ),
    "other model": (lambda root: (folder_of(A, root) / MODEL).write_bytes(b"other"), {A.path: "damaged"}),
    "other predictions": (
        lambda root: swap(root, f"{A.path}/{PREDICTIONS}", f"{B.path}/{PREDICTIONS}"),
        {A.path: "damaged", B.path: "damaged"},
    ),
    "no predictions": (lambda root: (folder_of(A, root) / PREDICTIONS).unlink(), {A.path: "damaged"}),
    "no labels": (lambda root: (root / LABELS).unlink(), {LABELS: "damaged"}),
    "other labels": (lambda root: flip(root / LABELS, 0.5, 1), {LABELS: "damaged"}),
    "a file of no run": (
        lambda root: (folder_of(A, root) / "notes.txt").write_text("x"),
        {f"{A.path}/notes.txt": "stray"},
    ),
    "a file between runs": (
        lambda root: (folder_of(A, root).parent / "s42.zip").write_text("x"),
        {f"{A.path.rpartition('/')[0]}/s42.zip": "stray"},
    ),
    "manifest": (lambda root: replace(root / NAME, b'"root": "', b'"root": "0'), {NAME: "damaged"}),
}


def replace(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


@pytest.mark.parametrize("name", TAMPERINGS)
def test_each_tampering_is_called_by_its_name(root: Path, name: str) -> None:
    tamper, expected = TAMPERINGS[name]
    tamper(root)
    assert kinds(verify(root, RUNS)) == expected


def test_a_run_that_the_manifest_does_not_list_is_told(root: Path) -> None:
    (root / NAME).unlink()
    write_manifest(root, RUNS[1:])
    assert kinds(verify(root, RUNS)) == {A.path: "unlisted"}
    assert verify(root, RUNS[1:]).problems[0].kind == "extra"


def test_a_growing_grid_may_have_runs_that_the_manifest_does_not_list(root: Path) -> None:
    (root / NAME).unlink()
    write_manifest(root, RUNS[2:])
    shutil.rmtree(folder_of(B, root))
    verdict = verify(root, RUNS, allow_missing=True)
    assert verdict.ok and verdict.unlisted == (A.path,) and verdict.present == len(RUNS) - 1
    assert f"1 complete runs are not in {NAME}, {A.path} for one" in describe(verdict)


def test_a_manifest_vouches_for_its_own_scales_and_keeps_them(root: Path) -> None:
    pretend(ELSEWHERE, root)
    before = read_manifest(root)
    verdict = verify(root, [ELSEWHERE])
    assert verdict.ok and verdict.unlisted == (ELSEWHERE.path,)
    after = write_manifest(root, [ELSEWHERE])
    assert before and before.files.items() < after.files.items()
    assert not verify(root, [ELSEWHERE]).unlisted and verify(root, RUNS).ok


def test_a_run_trained_again_differs_from_the_manifest(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "IMAGES", 400)
    pretend(A, root)
    assert kinds(verify(root, RUNS)) == {A.path: "damaged"}
    (root / NAME).unlink()
    assert verify(root, RUNS).ok


def test_models_may_stay_behind_but_not_change(root: Path) -> None:
    before = verify(root, RUNS)
    for run in RUNS:
        (folder_of(run, root) / MODEL).unlink()
    assert verify(root, RUNS) == before
    write_manifest(root, RUNS)
    assert verify(root, RUNS) == before


@st.composite
def tamperings(draw: st.DrawFn) -> Callable[[Path], object]:
    """A random way to damage results: any file, any byte, any pair of runs."""
    one, other = draw(st.permutations([run.path for run in RUNS]))[:2]
    name = draw(st.sampled_from(RECORDS))
    file = draw(st.sampled_from([NAME, LABELS, *(f"{one}/{name}" for name in (MODEL, PREDICTIONS, *RECORDS))]))
    where, mask = draw(st.floats(0, 1, exclude_max=True)), draw(st.integers(1, 255))
    ways: list[Callable[[Path], object]] = [
        lambda root: flip(root / file, where, mask),
        lambda root: os.truncate(root / file, int(where * (root / file).stat().st_size)),
        lambda root: swap(root, one, other),
        lambda root: swap(root, f"{one}/{name}", f"{other}/{name}"),
        lambda root: (root / one / name).unlink(),
        lambda root: shutil.rmtree(root / one),
        lambda root: shutil.copytree(root / one, root / other, dirs_exist_ok=True),
        lambda root: shutil.copytree(root / one, (root / one).with_name("s99")),
    ]
    return draw(st.sampled_from(ways))


def flip(path: Path, where: float, mask: int) -> None:
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= mask
    path.write_bytes(content)


@given(tamper=tamperings())
@settings(max_examples=200)
def test_no_tampering_passes(sealed: Path, tmp_path_factory: pytest.TempPathFactory, tamper: Any) -> None:
    root = tmp_path_factory.mktemp("tampered") / "results"
    shutil.copytree(sealed, root)
    tamper(root)
    assert kinds(verify(root, RUNS))
    shutil.rmtree(root)


def forge(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change results.json and seal it again, as one would who knows how."""
    found = read(folder_of(C, root))
    record = found.results.model_dump(mode="json")
    change(record)
    results = type(found.results).model_validate(record).sealed()
    (folder_of(C, root) / "results.json").write_bytes(text(results))


FORGERIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "is not": lambda r: r["packed"].update(accuracy=99.0),
    "different accuracies": lambda r: r.update(accuracy=99.0),
    "add up to its": lambda r: r["packed"]["parts"].update(codes=1),
    "over": lambda r: r["packed"].update(compression=100.0),
    "audited layers": lambda r: r["packed"]["audit"].update(packed_weights=1),
    "the maximum": lambda r: r.update(best_accuracy=0.0),
    "its maximum": lambda r: r.update(best_epoch=9),
    "0 images": lambda r: r["packed"].update(images=0, correct=0),
    "0 bytes": lambda r: r["packed"].update(file_bytes=0, compression=0.0),
    "images right, but results.json counts 1 correct": lambda r: (
        r["packed"].update(correct=1, accuracy=0.2),
        r.update(accuracy=0.2),
    ),
    "different parents": lambda r: r.update(parents=[{"id": "x", "hash": "y"}]),
    "damaged or from another run": lambda r: r["packed"].update(sha256="0" * 64),
}


@pytest.mark.parametrize("sentence", FORGERIES)
def test_results_that_contradict_themselves_are_found_without_a_manifest(root: Path, sentence: str) -> None:
    (root / NAME).unlink()
    forge(root, FORGERIES[sentence])
    verdict = verify(root, RUNS)
    assert kinds(verdict) == {C.path: "damaged"}
    assert sentence in verdict.problems[0].text


@pytest.mark.parametrize(
    ("curves", "sentence"),
    [
        ({"test_accuracy": (50.0, -1.0)}, "leaves 0 … 100"),
        ({"train_accuracy": (50.0, 101.0)}, "leaves 0 … 100"),
        ({"lr": ()}, "curve lr has 0 epochs, not 2"),
        ({"hard_loss": (1.0, 1.0)}, "curve hard_loss has 2 epochs, not 0"),
    ],
)
def test_impossible_curves_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, curves: dict[str, Any], sentence: str
) -> None:
    plain = synthetic.history_of
    monkeypatch.setattr(synthetic, "history_of", lambda run, epochs: plain(run, epochs).model_copy(update=curves))
    pretend(A, tmp_path)
    assert sentence in verify(tmp_path, [A]).problems[0].text


def test_a_diverged_run_is_a_whole_result(tmp_path: Path) -> None:
    for epochs, run in enumerate((A, B)):
        pretend(run, tmp_path, diverged_in=epochs)
    write_manifest(tmp_path, (A, B))
    require(verify(tmp_path, (A, B)))
    (folder_of(A, tmp_path) / MODEL).write_bytes(b"left over")
    assert kinds(verify(tmp_path, (A, B))) == {A.path: "damaged"}


def test_equal_results_give_an_equal_manifest_and_verdict(sealed: Path, root: Path) -> None:
    shuffled = random.Random(0).sample(RUNS, len(RUNS))
    for number, path in enumerate(sorted(root.rglob("*"))):
        os.utime(path, (0, (915148800, 1924992000)[number % 2]))  # 1999 and 2031
    manifest = (sealed / NAME).read_bytes()
    write_manifest(root, shuffled)
    assert (root / NAME).read_bytes() == manifest
    assert verify(root, shuffled) == verify(sealed, RUNS)


def test_the_root_digest_is_what_sha256sum_gives(root: Path) -> None:
    (root / NAME).rename(root.parent / NAME)
    script = "find . -type f | LC_ALL=C sort | sed 's|^./||' | xargs sha256sum | sha256sum"
    printed = subprocess.check_output(["bash", "-c", script], cwd=root, text=True)
    assert printed.split()[0] == verify(root, RUNS).root


def test_the_verdict_file_changes_only_with_its_content(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "build" / "verdict.json"
    save(verify(root, RUNS), path)
    os.utime(path, (1, 1))
    pretend(ELSEWHERE, root)
    save(verify(root, RUNS), path)
    assert path.stat().st_mtime == 1
    assert Verdict.model_validate_json(path.read_bytes()) == verify(root, RUNS).model_copy(update={"outside": ()})
    (folder_of(A, root) / "env.json").unlink()
    save(verify(root, RUNS), path)
    assert path.stat().st_mtime > 1


@pytest.mark.parametrize("runs", [RUNS[1:], grid("full", ["ring"]), (*RUNS[2:], ELSEWHERE)])
def test_a_manifest_never_forgets_runs(runs: tuple[Run, ...], root: Path) -> None:
    before = (root / NAME).read_bytes()
    with pytest.raises(UsageError, match="not selected|nothing to list"):
        write_manifest(root, runs)
    assert (root / NAME).read_bytes() == before


def test_a_manifest_is_not_written_over_damage(root: Path) -> None:
    before = (root / NAME).read_bytes()
    replace(folder_of(A, root) / "results.json", b'"status": "done"', b'"status": "gone"')
    with pytest.raises(DataError, match="status"):
        write_manifest(root, RUNS)
    assert (root / NAME).read_bytes() == before


def test_verifying_reads_only(sealed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in [sealed, *sealed.rglob("*")]}
    verify(sealed, RUNS)
    assert {path: path.stat().st_mtime_ns for path in [sealed, *sealed.rglob("*")]} == before


def test_verifying_loads_no_heavy_library() -> None:
    code = "import bitq.results.verify, sys; print({'torch', 'pandas', 'pyarrow', 'numpy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


README = (Path(__file__).parents[1] / "results" / "README.md").read_text(encoding="utf-8")


def fields(record: type[BaseModel]) -> set[str]:
    """Names of all fields, nested ones included."""
    schema = record.model_json_schema()
    return {name for part in (schema, *schema.get("$defs", {}).values()) for name in part["properties"]}


@pytest.mark.parametrize("name", FILES)
def test_the_readme_explains_every_field(name: str) -> None:
    section = README.split(f"### {name}.json")[1].split("\n### ")[0]
    assert {field for field in fields(FILES[name]) if f"`{field}`" not in section} == set()


def test_the_readme_explains_every_verdict() -> None:
    assert {kind for kind in get_args(Kind) if f"\n| {kind} |" not in README} == set()


def test_a_referee_needs_only_python_to_check_a_run(root: Path) -> None:
    program = README.split("```python\n")[1].split("```")[0]
    subprocess.run([sys.executable, "-c", program, root], check=True)
    replace(folder_of(A, root) / "results.json", b'"best_epoch"', b'"best-epoch"')
    refused = subprocess.run([sys.executable, "-c", program, root], capture_output=True, text=True)
    assert f"{A.path}/results.json was changed" in refused.stderr


def test_a_referee_needs_only_sha256sum_to_check_the_files(root: Path) -> None:
    script = "\n".join(re.findall(r"^    ((?:python -c|sha256sum).*)$", README, re.MULTILINE))
    script = script.replace("/tmp/listed", "../listed").replace("python -c", f"'{sys.executable}' -c")
    printed = subprocess.check_output(["bash", "-ec", script], cwd=root, text=True)
    assert printed.split()[0] == verify(root, RUNS).root
    assert len(printed.splitlines()) == 1
