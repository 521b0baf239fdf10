"""``run.json``: what the results of a sweep cost and which code made them, from the attempts and records that exist.

It is for a report, not for the tables: gc removes attempts, and a retry adds some, while the results stay the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ablations.files import numbered
from ablations.running import precompute
from ablations.store.attempts import origin, outcome
from ablations.store.attempts import seconds as seconds_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from ablations.store.artefacts import Store

FILE = "run.json"


@dataclass
class _Cost:
    """Of one stage, or of all stages of a kind; seconds are those of all processes added up."""

    attempts: int = 0
    seconds: float = 0.0
    gpu_seconds: float = 0.0

    def add(self, other: _Cost, share: float = 1.0) -> None:
        self.attempts += other.attempts
        self.seconds += other.seconds * share
        self.gpu_seconds += other.gpu_seconds * share


@dataclass
class _Origins:
    """What the attempts say about code, libraries and time; equal values count once."""

    commits: set[str] = field(default_factory=set)
    versions: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    starts: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)

    def add(self, attempt: Mapping[str, Any], ending: Mapping[str, Any]) -> None:
        git = attempt.get("git") or {}
        if git.get("commit"):
            self.commits.add(f"{git['commit']}-dirty" if git.get("dirty") else git["commit"])
        for library, version in (attempt.get("versions") or {}).items():
            self.versions[library].add(version)
        self.starts += [attempt["start"]] if attempt.get("start") else []
        self.ends += [ending["end"]] if ending.get("end") else []


def run_record(store: Store, cells: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``run.json``; equal attempts and records give an equal one.

    - "start", "end": of the first and the last attempt, UTC; None without any.
    - "stages": kind -> how many there are, how many are done, attempts, seconds, GPU-seconds and bytes of artefacts.
    - "stage_seconds", "gpu_hours": summed over all stages, which may have run at the same time; several processes of a
      stage count each.
    - "seconds_without_sharing": had every cell run its stages, and those of its base model, by itself;
      "saved_by_sharing": the share in [0, 1] that this did not take. None while a stage has no record of its time.
    - "git_commit": of the code that made the tables; "commits", "versions": of the attempts, library -> versions.

    Args:
        store: where the stages are.
        cells: the content of ``cells.json``.
    """
    trials = (cells.get("tuning") or {}).get("trials", [])
    kinds = {key: stage for cell in (*trials, *cells["cells"]) for stage, key in cell["stages"].items()}
    origins = _Origins()
    costs = {key: _cost(_attempts(store, stage, key), origins) for key, stage in kinds.items()}
    _add_precomputed(store, costs, origins)
    seconds = sum(cost.seconds for cost in costs.values())
    alone = sum(costs[key].seconds * uses for key, uses in _uses(cells["cells"], trials).items())
    timed = all(cost.seconds > 0 for cost in costs.values()) and alone > 0
    return {
        "sweep": cells["sweep"],
        "experiment": cells["experiment"],
        "start": min(origins.starts, default=None),
        "end": max(origins.ends, default=None),
        "stage_seconds": round(seconds, 3),
        "gpu_hours": round(sum(cost.gpu_seconds for cost in costs.values()) / 3600, 6),
        "seconds_without_sharing": round(alone, 3) if timed else None,
        "saved_by_sharing": round(max(0.0, 1 - seconds / alone), 6) if timed else None,
        "stages": {stage: _of_kind(store, stage, kinds, costs) for stage in dict.fromkeys(kinds.values())},
        "git_commit": cells.get("git_commit"),
        "commits": sorted(origins.commits),
        "versions": {library: sorted(versions) for library, versions in sorted(origins.versions.items())},
    }


def _of_kind(store: Store, stage: str, kinds: Mapping[str, str], costs: Mapping[str, _Cost]) -> dict[str, Any]:
    total = _Cost()
    keys = [key for key, kind in kinds.items() if kind == stage]
    for key in keys:
        total.add(costs[key])
    records = [record for key in keys if (record := store.record(stage, key)) is not None]
    return {
        "stages": len(keys),
        "done": len(records),
        "attempts": total.attempts,
        "seconds": round(total.seconds, 3),
        "gpu_seconds": round(total.gpu_seconds, 3),
        "bytes": sum(int(entry["bytes"]) for record in records for entry in record.files.values()),
    }


def _uses(cells: list[dict[str, Any]], trials: list[dict[str, Any]]) -> Counter[str]:
    """Key -> how many cells would run the stage if each ran alone, with its base model to compare it with.

    A trial of a tuning is compared with no base model.
    """
    stages_of_base = {cell["name"]: cell["stages"] for cell in cells if cell["role"] == "base"}
    trained = [cell for cell in cells if cell["role"] != "base"] or cells
    uses: Counter[str] = Counter()
    for trial in trials:
        uses.update(trial["stages"].values())
    for cell in (cell for cell in trained if cell["stages"]):
        uses.update({*cell["stages"].values(), *stages_of_base.get(cell.get("base"), {}).values()})
    return uses


def _attempts(store: Store, stage: str, key: str) -> list[Path]:
    folder = store.attempts(stage, key)
    return [folder / str(number) for number in numbered(folder)]


def _cost(attempts: Iterable[Path], origins: _Origins) -> _Cost:
    """Of one stage; what its attempts say about their origin is added to ``origins``."""
    cost = _Cost()
    for folder in attempts:
        attempt, ending = origin(folder), outcome(folder) or {}
        origins.add(attempt, ending)
        seconds = seconds_of(folder)
        processes = int(attempt.get("processes") or 1)
        on_gpu = ending.get("max_cuda_bytes") is not None
        cost.add(_Cost(1, seconds * processes, seconds * processes if on_gpu else 0.0))
    return cost


def _add_precomputed(store: Store, costs: Mapping[str, _Cost], origins: _Origins) -> None:
    """Add to every stage its part of the work that was done for several at once."""
    for path, job in precompute.job_files(store):
        members = job["meaning"]["members"]
        own = [key for key in members if key in costs]
        if own:
            shared = _cost(_attempts(store, precompute.PRECOMPUTE, path.name.partition(".")[0]), origins)
            for key in own:
                costs[key].add(_Cost(0, shared.seconds, shared.gpu_seconds), 1 / len(members))
