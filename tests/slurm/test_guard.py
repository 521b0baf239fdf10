"""The daemons of the tests' SLURM do not outlive a test run that is interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.slurm.guard import processes_of
from tests.slurm.one_node import install
from tests.slurm.watch import wait_for

pytestmark = pytest.mark.slow


def names(folder: Path) -> set[str]:
    """Names of the processes of a SLURM."""
    running = set[str]()
    for pid in processes_of(folder):
        try:
            running.add(Path(f"/proc/{pid}/comm").read_text().strip())
        except OSError:
            continue
    return running


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_daemon_and_no_job_outlives_the_test_process(number: signal.Signals) -> None:
    reason = install()
    if reason:
        pytest.skip(f"waits for a SLURM on this machine: {reason}")
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # short: sockets have short names
    command = [sys.executable, "-m", "tests.slurm.hold", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        try:
            assert any(line == "up\n" for line in parent.stdout), "the daemons came up"
            wait_for(lambda: "sleep" in names(folder), "the job to run", scene=False)
            assert {"slurmctld", "slurmd", "munged"} <= names(folder)
            parent.send_signal(number)
            parent.wait(timeout=120)
        finally:
            parent.kill()
    wait_for(lambda: not folder.exists(), "the guard to have cleaned up", scene=False)
    assert not names(folder)
