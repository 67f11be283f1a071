"""Which runs a job trains, and which jobs it waits for: what `bitq grid --batches` says."""

import json
import subprocess
from itertools import chain, count

from bitq.io import read_json, write_json

MEMORY = 8000  # MB


def wanted(build):
    """Select the runs to train, as options of bitq."""
    return ["--scale", "smoke", *options("study")] if build == "build/smoke" else options("scale", *SELECTION)


@cache
def jobs(build):
    """List all jobs by name; a job on a cluster reads the list that the process which sent it wrote."""
    question = [*wanted(build), "--batches", "--results", RESULTS[build]]
    path = Path(build, "plans", f"{hashlib.sha256(repr(question).encode()).hexdigest()[:16]}.json")
    if workflow.is_main_process or not path.exists():
        write_json(path, [job | {"marker": marker(build, job)} for job in json.loads(bitq("grid", *question))])
    return {job["name"]: job for job in read_json(path)}


def bitq(*words):
    """Return the output of a command of bitq, or fail with its message."""
    done = subprocess.run([sys.executable, "-m", "bitq.cli", *words], capture_output=True, text=True)
    if done.returncode:
        raise WorkflowError(done.stderr.strip())
    return done.stdout


def marker(build, job):
    """Name the file that marks a job as done; a new one where runs have been removed since the last one was written."""
    names = chain([job["name"]], (f"{job['name']}~{number}" for number in count(2)))
    last = None
    for path in (f"{build}/done/{job['scale']}/{name}.json" for name in names):
        if not os.path.exists(path):
            return path if job["todo"] else last or path
        last = path


def markers(build, study=None, phase=None):
    """List the markers of all jobs that have runs to train, or of those with runs of a study and a phase."""
    chosen = (job for job in jobs(build).values() if study in (None, job["study"]) and phase in (None, *job["phases"]))
    return [job["marker"] for job in chosen if job["todo"]]


def to_do(wildcards):
    """List the markers of all jobs that have runs to train."""
    return markers(wildcards.build)


def all_markers(wildcards):
    """List the markers of all jobs, finished ones too: a parameter that changes with what there is to train alone."""
    return sorted(job["marker"] for job in jobs(wildcards.build).values())


def phases(build):
    """List every (study, phase) with runs to train."""
    return sorted({(job["study"], phase) for job in jobs(build).values() for phase in job["phases"]})


def job_of(wildcards):
    """Find the job of a marker."""
    return jobs(wildcards.build)[wildcards.batch.partition("~")[0]]


def teachers_of(wildcards):
    """List the markers of the jobs that this one waits for."""
    needed = (jobs(wildcards.build)[name] for name in job_of(wildcards)["needs"])
    return [job["marker"] for job in needed if job["todo"]]


def runs_of(wildcards):
    """List the runs that a job trains."""
    return job_of(wildcards)["todo"]


def models_of(wildcards):
    """Ask for packed files where a later job needs those of finished runs."""
    return "--models" if job_of(wildcards)["models"] else ""


def state_of(wildcards):
    """Return the folder of the checkpoints of a build folder."""
    return STATE[wildcards.build]


def minutes_of(wildcards):
    """Return the minutes to ask a cluster for."""
    return job_of(wildcards)["minutes"]


def attempt_of(wildcards, attempt):
    """Return how often Snakemake has started the job in this call; bitq.policy ends what is never tried again."""
    return attempt


def memory_of(wildcards, attempt):
    """Return MB of memory, twice as much once a job has failed: it may have been killed for its memory."""
    return MEMORY * min(attempt, 2)


def urgency_of(wildcards):
    """Rank long jobs first, and those that others wait for."""
    return job_of(wildcards)["priority"]
