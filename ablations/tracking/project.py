"""Show a sweep in W&B: every training seed of every cell is a run that is made from files, and so is the report."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from ablations.tracking.contents import cell_runs
from ablations.tracking.cursor import Cursor, read_cursor, write_cursor
from ablations.tracking.curves import AXIS, GROUPS
from ablations.tracking.offline_file import set_times
from ablations.tracking.report_run import JOB_TYPE as REPORT
from ablations.tracking.report_run import report_run
from ablations.tracking.tracked import NONE_SENT, TrackedRun

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Mode = Literal["offline", "online", "disabled"]
FOLDER = "wandb"
"""In a sweep's folder: wandb's folders of offline runs, and the cursors."""
_LOG = logging.getLogger("ablations.tracking")
_LOCK_SECONDS = 60
_AT_A_TIME = 20
"""Runs between two stops of wandb's service: a kill repeats no more than these."""


def project_sweep(
    runs: Path, sweep_folder: Path, mode: Mode, project: str = "qsd-ablations", entity: str | None = None
) -> list[str]:
    """Send everything that W&B does not have yet; if there is nothing new, wandb is not even imported.

    Arguments and result are those of :func:`send_news`. Any failure is one line of warning and ends the call: results
    never wait for W&B.
    """
    sent: list[str] = []
    try:
        for run_id in send_news(runs, sweep_folder, mode, project, entity):
            sent.append(run_id)  # noqa: PERF402 (a failure must not lose those before it)
    except Exception as error:  # no error of W&B may stop the sweep
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        _LOG.warning("warning: W&B (%s) not up to date: %s; all results are in %s", mode, reason, sweep_folder)
    return sent


def send_news(
    runs: Path, sweep_folder: Path, mode: Mode, project: str, entity: str | None, live: bool = False
) -> Iterator[str]:
    """Send everything that W&B does not have yet, and yield the id of each run that was sent.

    Offline runs cannot be resumed, so a run with new content is written again and its old folder is deleted: there is
    never more than one folder per run, also after a kill. Online runs are resumed and get only new rows; a row that is
    sent twice after a kill has the same step, and W&B drops it.

    Args:
        runs: the store.
        sweep_folder: contains ``cells.json``; wandb's folders and the cursors are written to its ``wandb/``.
        mode: ``disabled`` does nothing.
        project: name of the project in W&B.
        entity: W&B user or team, None for the account's own.
        live: offline, write trainings that are still running, too; online they are always shown.
    """
    if not pending(runs, sweep_folder, mode, live):
        return
    from filelock import FileLock

    folder = sweep_folder / FOLDER
    folder.mkdir(exist_ok=True)
    with FileLock(folder / ".lock", timeout=_LOCK_SECONDS):
        news = _news(runs, sweep_folder, mode, live)
        for part in (news[begin : begin + _AT_A_TIME] for begin in range(0, len(news), _AT_A_TIME)):
            with _service(folder):
                cursors = [(run, _send(run, sweep_folder, mode, project, entity)) for run in part]
            # wandb writes the last of its files when its service stops, so no file is complete before.
            for run, cursor in cursors:
                if mode == "offline":
                    (written,) = offline_folders(folder, run.run_id)
                    set_times(written / f"run-{run.run_id}.wandb", replace(run.times, own=cursor.seconds))
                write_cursor(folder, run.run_id, cursor)
                yield run.run_id


def tracked_runs(runs: Path, sweep_folder: Path, live: bool) -> list[TrackedRun]:
    """The runs of a sweep that have something to show: its cells, then its report.

    Args:
        runs: the store.
        sweep_folder: contains ``cells.json``.
        live: show trainings that are still running, too.
    """
    report = report_run(sweep_folder)
    return [*cell_runs(runs, sweep_folder, live), *([report] if report else [])]


def pending(runs: Path, sweep_folder: Path, mode: Mode, live: bool = False) -> list[str]:
    """Ids of the runs with content that W&B does not have; empty when disabled. Cheap, without wandb."""
    return [run.run_id for run in _news(runs, sweep_folder, mode, live)]


def _news(runs: Path, sweep_folder: Path, mode: Mode, live: bool) -> list[TrackedRun]:
    if mode == "disabled":
        return []
    tracked = tracked_runs(runs, sweep_folder, live or mode == "online")
    cursors = {run.run_id: read_cursor(sweep_folder / FOLDER, run.run_id) for run in tracked}
    return [run for run in tracked if not ((cursor := cursors[run.run_id]) and cursor.shows(run, mode))]


def offline_folders(folder: Path, run_id: str) -> list[Path]:
    """The folders of wandb in ``folder`` that belong to an offline run: one, or none before it was written."""
    # The id of a run may end like that of another; between them and the date there is one hyphen.
    return [path for path in folder.glob(f"offline-run-*-{run_id}") if path.name.split("-", 3)[3] == run_id]


def _send(run: TrackedRun, sweep_folder: Path, mode: Mode, project: str, entity: str | None) -> Cursor:
    """Send a run; what W&B has of it once its files are complete."""
    import wandb

    folder = sweep_folder / FOLDER
    cursor = read_cursor(folder, run.run_id)
    resumed = cursor if cursor and mode == cursor.mode == "online" else None
    seconds = max(run.times.own, cursor.seconds if cursor else 0.0)
    if mode == "offline":
        for old in offline_folders(folder, run.run_id):
            shutil.rmtree(old)
        if run.job_type == REPORT:  # the only run with artefacts: those that wandb keeps for it are of the old folder
            shutil.rmtree(folder / "data", ignore_errors=True)
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
        had = (resumed.last_step, resumed.state) if resumed else (NONE_SENT, {})
        last_step = run.log(handle, *had)
    return Cursor(mode, last_step, run.state, seconds)


def _settings() -> Any:
    """Settings for quiet runs without data of the machine: no host, command line, code, packages or console output."""
    import wandb

    return wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        save_code=False,
        host="",
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )


@contextmanager
def _service(folder: Path) -> Iterator[None]:
    """Run wandb's background service with its caches in the sweep's folder, and stop it at the end."""
    added = {}
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        if name not in os.environ:
            added[name] = str(folder.resolve() / name.split("_")[1].lower())
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
        if wandb := sys.modules.get("wandb"):
            wandb.teardown()
