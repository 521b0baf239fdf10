"""What surrounds a run: closed and narrow output, a closed terminal, odd signals, full and read-only disks.

Each is one line with the remedy, and the rest goes on.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from ablations.planning.plan import Plan
from ablations.running.signal_names import signal_name
from ablations.running.workers import Workers
from ablations.store.artefacts import Store
from ablations.store.attempts import latest, outcome
from ablations.store.states import states
from qsd.errors import UserError
from qsd.surroundings import explained
from tests.ablations.conftest import SMALL, Planner
from tests.ablations.fake_stages import wait_until
from tests.ablations.local_run import ENV, command, events, run_plan

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
    state_of = states(store, plan.nodes)
    assert state_of.pop(key) == "failed"
    assert sorted(set(state_of.values())) == ["blocked", "done"], "the other trainings are done"


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
    assert set(states(store, plan.nodes).values()) == {"done"}, process.stderr
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


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENAMETOOLONG, "a: File name too long; the name of a file is made of it: choose a shorter one"),
        (errno.EEXIST, "a: File exists; something else is in the place of a file or folder"),
        (errno.EMFILE, "a: Too many open files; this user may not open more at once: raise the limit (ulimit -n)"),
        (errno.EAGAIN, "a: Resource temporarily unavailable; this user may not have more processes"),
        (errno.ENOMEM, "a: Cannot allocate memory; this machine has no memory left"),
    ],
)
def test_what_a_limit_means(number: int, text: str) -> None:
    assert (explained(OSError(number, os.strerror(number), "a")) or "").startswith(text)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_disk_without_hard_links_is_named_before_anything_runs(
    number: int, plan_of: Planner, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number), source, None, target)

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(UserError, match=r"^runs/launchers: this disk has no hard links \(.*choose a folder on another"):
        run_plan(plan_of(SMALL), store)
    assert not store.claims.folder.exists()


def test_a_log_takes_every_character_whatever_the_console_takes(tmp_path: Path) -> None:
    prints = "import sys; from pathlib import Path; from ablations.running.log_file import log_to; "
    prints += r"log_to(Path(sys.argv[1])); print('\u2020 a\xb1b \udcff')"
    environment = {**os.environ, **ENV, "PYTHONIOENCODING": "ascii:strict"}
    command_line = [sys.executable, "-c", prints, str(tmp_path / "log.txt")]
    assert subprocess.run(command_line, env=environment, capture_output=True, text=True, check=True).stderr == ""
    assert (tmp_path / "log.txt").read_text(encoding="utf-8") == "\u2020 a\xb1b \\udcff\n"


@pytest.mark.slow
def test_temporary_files_that_are_cleaned_up_end_a_launch_in_one_line(
    plan_of: Planner, world: Path, fake_log: Path, tmp_path: Path
) -> None:
    """The socket of the process that starts attempts is such a file."""
    plan_of(LONG)
    temporary = tmp_path / "t"
    temporary.mkdir()
    environment = {**os.environ, **ENV, "FAKE_STEP_S": "0.02", "TMPDIR": str(temporary)}
    output = subprocess.PIPE
    process = subprocess.Popen(command(jobs=1), cwd=world, env=environment, stdout=output, stderr=output, text=True)
    in_training(fake_log)
    for folder in temporary.glob("pymp-*"):
        shutil.rmtree(folder)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "was deleted while the launch ran; the same command continues it" in errors
    assert "Traceback" not in errors


def test_a_process_that_starts_attempts_and_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError("AF_UNIX path too long")

    monkeypatch.setattr("multiprocessing.forkserver.ensure_running", refuse)
    with pytest.raises(UserError, match=r"cannot be started: AF_UNIX path too long; set TMPDIR to a folder"):
        Workers((), 1)
