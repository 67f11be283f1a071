"""Derive the options that describe a one-off run from the records: names, types, defaults and allowed values."""

import inspect
import types
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from bitq.catalogue import KEEP
from bitq.grid.adhoc import SEED, choices
from bitq.grid.naming import PRECISION
from bitq.run import LARGEST_SEED, Calibration, Distillation, Recipe
from bitq.verbs.helptext import PlainCommand, record

NETWORK, METHOD, PARENTS, RECIPE = "Network", "Method", "Teacher and start", "Recipe"
WORDS = {int: "INT", float: "NUMBER", str: "TEXT"}


class Option(NamedTuple):
    """One option that may be given several times."""

    name: str
    kind: type
    metavar: str
    help: str
    panel: str
    flags: tuple[str, ...] = ()  # where they are not --name

    def parameter(self) -> inspect.Parameter:
        """Write it as the argument of a function, for typer to read."""
        option = typer.Option(*self.flags, help=self.help, metavar=self.metavar or None, rich_help_panel=self.panel)
        # What a type checker cannot know: the types are values here.
        annotation: Any = Annotated[Union[list[self.kind], None], option]  # type: ignore[name-defined] # noqa: UP007
        return inspect.Parameter(self.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def options() -> Iterator[Option]:
    """List every option of a one-off run, in the order of the help."""
    yield from _of_network()
    yield from _of_method()
    yield from _of_parents()
    about = f"Decides initial weights, order and augmentation: 0 to {LARGEST_SEED}. [default: {SEED}]"
    yield Option("seed", int, "INT", about, RECIPE)
    yield from (of_recipe(name, field) for name, field in Recipe.model_fields.items())


def _of_network() -> Iterator[Option]:
    def option(name: str, about: str, kind: type = str, metavar: str = "NAME") -> Option:
        return Option(name, kind, metavar, about, NETWORK)

    width = "Channels of its first stage. [default: as published, 64 for a ResNet-18, 16 for a ResNet-20]"
    variant = (
        "Variant of the data set, of those that bitq data info lists; NAME@N takes N training images and as large a "
        "share of the test images. [default: that of the scale; official at full]"
    )
    yield option("model", f"Network: {allowed('model')}. [required]")
    yield option("width", width, int, "INT")
    yield option("stem", f"First layers for small or for large images: {allowed('stem')}. [default: cifar]")
    yield option("norm", f"Per-sample normalisation in front of every layer: {allowed('norm')}. [default: none]")
    yield option("dataset", f"Data set: {allowed('dataset')}. [required]")
    yield option("variant", variant)


def _of_method() -> Iterator[Option]:
    def option(name: str, about: str, metavar: str = "NAME") -> Option:
        return Option(name, str, metavar, about, METHOD)

    setting = "Setting of the quantizer, of those that bitq methods lists. Several settle one run and make no sweep."
    keep = f"Layers in full precision, as in conv1,fc: {', '.join(KEEP)}, or a glob on layer names. [default: none]"
    calibration = (
        f"What a few images decide after training: {', '.join(Calibration.model_fields)}. Several settle one run and "
        "make no sweep."
    )
    precision = (
        f"Arithmetic of the training: {allowed('precision')}. bf16 and fp16 need a GPU, or a processor that computes "
        f"in them (AVX512-BF16, AMX): any other emulates them, many times slower. [default: {PRECISION}]"
    )
    yield option("method", f"How weights become few levels: {allowed('method')}. [required]")
    yield option("setting", setting, "KEY=VALUE")
    yield option("keep", keep, "LAYERS")
    yield option("calibration", calibration, "KEY=VALUE")
    yield option("precision", precision)


def _of_parents() -> Iterator[Option]:
    def option(name: str, about: str, kind: type = str, metavar: str = "RUN|FILE") -> Option:
        return Option(name, kind, metavar, about, PARENTS)

    usual = Distillation(teacher=None)
    teacher = "Run or packed file to learn from, or online: an fp32 twin that is trained beside it. [default: none]"
    yield option("teacher", teacher)
    yield option(
        "temperature", f"Temperature of teacher and student. [default: {usual.temperature:g}]", float, "NUMBER"
    )
    yield option("alpha", f"Weight of the teacher's term, 0 to 1. [default: {usual.alpha:g}]", float, "NUMBER")
    yield option("start", "Run or packed file whose weights to start from. [default: drawn by the seed]")


def allowed(option: str) -> str:
    """Write the allowed values of an option."""
    return ", ".join(choices()[option])


def of_recipe(name: str, field: FieldInfo) -> Option:
    """Turn a key of the recipe into an option."""
    kind, is_choice = kind_of(field.annotation), name in choices()
    about = field.description or ""
    if is_choice:
        about = f"{about.removesuffix('.')}: {allowed(name)}."
    about += f" [default: {shown(field.default)}]"
    flag = f"--{name.replace('_', '-')}"
    if kind is bool:
        return Option(name, bool, "", about, RECIPE, (f"{flag}/--no-{flag[2:]}",))
    return Option(name, kind, "NAME" if is_choice else WORDS[kind], about, RECIPE)


def kind_of(annotation: Any) -> type:
    """Find the type of an option's value; a tuple is written with commas, so it is a text."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(each for each in get_args(annotation) if each is not type(None))
    return annotation if annotation in (int, float, bool) else str


def shown(default: Any) -> str:
    """Write a default."""
    if isinstance(default, bool):
        return "yes" if default else "no"
    return f"{default:g}" if isinstance(default, int | float) else str(default or "none")


class GroupedCommand(PlainCommand):
    """Help in groups, which typer has only with rich."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group, in the order in which they appear."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if row := record(parameter, ctx):
                groups.setdefault(getattr(parameter, "rich_help_panel", None) or "Machine", []).append(row)
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def described(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options of a one-off run in place of its keywords."""
    signature = inspect.signature(verb, eval_str=True)
    own = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    run = [each for each in own if panel_of(each) == "Run"]
    machine = [each for each in own if panel_of(each) != "Run"]
    every = [*run, *(option.parameter() for option in options()), *machine]
    keywords = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in every]

    def call(**given: Any) -> None:
        verb(**given)

    call.__doc__ = verb.__doc__
    call.__signature__ = signature.replace(parameters=keywords)  # type: ignore[attr-defined]
    return call


def panel_of(parameter: inspect.Parameter) -> str | None:
    """Read the group of an option from its annotation."""
    (info,) = parameter.annotation.__metadata__
    panel: str | None = info.rich_help_panel
    return panel


def train_command(example: str | None) -> Any:
    """Build the command `train` with all its options."""
    from bitq.verbs.train import NAME, train

    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(NAME, cls=GroupedCommand, epilog=example)(described(train))
    return typer.main.get_command(app)
