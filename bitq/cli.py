"""Offer the verbs on the command line, and end every failure in one sentence."""

import io
import sys
import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from bitq.errors import BitqError, Bug, StorageError
from bitq.verbs import data, grid, packed, report, results, train


class Commands(TyperGroup):
    """Leave the options of `train` until it is called: to read them from the recipe costs more than the rest."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is called."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and command.name == train.NAME:
            from bitq.verbs.options import train_command

            command = train_command()
        return name, command, rest


def group(about: str) -> typer.Typer:
    """Make a set of verbs; without rich, which would cost more than all else at start-up."""
    return typer.Typer(
        cls=Commands,
        help=about,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


app = group("Train every run of a low-bit study, measure the bytes that would ship, test every claim.")
left = (grid.grid, grid.plan, packed.evaluate, packed.export, packed.demo)
right = (results.verify, results.aggregate, results.stats, results.claims)
printed = (report.tables, report.figures, report.numbers, report.paper, report.submission)
app.command(train.NAME, help=train.train.__doc__)(lambda: None)
for verb in (*left, *right, *printed):
    app.command()(verb)

app.command("import")(packed.import_)

images = group("Fetch, import and inspect image sets.")
images.command("fetch")(data.fetch)
images.command("import")(data.import_)
images.command("info")(data.info)
app.add_typer(images, name="data")


INTERRUPTED = 130  # how typer ends on Ctrl-C; bitq train ends with 75 and goes on when it is started again


def main() -> None:
    """Run the command line; a failure that a user can act on is one sentence and an exit code."""
    for stream in (sys.stdout, sys.stderr):  # replace what the encoding cannot show
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except BitqError as error:
        print(f"bitq: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as leaving:
        if leaving.code == INTERRUPTED:
            print("bitq: stopped by Ctrl-C before it was done; start it again.", file=sys.stderr)
        raise
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        print(f"bitq: {error.filename or 'input or output'}: {error.strerror or error}.", file=sys.stderr)
        sys.exit(StorageError.exit_code)
    except Exception as error:
        traceback.print_exc()
        print(f"bitq: {type(error).__name__} is a bug of bitq, see above; please report it with that.", file=sys.stderr)
        sys.exit(Bug.exit_code)


if __name__ == "__main__":
    main()
