"""Which runs a job trains, and which jobs it waits for: what `bitq grid --batches` says."""

import json
import subprocess
from itertools import chain, count

MEMORY = 8000  # MB


def wanted(build):
    """The runs to train, as options of bitq."""
    return ["--scale", "smoke", *options("study")] if build == "build/smoke" else options("scale", *SELECTION)


@cache
def jobs(build):
    """All jobs by name. A cluster's job reads what the process that sent it wrote, instead of asking all results anew."""
    question = [*wanted(build), "--batches", "--results", RESULTS[build]]
    path = Path(build, "plans", f"{hashlib.sha256(repr(question).encode()).hexdigest()[:16]}.json")
    if workflow.is_main_process or not path.exists():
        plan = [job | {"marker": marker(build, job)} for job in json.loads(bitq("grid", *question))]
        path.parent.mkdir(parents=True, exist_ok=True)
        Path(f"{path}.{os.getpid()}").write_text(json.dumps(plan), encoding="utf-8")
        os.replace(f"{path}.{os.getpid()}", path)
    return {job["name"]: job for job in json.loads(path.read_text(encoding="utf-8"))}


def bitq(*words):
    """What a command says; its complaint, if it fails, is ours."""
    done = subprocess.run([sys.executable, "-m", "bitq.cli", *words], capture_output=True, text=True)
    if done.returncode:
        raise WorkflowError(done.stderr.strip())
    return done.stdout


def marker(build, job):
    """The file that says that a job is done. Should one say so of a job that is not, its runs went since: a new one."""
    names = chain([job["name"]], (f"{job['name']}~{number}" for number in count(2)))
    last = None
    for path in (f"{build}/done/{job['scale']}/{name}.json" for name in names):
        if not os.path.exists(path):
            return path if job["todo"] else last or path
        last = path


def markers(build, study=None, phase=None):
    """Of all jobs that have runs to train, or of those with runs of this study and this phase."""
    chosen = (job for job in jobs(build).values() if study in (None, job["study"]) and phase in (None, *job["phases"]))
    return [job["marker"] for job in chosen if job["todo"]]


def to_do(wildcards):
    """The markers of all jobs that have runs to train."""
    return markers(wildcards.build)


def all_markers(wildcards):
    """Those of finished jobs too: changes when there is something to train, and not when it is."""
    return sorted(job["marker"] for job in jobs(wildcards.build).values())


def phases(build):
    """All (study, phase) that there is something to train for."""
    return sorted({(job["study"], phase) for job in jobs(build).values() for phase in job["phases"]})


def job_of(wildcards):
    """The job that a marker is of."""
    return jobs(wildcards.build)[wildcards.batch.partition("~")[0]]


def teachers_of(wildcards):
    """The markers of the jobs that this one waits for."""
    needed = (jobs(wildcards.build)[name] for name in job_of(wildcards)["needs"])
    return [job["marker"] for job in needed if job["todo"]]


def runs_of(wildcards):
    """What a job trains."""
    return job_of(wildcards)["todo"]


def models_of(wildcards):
    """Are finished runs trained again because somebody needs their packed files?"""
    return "--models" if job_of(wildcards)["models"] else ""


def state_of(wildcards):
    """Where unfinished runs keep their checkpoints."""
    return STATE[wildcards.build]


def minutes_of(wildcards):
    """The time to ask a cluster for."""
    return job_of(wildcards)["minutes"]


def attempt_of(wildcards, attempt):
    """How often Snakemake has started the job in this call: what is never worth a retry asks for that."""
    return attempt


def memory_of(wildcards, attempt):
    """MB of memory; twice as much once a job has failed, for it may have been killed for its memory."""
    return MEMORY * min(attempt, 2)


def urgency_of(wildcards):
    """Long jobs first, and those that others wait for."""
    return job_of(wildcards)["priority"]
