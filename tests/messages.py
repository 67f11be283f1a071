"""Every message of bitq's own errors, read from the source."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from bitq import errors
from bitq.engine import engine_files

PACKAGE = Path(errors.__file__).parent
KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.BitqError)}
GIVEN = "{}"  # what is filled in when the message is written


class Message(NamedTuple):
    """A sentence as it stands in the source, each value that is filled in written {}."""

    place: str  # file below bitq/, and line
    kind: str
    text: str
    is_engine: bool


def messages() -> list[Message]:
    """Collect every call of an error class; `one_of` writes its own sentence and is counted by its own."""
    engine = set(engine_files())
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        known = constants(tree)
        for call in calls(tree):
            place = f"{path.relative_to(PACKAGE)}:{call.lineno}"
            found.append(Message(place, name_of(call), written(call.args[0], known), path in engine))
    return found


def calls(tree: ast.Module) -> Iterator[ast.Call]:
    """Find the calls of error classes that give a text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node) in KINDS:
            assert node.args, ast.unparse(node)
            yield node


def name_of(call: ast.Call) -> str:
    """Return the name that is called, without its module."""
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def constants(tree: ast.Module) -> dict[str, str]:
    """Collect the texts that a module defines by name."""
    return {
        node.targets[0].id: str(node.value.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }


def written(node: ast.expr, known: Mapping[str, str] = MappingProxyType({})) -> str:
    """Write a literal, an f-string or a sum of them, with the constants of their module.

    >>> written(ast.parse("f'{path} is ' + 'no file.'", mode="eval").body)
    '{} is no file.'
    """
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(written(each, known) for each in node.values)
    if isinstance(node, ast.BinOp):
        return written(node.left, known) + written(node.right, known)
    if isinstance(node, ast.FormattedValue):
        return written(node.value, known)
    return known.get(node.id, GIVEN) if isinstance(node, ast.Name) else GIVEN


SUBJECT = re.compile(
    r"""((\S+\ ){0,3}\S*\{\}                 # what was given, after three words at most that say what it is
    |--[a-z] | [a-z_]+=\S+\ was\ given | (a|an|the|this|no|none\ of|two|there\ is)\ \w+   # an option, or an object
    |(activations|backend|bias_correction|boost_by|budget|data|event\ files|fast\ inference|format)\b
    |(nothing|references|rounding|runs|scale)\b
    |(LaTeX|BibTeX)\b)""",
    re.VERBOSE,
)
REMEDY = re.compile(
    r"""\b(allowed|expected|at\ most|must|has\ to|needed|only|such\ as|as\ in|for\ example|below)\b   # what is allowed
    |\b(give|call|run|say|name|add|use|choose|leave|keep|ask|put|make|mend|correct|write|delete|move|select|restore)\b
    |\b(get|fetch|import|export|load|save|train|evaluate|measure|plan|install|quantize|calibrate|start|wait|try|build)\b
    |\b(copy|split|verify|import|report)\b|\btake\ (what|another)\b
    |bitq\ [a-z]|apt-get|\ says\ (more|where|what|which|why|of)|\ writes\ it
    |--help\ lists\ all""",
    re.VERBOSE | re.IGNORECASE,
)
JARGON = re.compile(
    r"\b(invalid|illegal|fail(ed|ure)?|error|exception|traceback|abort(ed)?|instance|NoneType|dict|kwargs|args|regex"
    r"|stdin|stdout|stderr|enum|null|foo|oops|sorry|please|mend|house|rooms?|pickle|opcode|dtype)\b",
    re.IGNORECASE,
)


def faults(text: str) -> list[str]:
    """Say what a message lacks.

    >>> faults("--jobs {} was given; allowed: 1 and more.")
    []
    >>> faults("Invalid argument")
    ['begins with neither what was given nor its object', 'no full stop', 'jargon: Invalid', 'no remedy']
    """
    found = []
    if not SUBJECT.match(text):
        found.append("begins with neither what was given nor its object")
    if not re.search(r"(\.|\?|\{\})$", text):
        found.append("no full stop")
    if len(re.findall(r"[.?] (?=[A-Z])", text)) > 1 or "\n" in text:
        found.append("more than two sentences")
    if word := JARGON.search(text):
        found.append(f"jargon: {word[0]}")
    if not REMEDY.search(text):
        found.append("no remedy")
    return found
