"""What all rules share: where results lie, which runs are meant, and digests of what no file time can tell."""

import hashlib
import os
import re
import shlex
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

HERE = Path(workflow.basedir)
CONFIG = os.environ.get("BITQ_CONFIG") or "config"
RESULTS = {"build": os.environ.get("BITQ_RESULTS") or "results", "build/smoke": "build/smoke/results"}
STATE = {"build": os.environ.get("BITQ_STATE") or "state", "build/smoke": "build/smoke/state"}
SELECTION = ("study", "phase", "dataset", "model", "method", "seed")

# What jobs must know too where a cluster does not pass the environment on.
PASSED_ON = [name for name in ("BITQ_CONFIG", "BITQ_RESULTS", "BITQ_STATE", "BITQ_DATA") if name in os.environ]


envvars:
    *PASSED_ON,


# The bitq of this environment, whether or not it is activated; and the workflow's own scripts.
COMMANDS = os.pathsep.join([str(Path(sys.executable).parent), str(HERE / "workflow" / "scripts")])

# A job that a cluster made for one rule alone may send itself back into its queue.
OWN_JOB = "" if workflow.is_main_process else "export BITQ_OWN_JOB=1; "

shell.prefix(f"export PATH={shlex.quote(COMMANDS)}:$PATH; {OWN_JOB}")


wildcard_constraints:
    build="build(/smoke)?",
    scale="[^/]+",
    batch="[^/]+",


def asked_for(*starts):
    """Tell whether a target of the call, a user's or a cluster job's, starts with one of these words."""
    return any(word.startswith(starts) for word in sys.argv[1:])


def check_config(*allowed):
    """Refuse a key of `--config` that no rule reads."""
    for key in config.keys() - set(allowed):
        raise WorkflowError(f"--config {key}=… is not known here; allowed: {', '.join(allowed)}.")


def check_python():
    """Refuse a Python that a cluster's shell would not find: Snakemake does not quote its path (its issue 2645)."""
    sends = workflow.non_local_exec and not workflow.executor_plugin.common_settings.implies_no_shared_fs
    if sends and not re.fullmatch(r"[\w@%+=:,./-]+", sys.executable):
        raise WorkflowError(
            f"Snakemake was started by {sys.executable}, and cannot send a path with a space or the like to a cluster; "
            f"make a link that all nodes see, ln -s {shlex.quote(sys.prefix)} ~/bitq-env, "
            "and call ~/bitq-env/bin/python -m snakemake with the same words."
        )


def options(*keys):
    """Turn `--config seed=42,123` into options of bitq."""
    chosen = {key: str(config[key]).split(",") for key in keys if key in config}
    return [word for key, values in chosen.items() for value in values for word in (f"--{key}", value)]


onstart:
    check_python()


def results_of(wildcards):
    """Return the folder of results that a build folder is made from."""
    return RESULTS[wildcards.build]


def selection_of(wildcards):
    """Select the runs that a build folder shows, as options of bitq."""
    return ["--paper"] if wildcards.build == "build" else ["--scale", "smoke", *options("study")]


def missing_allowed():
    """Turn `--config allow_missing=true` into an option of bitq."""
    return "--allow-missing" if config.get("allow_missing") else ""


def digest(*places):
    """Digest all files of these places: as a rule's parameter it makes the rule run again when one of them changes."""
    found = hashlib.sha256()
    for path in sorted(file for place in places for file in files_in(HERE / place)):
        found.update(f"{path.relative_to(HERE) if path.is_relative_to(HERE) else path}\0".encode())
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:16]


def files_in(place):
    """List the files of a folder without the caches of Python, or a file itself."""
    if place.is_file():
        return [place]
    return [path for path in place.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


# What a rule reads depends on many modules (the grid, for one, knows the digests of the data), and all rules together
# take less than half a minute: they run again whichever module changes.
SOURCE = digest(CONFIG, "bitq")


def fingerprint(wildcards):
    """Digest all finished runs; of the packed files, too large to be read each time, only the sizes count."""
    return contents(results_of(wildcards))


@cache
def contents(folder):
    """Digest a folder of results once for each process."""
    found = hashlib.sha256()
    for path in sorted(files_in(Path(folder))):
        found.update(f"{path}\0{path.stat().st_size}\0".encode())
        if path.suffix != ".safetensors":
            found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()[:16]


def end_the_future(folder):
    """Give files with a time in the future the present one, since Snakemake would wait for that time."""
    for path in folder.rglob("*"):
        if path.lstat().st_mtime > time.time() + 60:
            os.utime(path, follow_symlinks=False)


if asked_for("smoke", "build/smoke"):
    check_config("study", "allow_missing")
else:
    check_config("scale", *SELECTION, "allow_missing")

if workflow.is_main_process:
    with suppress(OSError):  # another call may be at work there
        end_the_future(Path("build"))
