"""Keep W&B up to date while a sweep runs: a child process that projects what is new every few seconds.

Run as ``python -m ablations.running.wandb_follower PARENT_PID RUNS SWEEP_FOLDER SETTINGS``. It projects once
more and ends when its standard input closes. W&B is a view: nothing here can fail a run, and a kill loses nothing.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.running.process_lifetime import end_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LOG = "wandb.log"
_EVERY_S = 15.0
_LAST_S = 300.0


@contextmanager
def following(runs: Path, folder: Path, values: Mapping[str, Any], busy: bool) -> Iterator[None]:
    """Project the sweep in ``folder`` to W&B in the background, and once more at the end.

    Args:
        runs: the store's root.
        folder: the sweep's folder, with its ``cells.json``.
        values: flat configuration; its ``tracking`` section says where to.
        busy: whether stages will run; if not, the background process is started only if W&B lacks something.
    """
    mode = values["tracking.wandb"]
    if mode == "disabled" or not (busy or _pending(runs, folder, mode)):
        yield
        return
    settings = tracking_settings(values)
    log = folder / LOG
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "ablations.running.wandb_follower",
                str(os.getpid()),
                str(runs),
                str(folder),
                json.dumps(settings),
            ],
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        yield
    finally:
        _end(process)
        if _pending(runs, folder, mode):
            print(f"warning: W&B is not up to date (log: {log}); results are complete without it", file=sys.stderr)


def tracking_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys "mode", "project" and "entity", of a flat configuration."""
    return {
        "mode": values["tracking.wandb"],
        "project": values["tracking.project"],
        "entity": values["tracking.entity"],
    }


def push_line(runs: Path, folder: Path, settings: Mapping[str, Any], command: str) -> str:
    """How to upload what is written offline (``ablations.tracking.upload``); empty if there is nothing to upload.

    Args:
        runs: the store's root.
        folder: the sweep's folder.
        settings: "mode", "project" and "entity", as :func:`tracking_settings`.
        command: uploads it.
    """
    if settings["mode"] != "offline":
        return ""
    from ablations.tracking.upload import push_line as line

    try:
        return line(runs, folder, settings["project"], settings["entity"], command)
    except (OSError, ValueError, KeyError):  # a view must not fail a run
        return ""


def _pending(runs: Path, folder: Path, mode: Any) -> list[str]:
    from ablations.tracking.project import pending

    return pending(runs, folder, mode)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let the last projection finish, within bounds."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(timeout=_LAST_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main(arguments: Sequence[str]) -> int:
    """The follower's loop."""
    parent, runs, folder, settings = arguments
    end_with_parent(int(parent))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from ablations.tracking.project import project_sweep

    ended = False
    while not ended:
        ended = bool(select.select([sys.stdin], [], [], _EVERY_S)[0])
        for sent in project_sweep(Path(runs), Path(folder), **json.loads(settings)):
            print(sent, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
