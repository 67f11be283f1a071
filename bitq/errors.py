"""The exceptions, one class per kind of failure, each with the exit code of the command line."""


class BitqError(Exception):
    """A failure that a user can act on. The text is one sentence: given, allowed, remedy."""

    exit_code = 70


class Differs(BitqError):
    """What was compared is not the same; as with diff, that is an answer and no failure of the command."""

    exit_code = 1


class UsageError(BitqError):
    """A request that names something that does not exist or makes no sense; never worth a retry."""

    exit_code = 2


class DataError(BitqError):
    """A file is missing, damaged or belongs to something else."""

    exit_code = 65


class Bug(BitqError):
    """bitq broke one of its own promises."""

    exit_code = 70


class Diverged(BitqError):
    """A run went non-finite under --strict; without it, divergence is a result."""

    exit_code = 71


class OutOfMemory(BitqError):
    """The device had no memory left."""

    exit_code = 72


class StorageError(BitqError):
    """Reading or writing failed for a reason outside the file's content (disk full, stale mount)."""

    exit_code = 74


class Preempted(BitqError):
    """The run stopped early with its state saved, or is already running elsewhere: start it again later."""

    exit_code = 75


def one_of(kind: str, given: object, allowed: object, remedy: str = "") -> UsageError:
    """Build the error for an unknown name.

    >>> str(one_of("method", "bitnt", ["bitnet", "ttq"]))
    "unknown method 'bitnt'; allowed: bitnet, ttq. Did you mean 'bitnet'?"
    """
    names = sorted(str(name) for name in allowed)  # type: ignore[attr-defined]
    listed = ", ".join(names) or "none"
    hint = did_you_mean(str(given), names)
    return UsageError(f"unknown {kind} {given!r}; allowed: {listed}.{hint}{' ' + remedy if remedy else ''}")


def did_you_mean(given: str, names: list[str]) -> str:
    """Suggest the nearest name, if one is near."""
    import difflib

    near = difflib.get_close_matches(given, names, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
