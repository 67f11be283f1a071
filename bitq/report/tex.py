"""Format values as LaTeX: escaping, numbers, and templates whose every value is escaped."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from bitq.report import names

NONE = "--"  # a value that does not exist at this scale
SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{character: "\\" + character for character in "&%$#_{}"},
    **{"≥": r"$\ge$", "≤": r"$\le$", "×": r"$\times$", "±": r"$\pm$", "−": "$-$", "→": r"$\to$", "≠": r"$\ne$"},
    **{"α": r"$\alpha$", "β": r"$\beta$", "δ": r"$\delta$", "Δ": r"$\Delta$", "λ": r"$\lambda$", "σ": r"$\sigma$"},
    **{"τ": r"$\tau$", "μ": r"$\mu$"},
    **{"–": "--", "—": "---", "…": r"\dots{}", "“": "``", "”": "''", "’": "'", "‘": "`", "²": "$^2$", "·": r"$\cdot$"},
    "\u00a0": "~",
}


class Tex(str):
    """Text that is LaTeX already."""


def escape(value: object) -> str:
    """Escape a value for LaTeX; LaTeX is left alone, None becomes a dash.

    >>> escape("100 % of a_b")
    '100 \\\\% of a\\\\_b'
    """
    if isinstance(value, Tex):
        return value
    return NONE if value is None else "".join(SPECIAL.get(character, character) for character in str(value))


def breakable(text: str) -> Tex:
    """Escape a text, allowing breaks where long names are joined."""
    return Tex(escape(text).replace(r"\_", r"\_\allowbreak ").replace("/", r"/\allowbreak "))


def marked(text: str) -> Tex:
    r"""Escape a text with code in backticks.

    >>> marked("by `bitq import` only")
    'by \\code{bitq import} only'
    """
    parts = [escape(part) for part in text.split("`")]
    return Tex("".join(rf"\code{{{part}}}" if place % 2 else part for place, part in enumerate(parts)))


def number(value: float | None, digits: int = 2, sign: bool = False) -> Tex:
    """Format a number with a true minus.

    >>> number(-1.234), number(2.0, 1, sign=True), number(None)
    ('$-1.23$', '$+2.0$', '--')
    """
    if value is None or value != value:
        return Tex(NONE)
    return Tex(f"${_unsigned_zero(format(value, ('+' if sign else '') + f'.{digits}f'))}$")


def _unsigned_zero(text: str) -> str:
    return text.lstrip("+-") if re.fullmatch(r"[+-]0(\.0*)?", text) else text


def as_written(value: float) -> Tex:
    r"""Format a number with the digits that it was written with.

    >>> as_written(19.62), as_written(-1.5e-07)
    ('$19.62$', '$-1.5\\cdot10^{-7}$')
    """
    digits, _, power = f"{value:g}".partition("e")
    return Tex(rf"${digits}\cdot10^{{{int(power)}}}$" if power else f"${digits}$")


def signed(value: float | None, digits: int = 2) -> Tex:
    """Format a difference with its sign."""
    return number(value, digits, sign=True)


def mean_sd(mean: float | None, sd: float | None, digits: int = 2) -> Tex:
    """Format mean and standard deviation; the mean alone where one run has no spread.

    >>> mean_sd(93.014, 0.15), mean_sd(93.014, None)
    ('$93.01 \\\\pm 0.15$', '$93.01$')
    """
    if mean is None or sd is None:
        return number(mean, digits)
    return Tex(f"${mean:.{digits}f} \\pm {sd:.{digits}f}$")


def interval(bounds: Sequence[float] | None, digits: int = 2, sign: bool = True) -> Tex:
    """Format the bounds of an interval in brackets."""
    if bounds is None:
        return Tex(NONE)
    low, high = (number(bound, digits, sign).strip("$") for bound in bounds)
    return Tex(f"$[{low},\\,{high}]$")


def halved(middle: float | None, bounds: Sequence[float] | None, bold: bool, digits: int = 2) -> Tex:
    r"""Format a difference with half of its interval, in bold if significant.

    >>> halved(1.5, (0.5, 2.5), True), halved(-1.5, None, False)
    ('$\\mathbf{+1.50}\\pm 1.00$', '$-1.50$')
    """
    shown = signed(middle, digits)
    if bounds is None:
        return shown
    half = f"{(bounds[1] - bounds[0]) / 2:.{digits}f}"
    text = shown.strip("$")
    return Tex(rf"$\mathbf{{{text}}}\pm {half}$" if bold else rf"${text}\pm {half}$")


def p_value(p: float | None) -> Tex:
    """Format a p value with three decimals, never as zero.

    >>> p_value(0.0421), p_value(0.0001)
    ('$0.042$', '$<0.001$')
    """
    if p is None:
        return Tex(NONE)
    return Tex("$<0.001$") if p < 0.001 else Tex(f"${p:.3f}$")


def whole(value: float | None) -> Tex:
    """Format a whole number with separated thousands."""
    return Tex(NONE) if value is None else Tex(f"{round(value):,}".replace(",", r"\,"))


def percent(share: float | None) -> Tex:
    """Format a share in percent."""
    return number(None if share is None else 100 * share, 1)


def small_percent(share: float | None) -> Tex:
    r"""Format a share in percent, with a power of ten where two digits would show zero.

    >>> small_percent(0.0), small_percent(2.7e-05), small_percent(0.125)
    ('$0$', '$3\\cdot10^{-3}$', '$12.50$')
    """
    hundredths = None if share is None else 100 * share
    return scientific(hundredths) if hundredths is not None and hundredths < 0.1 else number(hundredths)


def times(factor: float | None) -> Tex:
    """Format a factor."""
    return Tex(NONE) if factor is None else Tex(f"${factor:.2f}\\times$")


def millions(value: float | None) -> Tex:
    """Format a large number in millions."""
    return number(None if value is None else value / 1e6, 1)


def scientific(value: float | None) -> Tex:
    r"""Format one digit and a power of ten.

    >>> scientific(3.6e-07), scientific(0.0)
    ('$4\\cdot10^{-7}$', '$0$')
    """
    if not value:
        return number(value, 0)
    digit, power = f"{value:.0e}".split("e")
    return Tex(rf"${digit}\cdot10^{{{int(power)}}}$")


def counted(count: int, noun: str) -> str:
    """Format a number with its noun.

    >>> counted(1, "run"), counted(0, "run")
    ('1 run', '0 runs')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def listed(items: Sequence[object]) -> str:
    """Join items as a sentence lists them."""
    texts = [str(item) for item in items]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def at(record: Mapping[str, Any] | None, *keys: str) -> Any:
    """Look a value up in nested records; None where a record is None, an error where a key does not exist.

    >>> at({"paired": {"p": 0.5}}, "paired", "p"), at({"paired": None}, "paired", "p")
    (0.5, None)
    """
    found: Any = record
    for key in keys:
        found = None if found is None else found[key]
    return found


FORMATS = (
    number,
    signed,
    mean_sd,
    interval,
    halved,
    p_value,
    whole,
    percent,
    small_percent,
    times,
    scientific,
    millions,
    counted,
    listed,
    at,
    breakable,
    marked,
)
NAMES = (names.dataset, names.model, names.arm, names.where)
FILTERS: dict[str, Callable[..., Any]] = {function.__name__: function for function in (*FORMATS, *NAMES)}


@cache
def environment() -> Environment:
    """Build templates with << value >>, <% statement %> and <# comment #>, which LaTeX does not use itself."""
    found = Environment(
        loader=PackageLoader("bitq.report"),
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        finalize=escape,
    )
    found.filters |= FILTERS | {"Tex": Tex}
    return found


def render(template: str, **values: Any) -> str:
    """Render a template of this package."""
    return environment().get_template(template).render(values)


def render_text(text: str, **values: Any) -> str:
    """Render a text that is a template itself, such as a caption."""
    return environment().from_string(text).render(values)
