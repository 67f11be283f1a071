"""Offer the verbs on the command line, and end every failure in one sentence."""

import io
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from bitq.errors import BitqError, Bug, StorageError, UsageError
from bitq.train.signals import stop_while_starting
from bitq.verbs import (
    archive,
    card,
    chaos,
    claims,
    compare,
    data,
    explore,
    export,
    grid,
    listing,
    packed,
    report,
    results,
    status,
    train,
    why,
)
from bitq.verbs.common import write
from bitq.verbs.helptext import PlainCommand
from bitq.verbs.usage import unknown_command, usage_error


class Commands(TyperGroup):
    """List commands under the titles of their groups, and leave the options of `train` until it is called.

    To read those from the recipe costs more than all the rest.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is called."""
        if args and args[0] not in self.commands and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise unknown_command(args[0], self.commands)
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and command.name == train.NAME:
            from bitq.verbs.options import train_command

            command = train_command(command.epilog)
        return name, command, rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group of commands."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            about = (command.help or "").partition("\n\n")[0]
            groups.setdefault(command.rich_help_panel, []).append((name, " ".join(about.split())))
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def group(about: str, completion: bool = False) -> typer.Typer:
    """Make a set of verbs; without rich, which would cost more than all else at start-up."""
    return typer.Typer(
        cls=Commands,
        help=about,
        no_args_is_help=True,
        add_completion=completion,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


app = group("Train every run of a low-bit study, measure the bytes that would ship, test every claim.", completion=True)

# By group: each verb, and a call that works as it stands once the files it names are there.
VERBS: dict[str, dict[Callable[..., None], str]] = {
    "Train": {
        train.train: "bitq train --scale smoke --model resnet18 --dataset cifar10 --method bitnet",
        grid.grid: "bitq grid --study ring --seed 42",
        grid.plan: "bitq plan --scale mini --study atq",
        listing.results: "bitq results --scale smoke --study ring",
        status.status: "bitq status --scale smoke --watch",
        why.why: "bitq why bitnet/cifar10/resnet18/bitnet-kd/s42 --scale smoke",
        chaos.chaos: "bitq chaos --scale smoke --kills 50",
    },
    "What there is": {
        listing.models: "bitq models",
        listing.methods: "bitq methods --json",
        listing.datasets: "bitq datasets",
    },
    "Packed files": {
        packed.evaluate: "bitq evaluate model.safetensors --plots plots",
        export.export: "bitq export model.safetensors two_bits.safetensors --packing b2",
        packed.import_: "bitq import resnet20.pth resnet20.safetensors --model resnet20",
        packed.demo: "bitq demo",
        card.card: "bitq card model.safetensors --out README.md",
    },
    "Results": {
        results.verify: "bitq verify --paper",
        compare.compare: "bitq compare results elsewhere/results",
        archive.archive: "bitq archive results.crate.zip --paper",
        archive.adopt: "bitq adopt results.crate.zip --results elsewhere",
        results.aggregate: "bitq aggregate --paper --out build/data",
        results.stats: "bitq stats --runs build/runs.parquet --out build/stats.json",
        claims.claims: "bitq claims",
        explore.explore: "bitq explore --out results.html",
    },
    "Paper": {
        report.tables: "bitq tables --build build",
        report.figures: "bitq figures --build build",
        report.numbers: "bitq numbers --build build",
        report.paper: "bitq paper --build build",
        report.submission: "bitq submission --build build",
    },
}
for title, verbs in VERBS.items():
    for verb, example in verbs.items():
        name = verb.__name__.rstrip("_")
        body = (lambda: None) if verb is train.train else verb
        app.command(name, cls=PlainCommand, help=verb.__doc__, epilog=f"Example: {example}", rich_help_panel=title)(
            body
        )

images = group("Fetch, import and inspect image sets.")
for name, verb, example in (
    ("fetch", data.fetch, "bitq data fetch cifar10"),
    ("import", data.import_, "bitq data import cifar10 cifar10.npz"),
    ("info", data.info, "bitq data info"),
    ("describe", data.describe, "bitq data describe cifar10"),
):
    images.command(name, cls=PlainCommand, epilog=f"Example: {example}", rich_help_panel="Commands")(verb)
app.add_typer(images, name="data", rich_help_panel="What there is")


def print_version(asked: bool) -> None:
    """Print the installed version and end, if asked to."""
    if asked:
        typer.echo(version("bitq"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=print_version, is_eager=True)
    ] = False,
) -> None:
    """Take what belongs to no verb."""


INTERRUPTED = 130  # how typer ends on Ctrl-C; bitq train ends with 75 and goes on when it is started again


def main() -> None:
    """Run the command line; a failure that a user can act on is one sentence and an exit code."""
    if sys.argv[1:2] == [train.NAME]:  # before anything that takes long is imported
        stop_while_starting()
    for stream in (sys.stdout, sys.stderr):  # replace what the encoding cannot show
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        code = app(prog_name="bitq", standalone_mode=False)
    except TyperException as error:
        end(help_or_error(error))
    except BitqError as error:
        end(error)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        place = error.filename or "input or output"
        end(StorageError(f"{place}: {error.strerror or error}; give another place, or start again."))
    except Exception as error:
        traceback.print_exc()
        print(f"bitq: {type(error).__name__} is a bug of bitq, see above; please report it with that.", file=sys.stderr)
        sys.exit(Bug.exit_code)
    if code == INTERRUPTED:
        write("bitq: stopped by Ctrl-C before it was done; start it again.", sys.stderr)
    sys.exit(code)


def end(error: BitqError) -> NoReturn:
    """End with the sentence of an error and its exit code."""
    write(f"bitq: {error}", sys.stderr)
    sys.exit(error.exit_code)


def help_or_error(error: Any) -> BitqError:
    """Print the help of a group that was called without a command, or turn a wrong call into one sentence."""
    if type(error).__name__ == "NoArgsIsHelpError":
        write(error.format_message())
        sys.exit(UsageError.exit_code)
    return usage_error(error)


if __name__ == "__main__":
    main()
