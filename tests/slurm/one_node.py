"""A real SLURM with one node on this machine, in a folder of its own: own key, own ports, no systemd, no cgroups.

Two partitions: jobs of ``high`` preempt those of ``low``, which get a warning signal and are requeued. The node
pretends to have eight cores and two GPUs, so small jobs run side by side on any machine.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.slurm.guard import Guard

PROGRAMS = ("slurmctld", "slurmd", "munged", "srun", "sbatch", "squeue", "scontrol", "scancel")
PARTITIONS = ("low", "high")
CPUS = 8
MAX_ARRAY_SIZE = 1001
_NODE = "node1"
_CONF = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,bf_max_job_test=5000
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
MaxArraySize={max_array_size}
MaxJobCount=10000
MinJobAge=60
KillWait=5
UnkillableStepTimeout=180
GresTypes=gpu
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=8000 Gres=gpu:2 State=UNKNOWN
PartitionName=low Nodes={node} Default=YES MaxTime=60 PriorityTier=1 GraceTime=20 State=UP
PartitionName=high Nodes={node} MaxTime=60 PriorityTier=10 PreemptMode=OFF State=UP
"""
_GRES = """\
NodeName={node} Name=gpu File=/dev/null
NodeName={node} Name=gpu File=/dev/zero
"""


class OneNode:
    """The daemons and their files below ``folder``, whose path must be short: sockets live in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "slurm.conf"
        self._ports = _free_ports(2)
        self._munged: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None
        self.changed = False

    def start(self) -> None:
        """Write the configuration, start every daemon, and wait until jobs can run.

        A guard ends all of them when this process is gone, even if it never gets to :meth:`stop`.
        """
        self._guard = Guard(self.folder)
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "gres.conf").write_text(_GRES.format(node=_NODE))
        self.configure()
        self._start_munged()
        self.start_slurmctld(clean=True)
        self.start_slurmd()

    def configure(self, max_array_size: int = MAX_ARRAY_SIZE) -> None:
        """Write slurm.conf; a running controller takes it on when it is restarted."""
        text = _CONF.format(
            host=socket.gethostname(),
            user=getpass.getuser(),
            folder=self.folder,
            ctld_port=self._ports[0],
            slurmd_port=self._ports[1],
            node=_NODE,
            cpus=CPUS,
            max_array_size=max_array_size,
        )
        self.conf.write_text(text)

    def reconfigure(self, max_array_size: int) -> None:
        """Restart the controller with another size of arrays; :meth:`restore` undoes it."""
        self.kill("slurmctld", signal.SIGTERM)
        self.configure(max_array_size)
        self.start_slurmctld()
        self.changed = True

    def restore(self) -> None:
        """Bring back the configuration of the start."""
        self.reconfigure(MAX_ARRAY_SIZE)
        self.changed = False

    def start_slurmctld(self, clean: bool = False) -> None:
        """Start the controller, with or without its earlier state, and wait for its answer."""
        subprocess.run(["slurmctld", *(["-c"] if clean else []), "-f", str(self.conf)], check=True)
        self._wait("slurmctld does not answer", lambda: self._run("scontrol", "ping").returncode == 0)

    def start_slurmd(self) -> None:
        """Start the node and wait until it takes jobs."""
        subprocess.run(["slurmd", "-f", str(self.conf), "-N", _NODE], check=True)
        self._wait("the node does not become idle", self._node_is_up)

    def kill(self, daemon: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Kill ``slurmctld`` or ``slurmd`` and wait until it is gone."""
        file = self.folder / f"{daemon}.pid"
        try:
            pid = int(file.read_text())
            os.kill(pid, number)
        except (FileNotFoundError, ValueError, ProcessLookupError):
            return
        self._wait(f"{daemon} does not end", lambda: not _alive(pid))
        file.unlink(missing_ok=True)

    def save(self) -> bytes:
        """The controller's memory of jobs, from a save that it begins after this call.

        It saves within about five seconds of a change; what happens after its last save, a crash forgets.
        """
        file = self.folder / "state" / "job_state"
        before = file.stat().st_mtime_ns if file.exists() else 0
        job = self._run("squeue", "--noheader", "--format=%A").stdout.split()[0]
        self._run("scontrol", "update", f"JobId={job}", f"Comment={secrets.token_hex(4)}")
        self._wait("slurmctld does not save its state", lambda: file.exists() and file.stat().st_mtime_ns != before)
        return file.read_bytes()

    def crash(self, remembered: bytes) -> None:
        """Kill the controller, as if ``remembered`` were the last that it had saved."""
        self.kill("slurmctld")
        for name in ("job_state", "job_state.old"):
            (self.folder / "state" / name).write_bytes(remembered)

    def lose_node(self) -> None:
        """Tell the controller that the node is lost: its jobs are requeued."""
        self._run("scontrol", "update", f"NodeName={_NODE}", "State=DOWN", "Reason=lost")

    def stop(self) -> None:
        """End all jobs and daemons, and remove the folder."""
        if self.conf.exists() and self._run("scontrol", "ping").returncode == 0:
            self._run("scancel", "--full", "--user", getpass.getuser())
            _try_for(10, lambda: not self._run("squeue", "--noheader").stdout.strip())
        for daemon in ("slurmd", "slurmctld"):
            self.kill(daemon)
        if self._munged is not None:
            self._munged.terminate()
            self._munged.wait(timeout=20)
        if self._guard is not None:
            self._guard.close()

    def log(self) -> str:
        """The last lines of the daemons' logs, for a failing test."""
        parts = []
        for name in ("munged", "slurmctld", "slurmd"):
            file = self.folder / f"{name}.log"
            lines = file.read_text(errors="replace").splitlines()[-30:] if file.exists() else []
            parts.append("\n".join([f"-- {name}", *lines]))
        return "\n".join(parts)

    def _start_munged(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        files = {
            "key-file": key,
            "socket": self.folder / "munge.socket",
            "pid-file": self.folder / "munged.pid",
            "log-file": self.folder / "munged.log",
            "seed-file": self.folder / "munged.seed",
        }
        options = [f"--{name}={path}" for name, path in files.items()]
        self._munged = subprocess.Popen(
            ["munged", "--foreground", "--force", "--num-threads=2", *options],
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._wait("munged does not come up", files["socket"].exists)

    def _node_is_up(self) -> bool:
        state = self._run("sinfo", "--noheader", "--Node", "--format=%T").stdout.split()
        return bool(state) and set(state) <= {"idle", "mixed", "allocated", "completing"}

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env={**os.environ, "SLURM_CONF": str(self.conf)}, capture_output=True, text=True, check=False
        )

    def _wait(self, problem: str, condition: object) -> None:
        if not _try_for(60, condition):
            raise RuntimeError(f"{problem}\n{self.log()}")


def missing_programs() -> list[str]:
    """The programs of SLURM and munge that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def install() -> str | None:
    """Install SLURM if this may be done here; why it can not be, or None."""
    missing = missing_programs()
    if not missing:
        return None
    if os.geteuid() != 0:
        return f"{', '.join(missing)} missing, and only root may install the packages slurm-wlm and munge"
    if shutil.which("apt-get") is None:
        return f"{', '.join(missing)} missing, and there is no apt-get to install slurm-wlm and munge"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    last = ""
    # One process at a time: to the others apt-get would say that it is locked, and their tests would be skipped.
    with Path(tempfile.gettempdir(), "slurm-tests-install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (["apt-get", "update"], ["apt-get", "install", "-y", "slurm-wlm", "munge"]):
            if missing_programs():
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
                last = "".join((done.stderr or done.stdout).strip().splitlines()[-1:])
    missing = missing_programs()
    return f"{', '.join(missing)} missing, and apt-get could not install them: {last}" if missing else None


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def _try_for(seconds: float, condition: object) -> bool:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.2)
    return False
