"""A process that ends the daemons of a one-node SLURM when the test run that started them is gone, however it ended.

The daemons leave their parent's session, so neither Ctrl-C nor the death of pytest or of one of its workers reaches
them. The guard holds the reading end of a pipe whose only writing end the test process has: the kernel closes it with
the last breath of that process. ``python -m tests.slurm.guard FOLDER``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_QUIET_LOOKS = 3
_POLL_S = 0.2
_LONGEST_S = 60


class Guard:
    """Watches over all processes of a SLURM that lives in ``folder``, from now until :meth:`close`."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.slurm.guard", str(folder)],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name != "SLURM_CONF"},
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in a terminal goes to all processes of a session
        )

    def close(self) -> None:
        """Have everything ended that is left, and the folder removed; wait for it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=2 * _LONGEST_S)


def processes_of(folder: Path) -> Iterator[int]:
    """Daemons whose command line names the folder, and all that runs with its slurm.conf, but not the caller."""
    named, conf = f"{folder}/".encode(), f"SLURM_CONF={folder / 'slurm.conf'}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
            if int(process.name) != os.getpid() and (named in command or conf in environment.split(b"\0")):
                yield int(process.name)


def end_all(folder: Path) -> None:
    """Kill the processes of a SLURM until several looks in a row have found none: they start others."""
    quiet, deadline = 0, time.monotonic() + _LONGEST_S
    while quiet < _QUIET_LOOKS and time.monotonic() < deadline:
        left = list(processes_of(folder))
        quiet = 0 if left else quiet + 1
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL_S)


def main(folder: Path) -> None:
    """Wait for the end of the test process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    end_all(folder)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
