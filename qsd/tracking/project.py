"""Show a sweep in W&B: every training seed of every cell is a run that is made from files."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qsd.tracking.contents import TrackedRun, tracked_runs
from qsd.tracking.cursor import NONE_SENT, Cursor, read_cursor, write_cursor
from qsd.tracking.curves import AXIS, GROUPS

if TYPE_CHECKING:
    from collections.abc import Iterator

Mode = Literal["offline", "online", "disabled"]
_LOG = logging.getLogger("qsd.tracking")
_LOCK_SECONDS = 60


def project_sweep(
    runs: Path, sweep_folder: Path, mode: Mode, project: str = "qsd-ablations", entity: str | None = None
) -> list[str]:
    """Send everything that W&B does not have yet; if there is nothing new, wandb is not even imported.

    Offline runs cannot be resumed, so a run with new rows is written again and its old folder is deleted: there is
    never more than one folder per run, also after a kill. Online runs are resumed and get only new rows; a row that is
    sent twice after a kill has the same step, and W&B drops it.

    Args:
        runs: the store.
        sweep_folder: contains ``cells.json``; wandb's folders and the cursors are written to its ``wandb/``.
        mode: ``disabled`` does nothing.
        project: name of the project in W&B.
        entity: W&B user or team, None for the account's own.

    Returns:
        The ids of the runs that were sent. Any failure is one line of warning and ends the call: results never wait for
        W&B.
    """
    sent: list[str] = []
    try:
        if not pending(runs, sweep_folder, mode):
            return sent
        from filelock import FileLock

        folder = sweep_folder / "wandb"
        folder.mkdir(exist_ok=True)
        with FileLock(folder / ".lock", timeout=_LOCK_SECONDS), _service(runs):
            for run in _news(runs, sweep_folder, mode):
                _send(run, sweep_folder, mode, project, entity)
                sent.append(run.run_id)
    except Exception as error:  # no error of W&B may stop the sweep
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        _LOG.warning("warning: W&B (%s) not up to date: %s; all results are in %s", mode, reason, sweep_folder)
    return sent


def pending(runs: Path, sweep_folder: Path, mode: Mode) -> list[str]:
    """Ids of the runs with rows that W&B does not have; empty when disabled. Cheap, without wandb."""
    return [run.run_id for run in _news(runs, sweep_folder, mode)]


def _news(runs: Path, sweep_folder: Path, mode: Mode) -> list[TrackedRun]:
    if mode == "disabled":
        return []
    tracked = tracked_runs(runs, sweep_folder, live=mode == "online")
    cursors = {run.run_id: read_cursor(sweep_folder / "wandb", run.run_id) for run in tracked}
    return [run for run in tracked if not ((cursor := cursors[run.run_id]) and cursor.shows(run, mode))]


def _send(run: TrackedRun, sweep_folder: Path, mode: Mode, project: str, entity: str | None) -> None:
    import wandb

    folder = sweep_folder / "wandb"
    cursor = read_cursor(folder, run.run_id)
    sent_step = cursor.last_step if cursor and mode == cursor.mode == "online" else NONE_SENT
    if mode == "offline":
        for old in folder.glob(f"offline-run-*-{run.run_id}"):
            shutil.rmtree(old)
    history = run.history()
    with wandb.init(
        project=project,
        entity=entity,
        dir=str(sweep_folder),
        id=run.run_id,
        name=run.name,
        group=run.group,
        job_type=run.job_type,
        tags=run.tags,
        config=run.config,
        allow_val_change=True,
        mode=mode,
        resume="allow" if mode == "online" else None,
        settings=_settings(),
    ) as handle:
        handle.define_metric(AXIS, hidden=True)
        for group in GROUPS:
            handle.define_metric(f"{group}/*", step_metric=AXIS)
        for row in history:
            if row[AXIS] > sent_step:
                handle.log(row, step=int(row[AXIS]))
        handle.summary.update(run.final())
        if run.gallery is not None and (cursor is None or mode == "offline" or _gallery_changed(cursor, run)):
            handle.log({"gallery": wandb.Image(str(run.gallery))})
    last_step = int(history[-1][AXIS]) if history else NONE_SENT
    write_cursor(folder, run.run_id, Cursor(mode, max(last_step, sent_step), run.state))


def _gallery_changed(cursor: Cursor, run: TrackedRun) -> bool:
    return bool(cursor.state.get("gallery") != run.state["gallery"])


def _settings() -> Any:
    """Settings for quiet runs without data of the machine: no host, command line, code, packages or console output."""
    import wandb

    return wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        save_code=False,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )


@contextmanager
def _service(runs: Path) -> Iterator[None]:
    """Run wandb's background service with its caches in ``runs/``, and stop it at the end."""
    added = {}
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        if name not in os.environ:
            added[name] = str(Path(runs).resolve() / "wandb" / name.split("_")[1].lower())
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
        if wandb := sys.modules.get("wandb"):
            wandb.teardown()
