"""Cursors: how much of each W&B run was sent, in one small file per run in the same folder as wandb's own folders."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from qsd.files import write_json

if TYPE_CHECKING:
    from pathlib import Path

    from ablations.tracking.tracked import TrackedRun


CONTENT = 4
"""Raised when what runs show has changed, so that all runs are sent again. 4: names of intervals, the brief table."""


@dataclass(frozen=True)
class Cursor:
    """What was sent of a run to W&B, or written for it.

    Attributes:
        mode: ``offline`` or ``online``.
        last_step: ``global_step`` of the last row that was sent.
        state: ``TrackedRun.state`` when it was sent.
        seconds: ``Times.own`` when it was sent.
        uploaded: offline, where this state was uploaded to (``ablations.tracking.upload``); empty if nowhere.
    """

    mode: str
    last_step: int
    state: dict[str, Any]
    seconds: float
    uploaded: str = ""

    def shows(self, run: TrackedRun, mode: str) -> bool:
        """Whether everything in ``run`` has been sent.

        A shorter time is no news: records of earlier attempts may have been deleted since (``ablate gc``).
        """
        return (self.mode, self.state) == (mode, run.state) and run.times.own <= self.seconds

    def with_upload(self, place: str) -> Cursor:
        """The same, uploaded to ``place``."""
        return replace(self, uploaded=place)


def read_cursor(folder: Path, run_id: str) -> Cursor | None:
    """The cursor of a run, or None if the whole run must be sent.

    That is the case if it was never sent, if it was sent with an older ``CONTENT``, or if the file is damaged.
    """
    try:
        content = json.loads((folder / f"{run_id}.json").read_text(encoding="utf-8"))
        if content["content"] != CONTENT:
            return None
        return Cursor(content["mode"], content["last_step"], content["state"], content["seconds"], content["uploaded"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_cursor(folder: Path, run_id: str, cursor: Cursor) -> None:
    """Write a cursor; call it only after W&B has received what it states."""
    content = {
        "content": CONTENT,
        "mode": cursor.mode,
        "last_step": cursor.last_step,
        "state": cursor.state,
        "seconds": cursor.seconds,
        "uploaded": cursor.uploaded,
    }
    write_json(folder / f"{run_id}.json", content)
