"""Kill real processes at random instants and inspect what is left. Reusable for any command that resumes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_TOKEN = "KILL_TEST_TOKEN"


@dataclass(frozen=True)
class Kill:
    """One instant: seconds after the start, and how many processes were ended by it."""

    after_s: float
    processes: int


def run_with_kills(
    command: Sequence[str],
    instants: Sequence[float],
    cwd: Path,
    log: Path,
    env: Mapping[str, str] | None = None,
    everything: bool | Sequence[bool] = False,
    timeout_s: float = 600,
    begun: Callable[[], object] | None = None,
    finish: bool = True,
) -> list[Kill]:
    """Run ``command`` again and again, killing it by SIGKILL at each instant, then once more undisturbed.

    Args:
        command: the command.
        instants: seconds after each start, or after ``begun``.
        cwd: where it runs.
        log: gets the output of all runs.
        env: environment beside the present one.
        everything: kill every process that the command started at once; otherwise only the command itself, and its
            processes must end by themselves. One for all instants, or one for each.
        timeout_s: the longest that the undisturbed run may take.
        begun: its value changes when the command has got to work; the instants count from there, not from the start.
        finish: whether to run it to its end after the kills.

    Returns:
        the kills that hit a running command.

    Raises:
        AssertionError: a process outlived its killed parent, or the undisturbed run failed.
    """
    kills = []
    for number, instant in enumerate(instants):
        whole = everything if isinstance(everything, bool) else everything[number]
        before = begun() if begun else None
        process, token = _start(command, cwd, log, env)
        while begun and begun() == before and process.poll() is None:
            time.sleep(0.05)
        try:
            process.wait(timeout=instant)
        except subprocess.TimeoutExpired:
            family = processes_with(token)
            for pid in family if whole else [process.pid]:
                _kill(pid)
            process.wait()
            _await_end(token)
            kills.append(Kill(instant, len(family)))
    if not finish:
        return kills
    process, token = _start(command, cwd, log, env)
    code = process.wait(timeout=timeout_s)
    assert code == 0, f"exit status {code}:\n{log.read_text()[-3000:]}"
    _await_end(token)
    return kills


def random_instants(count: int, longest_s: float, seed: int) -> list[float]:
    """Instants spread over (0, longest_s]."""
    draw = random.Random(seed)
    return [draw.uniform(0, longest_s) for _ in range(count)]


def tree(folder: Path) -> dict[str, str]:
    """Relative name -> SHA-256 of every file below ``folder``."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def processes_with(token: str) -> list[int]:
    """Numbers of the processes that run and whose environment holds the token."""
    pids = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(_TOKEN) == token and is_alive(process.pid):
                pids.append(process.pid)
    return pids


def is_alive(pid: int) -> bool:
    """Whether a process of this user runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def _start(
    command: Sequence[str], cwd: Path, log: Path, env: Mapping[str, str] | None
) -> tuple[subprocess.Popen[bytes], str]:
    token = secrets.token_hex(8)
    with log.open("ab") as stream:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env={**os.environ, **(env or {}), _TOKEN: token},
        )
    return process, token


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _await_end(token: str, patience_s: float = 60.0) -> None:
    deadline = time.monotonic() + patience_s
    while left := processes_with(token):
        assert time.monotonic() < deadline, f"processes {left} outlived the command"
        time.sleep(0.1)  # looking through all processes of a machine takes a while
