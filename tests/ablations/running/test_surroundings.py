"""What surrounds a run: closed and narrow output, a closed terminal, odd signals, full and read-only disks.

Each is one line with the remedy, and the rest goes on.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from ablations.planning.plan import Plan
from ablations.running.signal_names import signal_name
from ablations.store.artefacts import Store
from ablations.store.attempts import latest, outcome
from ablations.store.states import states
from qsd.surroundings import explained
from tests.ablations.conftest import SMALL, Planner
from tests.ablations.fake_stages import wait_until
from tests.ablations.local_run import ENV, command, events

LONG = SMALL + "overrides: {training.steps: 200}\n"
PRINTS = r"from qsd import console; console.run(lambda: print('\u2020 a\xb1b'))"


def in_training(fake_log: Path) -> str:
    """Wait until a training has made steps; its key."""
    steps: list[str] = []

    def begun() -> bool:
        steps.extend(line for line in events(fake_log) if line.startswith("step-3 "))
        return bool(steps)

    wait_until(begun, "a training")
    return steps[0].partition("/")[2]


@pytest.mark.slow
def test_a_closed_terminal_ends_a_run_as_a_stop_does(
    plan_of: Planner, store: Store, world: Path, fake_log: Path
) -> None:
    """The kernel sends SIGHUP, and nothing can be printed any more."""
    plan_of(LONG)
    ours, theirs = pty.openpty()
    environment = {**os.environ, **ENV, "FAKE_STEP_S": "0.05"}

    def take_terminal() -> None:
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        command(jobs=1),
        cwd=world,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(theirs)
    key = in_training(fake_log)
    os.close(ours)
    assert process.wait(timeout=120) == 128 + signal.SIGHUP
    folder = latest(store, "train", key)
    ending = outcome(folder) if folder else None
    assert ending is not None, "the attempt has left its record"
    assert ending["state"] == "interrupted"


@pytest.mark.slow
def test_a_real_time_signal_costs_one_stage(plan_of: Planner, store: Store, world: Path, fake_log: Path) -> None:
    plan: Plan = plan_of(LONG.replace("200", "30"))
    environment = {**os.environ, **ENV, "FAKE_STEP_S": "0.05"}
    process = subprocess.Popen(command(jobs=1), cwd=world, env=environment, stdout=subprocess.PIPE, text=True)
    key = in_training(fake_log)
    owner = store.claims.holder(key)
    assert owner is not None
    os.kill(owner.pid, signal.SIGRTMIN + 5)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "killed by SIGRTMIN+5" in output
    found = states(store, plan.nodes)
    assert found.pop(key) == "failed"
    assert sorted(set(found.values())) == ["blocked", "done"], "the other trainings are done"


def test_every_signal_has_a_name() -> None:
    assert [signal_name(number) for number in (9, 32, signal.SIGRTMIN, signal.SIGRTMAX)] == [
        "SIGKILL",
        "signal 32",
        "SIGRTMIN",
        "SIGRTMAX",
    ]
    assert signal_name(signal.SIGRTMIN + 1) == "SIGRTMIN+1"


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "<&- >&-", "<&- >&- 2>&-", ">/dev/full"])
def test_a_run_without_standard_output_goes_on(
    closed: str, plan_of: Planner, store: Store, world: Path, fake_log: Path
) -> None:
    """Not even a library that prints when it is imported breaks what its processes say to one another."""
    plan = plan_of(SMALL)
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *command()]
    process = subprocess.run(
        shell, cwd=world, env={**os.environ, **ENV, "FAKE_CHATTY": "1"}, stderr=subprocess.PIPE, text=True, timeout=120
    )
    assert set(states(store, plan.nodes).values()) == {"done"}
    assert "Traceback" not in process.stderr
    if closed == ">/dev/full":
        assert "note: output cannot be written (No space left on device); the run continues" in process.stderr
    else:
        assert process.returncode == 0, process.stderr
    files = [path for path in store.root.rglob("*") if path.is_file()]
    assert not [path for path in files if b"welcome to this library" in path.read_bytes()]


@pytest.mark.parametrize("variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_a_console_without_a_character_shows_its_number(variables: dict[str, str]) -> None:
    environment = {**os.environ, **ENV, "PYTHONCOERCECLOCALE": "0", **variables}
    seen = subprocess.run([sys.executable, "-c", PRINTS], env=environment, capture_output=True, check=False)
    assert seen.stderr == b""
    assert seen.stdout in (b"\\u2020 a\\xb1b\n", "\u2020 a\u00b1b\n".encode())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("size=64k", "No space left on device; free space ('ablate gc' lists what can be deleted)"),
        ("ro", "Read-only file system; change its permissions, or choose another folder for results (--runs"),
    ],
    ids=["full", "read-only"],
)
def test_a_disk_that_takes_no_more(options: str, message: str, plan_of: Planner, world: Path, fake_log: Path) -> None:
    plan_of(SMALL)
    (world / "runs").mkdir()
    mount = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o {options} none {world}/runs && exec "$@"', "sh"]
    if os.geteuid() or subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("waits for root: only root can mount a disk")
    process = subprocess.run(
        [*mount, *command()], cwd=world, env={**os.environ, **ENV}, capture_output=True, text=True, timeout=120
    )
    assert process.returncode in (1, 2), process.stderr
    assert "Traceback" not in process.stderr + process.stdout
    assert message in process.stderr


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "runs/jobs/.a.json.0123456789abcdef.tmp"),
            "runs/jobs: Permission denied; change its permissions, or choose another folder for results",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; free space ('ablate gc' lists"),
        (
            IsADirectoryError(errno.EISDIR, "Is a directory", "s/.a.md.0123456789abcdef.tmp", None, "s/a.md"),
            "s/a.md: Is a directory; something else is in the place of a file or folder: move it away",
        ),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "runs/jobs/data"), "runs/jobs/data: Not a directory; so"),
        (OSError(errno.EFBIG, "File too large", "runs/a.bin"), "runs/a.bin: File too large; free space ('ablate gc'"),
        (OSError(errno.ESTALE, "Stale file handle", "runs/a"), "runs/a: Stale file handle; the disk or the server"),
        (FileNotFoundError(errno.ENOENT, "No such file"), None),
    ],
)
def test_what_an_error_of_the_disk_means(error: OSError, text: str | None) -> None:
    explanation = explained(error)
    assert (explanation or "").startswith(text) if text is not None else explanation is None
