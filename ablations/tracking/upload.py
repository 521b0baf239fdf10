"""Upload offline runs to W&B with ``wandb sync``, each once per content.

A run keeps its id, so a later upload of the same run takes its place. What was uploaded where is in the run's cursor.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from ablations.formatting import format_count
from ablations.tracking.cursor import read_cursor, write_cursor
from ablations.tracking.destination import place_of
from ablations.tracking.project import FOLDER, offline_folders, tracked_runs
from ablations.tracking.shareable import shareable
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_MOST_LETTERS = 300
_AT_A_TIME = 20
"""Runs per call of wandb: an interruption repeats no more than these."""


def to_upload(runs: Path, sweep_folder: Path, place: str) -> list[str]:
    """Ids of the written offline runs of a sweep whose present content was not uploaded to ``place``."""
    folder = sweep_folder / FOLDER
    cursors = {run.run_id: read_cursor(folder, run.run_id) for run in tracked_runs(runs, sweep_folder, live=True)}
    return [
        run_id
        for run_id, cursor in cursors.items()
        if cursor is not None
        and cursor.mode == "offline"
        and cursor.uploaded != place
        and offline_folders(folder, run_id)
    ]


def push_line(runs: Path, sweep_folder: Path, project: str, entity: str | None, command: str) -> str:
    """``W&B: 8 runs are written and not uploaded: 'ablate wandb push NAME' uploads them``; empty if there are none."""
    waiting = to_upload(runs, sweep_folder, place_of(project, entity))
    if not waiting:
        return ""
    counted = format_count(len(waiting), "run is", "runs are")
    return f"W&B: {counted} written and not uploaded; '{command}' uploads {'it' if len(waiting) == 1 else 'them'}"


def upload(sweep_folder: Path, run_ids: Sequence[str], project: str, entity: str | None, place: str) -> Iterator[str]:
    """Upload offline runs, and yield the id of each one that wandb reports as complete.

    Args:
        sweep_folder: contains wandb's folders and the cursors.
        run_ids: of offline runs that are written.
        project: where to, whatever the files say.
        entity: W&B user or team, None for the account's own.
        place: :func:`ablations.tracking.destination.place_of` these.

    Raises:
        UserError: wandb could not upload some; the others are uploaded and recorded.
    """
    folder = sweep_folder / FOLDER
    command = [sys.executable, "-m", "wandb", "sync", "--yes", "--include-synced", "--project", project]
    command += ["--entity", entity] if entity else []
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}  # may say offline
    for begin in range(0, len(run_ids), _AT_A_TIME):
        part = {run_id: offline_folders(folder, run_id)[0] for run_id in run_ids[begin : begin + _AT_A_TIME]}
        for run_id, path in part.items():
            _mark(path, run_id).unlink(missing_ok=True)
        done = subprocess.run(
            [*command, *(str(path.resolve()) for path in part.values())],
            cwd=sweep_folder,  # where wandb makes its folder
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        complete = [run_id for run_id, path in part.items() if _mark(path, run_id).is_file()]
        for run_id in complete:
            cursor = read_cursor(folder, run_id)
            if cursor is not None:
                write_cursor(folder, run_id, cursor.with_upload(place))
                yield run_id
        if done.returncode or len(complete) < len(part):
            failed = format_count(len(part) - len(complete), "run")
            raise UserError(f"{failed} of {sweep_folder} not uploaded to {place}: {_reason(done.stdout + done.stderr)}")


def _reason(output: str) -> str:
    """The error that wandb printed, in one line; it may follow or precede other lines."""
    lines = [" ".join(line.split()) for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(wandb: )?(ERROR|Error|panic)\b", line) and "error logs" not in line]
    text: str = shareable((errors or lines or ["wandb sync printed nothing"])[-1])
    return text[:_MOST_LETTERS]


def _mark(path: Path, run_id: str) -> Path:
    """The file that wandb leaves beside a run that is uploaded."""
    return path / f"run-{run_id}.wandb.synced"
