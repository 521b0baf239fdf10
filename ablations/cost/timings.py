"""What finished stages took: the newest records of each kind, read from the files that their attempts left."""

from __future__ import annotations

import heapq
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations.cost.workload import RecordedCounts, of_this_version, work_of
from ablations.files import numbered, read_json
from ablations.running import precompute
from ablations.store.attempts import origin, outcome
from ablations.store.attempts import seconds as seconds_of
from ablations.store.jobs import job_file
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ablations.cost.workload import Counts
    from ablations.store.artefacts import Store
    from qsd.stages.stage_spec import Work

MOST_LOOKED_AT = 500
"""Stages of a kind whose age is asked of the disk."""
MOST_READ = 24
"""Records of a kind that are read, the newest of those."""


@dataclass(frozen=True)
class Timing:
    """One finished stage.

    Attributes:
        seconds: of all its attempts together, those of several processes added up, and its part of common work done
            beforehand (``ablations.running.precompute``).
        size: bytes of its artefact.
        work: what it did.
        on_slurm: whether its last attempt was a job of SLURM.
        on_gpu: whether its last attempt used a GPU.
        starts: processes that were started for it, in all attempts.
    """

    seconds: float
    size: int
    work: Work
    on_slurm: bool
    on_gpu: bool = False
    starts: int = 1


def read_timings(store: Store, stage: str, counts: Counts) -> list[Timing]:
    """The newest records of a kind of stage."""
    folder = store.root / "attempts" / stage
    try:
        with os.scandir(folder) as entries:
            looked = [entry for _, entry in zip(range(MOST_LOOKED_AT), entries, strict=False)]
        newest = heapq.nlargest(MOST_READ, looked, key=lambda entry: entry.stat().st_mtime)
    except OSError:
        return []
    beforehand = _precompute_seconds(store)
    timings = (_timing(store, stage, entry.name, counts, beforehand) for entry in newest)
    return [timing for timing in timings if timing is not None]


def _precompute_seconds(store: Store) -> dict[str, float]:
    """Key of a stage -> seconds of common work that was done for it beforehand, shared out equally among its stages."""
    shares: dict[str, float] = {}
    for path, content in precompute.job_files(store):
        attempts = store.attempts(precompute.PRECOMPUTE, path.name.partition(".")[0])
        folders = [attempts / str(number) for number in numbered(attempts)]
        seconds = sum(map(seconds_of, folders))
        members = content["meaning"]["members"]
        for key in members:
            shares[key] = shares.get(key, 0.0) + seconds / len(members)
    return shares


def _timing(store: Store, stage: str, key: str, counts: Counts, beforehand: Mapping[str, float]) -> Timing | None:
    record: Any = read_json(store.artefact(stage, key) / "record.json")
    job: Any = read_json(job_file(store, stage, key))
    try:
        upstream = {**(job.get("inputs") or {}), stage: key}
        work = work_of(stage, job["values"], RecordedCounts(store, upstream, counts))
        size = sum(int(entry["bytes"]) for entry in record["files"].values())
    except (KeyError, TypeError, ValueError, AttributeError, UserError):  # not finished, or written by another version
        return None
    if not of_this_version(job["values"]):
        return None
    attempts = [_read(folder) for folder in _folders(store, stage, key)]
    seconds = sum(attempt.seconds for attempt in attempts) + beforehand.get(key, 0.0)
    if not attempts or seconds <= 0 or work.amount <= 0 or work.output_size <= 0:
        return None
    starts = sum(attempt.processes for attempt in attempts)
    return Timing(seconds, size, work, attempts[-1].on_slurm, attempts[-1].on_gpu, starts)


def _folders(store: Store, stage: str, key: str) -> list[Path]:
    """Of all attempts at a stage, the last one last."""
    attempts = store.attempts(stage, key)
    return [attempts / str(number) for number in numbered(attempts)]


@dataclass(frozen=True)
class _Attempt:
    """One attempt: the seconds of its processes added up, how many these were, and where they ran."""

    seconds: float
    processes: int
    on_slurm: bool
    on_gpu: bool


def _read(folder: Path) -> _Attempt:
    about, ending = origin(folder), outcome(folder)
    processes = int(about.get("processes") or 1)
    on_gpu = ending is not None and ending.get("max_cuda_bytes") is not None
    return _Attempt(seconds_of(folder) * processes, processes, about.get("slurm") is not None, on_gpu)
