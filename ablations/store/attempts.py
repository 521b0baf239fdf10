"""What is kept of every attempt at a stage, in a numbered folder each: provenance, log, progress and outcome."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ablations.files import numbered, write_json
from ablations.json_shapes import anything, fields, flag, listing, mapping, number, optional, read_shaped, text, whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ablations.store.artefacts import Store

LOG, ATTEMPT, PROGRESS, EXIT = "log.txt", "attempt.json", "progress.json", "exit.json"
PROCESSES = "processes"
"""Folder with the other logs of an attempt by several processes, and with what each recorded when it ended."""
_DIVERGED = re.compile(r"training diverged")
"""How the reason of a divergence begins in records from before the field ``diverged`` was added."""
_ENDINGS = ("done", "failed", "interrupted")
_ERROR = fields(type=optional(text), message=optional(text), frames=optional(listing(text)), diverged=optional(flag))
_REACHED = fields(done=whole, total=whole, unit=text)
_ENDING = fields(
    state=lambda value: value in _ENDINGS,
    reason=optional(text),
    seconds=optional(number),
    max_rss_bytes=optional(whole),
    max_cuda_bytes=optional(whole),
    end=optional(text),
    signal=optional(text),
    progress=optional(_REACHED),
    error=optional(_ERROR),
)
_ATTEMPT = fields(
    start=optional(text),
    owner=optional(mapping(anything)),
    git=optional(fields(commit=optional(text), untracked=optional(mapping(text)))),
    versions=optional(mapping(text)),
    slurm=optional(mapping(anything)),
    snapshot=optional(text),
    adjusted=optional(mapping(anything)),
    environment=optional(mapping(text)),
    processes=optional(whole),
)
_REPORT = fields(done=whole, total=whole, unit=text, seconds=number, per_second=number)


def latest(store: Store, stage: str, key: str) -> Path | None:
    """The folder of the newest attempt at a stage, or None if it was never tried."""
    folders = store.attempt_folders(stage, key)
    return folders[-1] if folders else None


def latest_ended(store: Store, stage: str, key: str) -> Path | None:
    """The folder of the newest attempt at a stage, if that has ended with a record."""
    folder = latest(store, stage, key)
    return folder if folder is not None and outcome(folder) is not None else None


def outcome(folder: Path) -> dict[str, Any] | None:
    """How an attempt ended; None while it runs, after a kill that no other process saw, and if the file is damaged.

    {"state": done, failed or interrupted, "reason"}, and unless it was killed "seconds", "max_rss_bytes" and
    "max_cuda_bytes" (as ``ablations.running.processes.ProcessGroup`` counts them), "end", "signal" that stopped it,
    "progress" that it reached, and "error" (``ablations.running.error_record``); what does not apply is null.
    """
    content = read_shaped(folder / EXIT, _ENDING)
    return None if content is None else {"reason": None, **content}


def ended_since(store: Store, stage: str, key: str, before: Path | None) -> dict[str, Any] | None:
    """How the newest attempt at a stage ended, as :func:`outcome`; None as well if it is ``before``, an older one."""
    folder = latest(store, stage, key)
    return outcome(folder) if folder is not None and folder != before else None


def seconds(folder: Path) -> float:
    """How long an attempt ran, by its end, or by its last report if it was killed or still runs; 0.0 without either."""
    ended = (outcome(folder) or {}).get("seconds")
    return float((last_report(folder) or {}).get("seconds", 0.0) if ended is None else ended)


def origin(folder: Path) -> dict[str, Any]:
    """What an attempt wrote when it began (``attempt.json``); empty if it did not get so far, or if that is damaged."""
    return read_shaped(folder / ATTEMPT, _ATTEMPT) or {}


def last_report(folder: Path) -> dict[str, Any] | None:
    """The latest report of an attempt: {"done", "total", "unit", "seconds", "per_second"}; None before the first."""
    return read_shaped(folder / PROGRESS, _REPORT)


def diverged(ending: Mapping[str, Any]) -> bool:
    """True for the record of an attempt that failed because its training diverged.

    The attempt notes it from the exception (``ablations.running.error_record``). Records from before this field was
    added are judged by the name of the exception, or without one by the reason.
    """
    if ending["state"] != "failed":
        return False
    error = ending.get("error") or {}
    if "diverged" in error:
        return bool(error["diverged"])
    if error:  # written before the field "diverged", but with the exception
        return str(error.get("type")).endswith(".NonFiniteLossError")
    return bool(_DIVERGED.match(str(ending.get("reason") or "")))


def record_death(folder: Path, reason: str) -> None:
    """Record the end of an attempt that could not do so itself; called by the process that saw it end."""
    if outcome(folder) is None:  # else the attempt recorded its end itself, and knows more about it
        with suppress(OSError):  # a full disk: the reason is shown, and without a record the stage is tried again
            write_json(folder / EXIT, {"state": "failed", "reason": reason})


def give_up(folder: Path, reason: str) -> None:
    """Turn an interrupted attempt into a failed one, since the next one would end the same way."""
    write_json(folder / EXIT, {**(outcome(folder) or {}), "state": "failed", "reason": reason})


def new_folder(attempts: Path) -> Path:
    """Make the next numbered folder and return it; only the holder of the claim may."""
    numbers = numbered(attempts)
    folder = attempts / str(numbers[-1] + 1 if numbers else 1)
    folder.mkdir(parents=True)
    return folder
