"""Keep W&B up to date while a sweep runs: a child process that projects finished work every few seconds.

Run as ``python -m ablations.follow PARENT_PID RUNS SWEEP_FOLDER MODE``. It projects once more and ends when its
standard input closes. Only one follower per sweep is at work, whoever launched it. W&B is a view:
nothing here can fail a run.
"""

from __future__ import annotations

import hashlib
import os
import select
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.claims import Claims
from ablations.family import die_with_parent
from ablations.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LOG = "wandb.log"
_TRACKED = "tracked.json"
_EVERY_S = 15.0
_LAST_S = 300.0


def is_tracked(folder: Path, mode: str) -> bool:
    """True if W&B already shows all of the sweep as its files are now."""
    return read_json(folder / _TRACKED) == _seen(folder, mode)


def _seen(folder: Path, mode: str) -> dict[str, str]:
    names = ("cells.json", "tables.lock.json")
    return {"mode": mode, **{name: _hash(folder / name) for name in names}}


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "absent"


@contextmanager
def following(runs: Path, folder: Path, mode: str) -> Iterator[None]:
    """Project the sweep in ``folder`` to W&B in the background, and once more at the end; the mode may be disabled."""
    if mode == "disabled" or is_tracked(folder, mode):
        yield
        return
    log = folder / LOG
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "ablations.follow", str(os.getpid()), str(runs), str(folder), mode],
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        yield
    finally:
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        try:
            code = process.wait(timeout=_LAST_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if code != 0:
            print(f"warning: W&B is not up to date (log: {log}); results are complete without it", file=sys.stderr)


def main(arguments: Sequence[str]) -> int:
    """The follower's loop."""
    parent, runs, folder, mode = arguments
    die_with_parent(int(parent))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    claims = Claims(Path(runs) / "claims")
    key = f"wandb-{Path(folder).name}"
    claim = claims.take(key)
    if claim is None:
        print("another process follows this sweep")
        return 0
    try:
        from qsd.tracking.project import project_sweep

        while not select.select([sys.stdin], [], [], _EVERY_S)[0]:
            project_sweep(Path(runs), Path(folder), mode)
        seen = _seen(Path(folder), mode)
        for line in project_sweep(Path(runs), Path(folder), mode):
            print(line)
        write_json(Path(folder) / _TRACKED, seen)
    finally:
        claim.release()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
