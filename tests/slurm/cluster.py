"""A Slurm of one machine for the tests: Debian's daemons on loopback, with files of their own, in a mount namespace."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
DAEMONS = ("munged", "slurmctld", "slurmd")
NODE = socket.gethostname().partition(".")[0]

# Requeued jobs wait for cred_expire (5 s at least), killed ones have KillWait. 4 processors, so that jobs overlap.
CONF = """
ClusterName=test
SlurmctldHost={node}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={root}/munge/socket,cred_expire=5
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=20
ReturnToService=1
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={node} NodeAddr=127.0.0.1 CPUs=4 RealMemory=64000 Gres=gpu:4 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2
"""


def why_not() -> str:
    """Why there can be no such Slurm here; nothing if there can."""
    if os.geteuid() != 0:
        return "needs root, to install Debian's Slurm and to start its daemons"
    if not shutil.which("apt-get") and not all(map(shutil.which, DAEMONS)):
        return "needs Slurm and munge, which only Debian's packages bring"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        return "needs a mount namespace (unshare --mount), for a configuration that nobody else sees"
    return ""


def install() -> None:
    """Install Debian's packages, unless they are there."""
    if all(map(shutil.which, DAEMONS)):
        return
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=600"]
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # which starts no service
    subprocess.run([*apt, "update"], env=env, check=True, stdout=subprocess.DEVNULL)
    packages = ["slurm-wlm", "munge"]
    words = [*apt, "install", "--yes", "--no-install-recommends", *packages]
    subprocess.run(words, env=env, check=True, stdout=subprocess.DEVNULL)


def until(condition: Callable[[], object], seconds: float = 300) -> None:
    """Wait for something, but not for ever."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def is_pending(process: int, number: signal.Signals) -> bool:
    """Tell whether a signal waits for a process that stands still."""
    text = Path(f"/proc/{process}/status").read_text()
    waiting = re.search(r"^ShdPnd:\s*([0-9a-f]+)$", text, re.M)
    assert waiting
    return bool(int(waiting[1], 16) & 1 << number - 1)


class Cluster:
    """munged, slurmctld and slurmd; `call` runs a command that sees their configuration in /etc/slurm."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("etc", "munge", "state", "spool"):
            (root / name).mkdir(parents=True)
        (root / "munge/key").write_bytes(os.urandom(1024))
        (root / "munge/key").chmod(0o400)
        for number in range(4):  # devices that do nothing: one GPU each, as far as Slurm is concerned
            os.mknod(root / f"gpu{number}", 0o020600, os.makedev(1, 3))
        # Snakemake sends the path of its Python to Slurm unquoted; this one has no space, whatever the checkout's has.
        (root / "env").symlink_to(sys.prefix)
        self.python = root / "env/bin/python"
        ports = dict(zip(("controller_port", "node_port"), free_ports(2), strict=True))
        (root / "etc/slurm.conf").write_text(CONF.format(node=NODE, root=root, **ports))
        (root / "etc/gres.conf").write_text(f"NodeName={NODE} Name=gpu File={root}/gpu[0-3]\n")

    def start(self) -> None:
        """Start all daemons and wait until jobs can run."""
        script = 'mount --bind "$0" /etc/slurm && echo ready && exec sleep infinity'
        words = ["unshare", "--mount", "sh", "-c", script, str(self.root / "etc")]
        self.processes["namespace"] = subprocess.Popen(words, stdout=subprocess.PIPE)
        said = self.processes["namespace"].stdout
        assert said and said.readline() == b"ready\n"
        files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "seed-file": "seed", "log-file": "log"}
        options = [f"--{option}={self.root}/munge/{name}" for option, name in files.items()]
        self._start("munged", "--foreground", "--force", *options)
        until((self.root / "munge/socket").exists)
        self._start("slurmctld", "-D")
        self._start("slurmd", "-D")
        until(lambda: self.node_state() == "idle")

    def stop(self) -> None:
        """End everything, jobs first."""
        subprocess.run(self.inside("scancel", "--user=root"), capture_output=True)
        subprocess.run(self.inside("scancel", "--signal=KILL", "--full", "--user=root"), capture_output=True)
        for name in ("slurmd", "slurmctld", "munged", "namespace"):
            if name in self.processes:
                self.kill(name)

    def kill(self, name: str, by: str = "terminate") -> None:
        """End one daemon."""
        process = self.processes.pop(name)
        getattr(process, by)()
        process.wait()
        if process.stdout:
            process.stdout.close()

    def restart_controller(self) -> None:
        """Kill slurmctld as a crash would, and start it again a moment later."""
        self.kill("slurmctld", by="kill")
        time.sleep(2)
        self._start("slurmctld", "-D")

    def crash_node(self) -> None:
        """End slurmd and all that it runs at once, as a power cut would, and declare the node down."""
        self.kill("slurmd", by="kill")
        here = os.readlink(f"/proc/{self.processes['namespace'].pid}/ns/mnt")
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                of_job = b"SLURM_JOB_ID=" in (folder / "environ").read_bytes()
                is_step = (folder / "comm").read_text() == "slurmstepd\n"
                if (of_job or is_step) and os.readlink(folder / "ns/mnt") == here:
                    os.kill(int(folder.name), signal.SIGKILL)
        self.call("scontrol", "update", f"NodeName={NODE}", "State=DOWN", "Reason=test")

    def return_node(self) -> None:
        """Start the node again."""
        self._start("slurmd", "-D")
        self.call("scontrol", "update", f"NodeName={NODE}", "State=RESUME")

    def inside(self, *words: str, cwd: Path = ROOT) -> list[str]:
        """Turn a command into one that sees the configuration."""
        return ["nsenter", f"--mount=/proc/{self.processes['namespace'].pid}/ns/mnt", f"--wd={cwd}", *words]

    def call(self, *words: str) -> str:
        """Run a command of Slurm and return what it says."""
        done = subprocess.run(self.inside(*words), capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout.strip()

    def node_state(self) -> str:
        done = subprocess.run(self.inside("sinfo", "--noheader", "--format=%T"), capture_output=True, text=True)
        return done.stdout.strip()

    def jobs(self, state: str = "all") -> list[str]:
        return self.call("squeue", "--noheader", "--format=%i", f"--states={state}").split()

    def restarts(self, job: str) -> int:
        """How often Slurm has put a job back into its queue."""
        found = re.search(r"Restarts=(\d+)", self.call("scontrol", "show", "job", job))
        return int(found[1]) if found else 0

    def _start(self, name: str, *options: str) -> None:
        log = self.root / f"{name}.out"
        with open(log, "ab") as output:
            self.processes[name] = subprocess.Popen(self.inside(name, *options), stdout=output, stderr=output)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
