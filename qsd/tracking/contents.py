"""What W&B shows of one training seed of one cell, read from ``cells.json`` and artefacts; wandb is not needed here."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qsd.config.load import nested
from qsd.run_store import RECORD, RunStore
from qsd.tracking.curves import curves
from qsd.training.metrics import FILE as METRICS

if TYPE_CHECKING:
    from pathlib import Path

_TAG_LENGTH = 64
_ID_LENGTH = 128
_NAME_LENGTH = 128
"""W&B refuses a run with a longer name or group."""
_DIVERGED = "diverged"
"""State of a cell in ``cells.json``, and the tag of its run."""


@dataclass(frozen=True)
class TrackedRun:
    """One W&B run.

    Attributes:
        run_id: the same for the same cell and seed in every attempt.
        config: the entry of ``cells.json``, nested, so that no key has a dot.
        training: folder of the training, None while it has written nothing; of one that diverged, what it wrote
            before.
        attempts: folders of the training's attempts, oldest first.
        live: the training may still go on.
        scores: the evaluation of this cell, None while it is not finished.
        base_scores: the evaluation of the base model, None for the base model itself and while it is not finished.
        gallery: the sweep's gallery picture, for runs with scores.
        state: digests of all of the above: equal states have equal content.
    """

    run_id: str
    name: str
    group: str
    job_type: str
    tags: list[str]
    config: dict[str, Any]
    training: Path | None
    attempts: list[Path]
    live: bool
    scores: Path | None
    base_scores: Path | None
    gallery: Path | None
    state: dict[str, Any]

    def history(self) -> list[dict[str, float]]:
        """The training's curves (``qsd.tracking.curves``); empty without a training."""
        return curves(self.training, self.attempts, self.live) if self.training else []

    def final(self) -> dict[str, float]:
        """Mean score per split and scorer, and its difference to the base model, in the scorer's unit."""
        if self.scores is None:
            return {}
        means = _means(self.scores)
        base = _means(self.base_scores) if self.base_scores else {}
        summary: dict[str, float] = {}
        for key, mean in means.items():
            summary[f"scores/{key}/mean"] = mean
            if key in base:
                summary[f"scores/{key}/difference_to_base"] = mean - base[key]
        return summary


def tracked_runs(runs: Path, sweep_folder: Path, live: bool) -> list[TrackedRun]:
    """The W&B runs of a sweep that have something to show.

    Args:
        runs: the store.
        sweep_folder: holds ``cells.json``.
        live: show trainings that are still running, too. Those that diverged are shown always.
    """
    content = json.loads((sweep_folder / "cells.json").read_text(encoding="utf-8"))
    base = next((cell for cell in content["cells"] if cell["role"] == "base"), None)
    store = RunStore(runs)
    base_folder = store.finished("evaluate", base["stages"].get("evaluate")) if base else None
    tracked = [_tracked(store, sweep_folder, content, cell, base_folder, live) for cell in content["cells"]]
    return [run for run in tracked if run.training is not None or run.scores is not None]


def _tracked(
    store: RunStore, sweep_folder: Path, content: dict[str, Any], cell: dict[str, Any], base: Path | None, live: bool
) -> TrackedRun:
    train_key = cell["stages"].get("train")
    train, evaluate = store.finished("train", train_key), store.finished("evaluate", cell["stages"].get("evaluate"))
    if cell["role"] == "base" or evaluate is None:
        base = None
    training, going_on = train, False
    trained: Any = _record_digest(train)
    diverged = cell.get("state") == _DIVERGED
    # A training under way, or one that diverged and will never be sealed, is shown from its partial folder.
    if (live or diverged) and train is None and train_key is not None:
        growing = store.partial("train", train_key) / METRICS
        if growing.is_file() and growing.stat().st_size:
            training, going_on, trained = growing.parent, not diverged, growing.stat().st_size
    gallery = sweep_folder / "gallery.png"
    shown = gallery if evaluate is not None and gallery.is_file() else None
    seed = "base" if cell["seed"] is None else f"s{cell['seed']}"
    return TrackedRun(
        run_id=re.sub(r"[^A-Za-z0-9_-]", "-", f"{content['sweep']}-{cell['cell_id']}-{seed}")[-_ID_LENGTH:],
        name=_shortened(cell["name"] if cell["seed"] is None else f"{cell['name']} seed {cell['seed']}"),
        group=_shortened(content["sweep"]),
        job_type=cell["role"],
        tags=list(
            dict.fromkeys(
                [
                    *(f"{key}={value}"[:_TAG_LENGTH] for key, value in cell["axes"].items()),
                    *([_DIVERGED] if diverged else []),
                ]
            )
        ),
        config={
            **{key: content[key] for key in ("sweep", "experiment", "git_commit")},
            **{key: nested(value) if isinstance(value, dict) else value for key, value in cell.items()},
        },
        training=training,
        attempts=store.attempt_folders("train", train_key) if train_key is not None else [],
        live=going_on,
        scores=evaluate / "scores.parquet" if evaluate else None,
        base_scores=base / "scores.parquet" if base else None,
        gallery=shown,
        state={
            "cell": hashlib.sha256(json.dumps(cell, sort_keys=True).encode()).hexdigest(),
            "train": trained,
            "evaluate": _record_digest(evaluate),
            "base": _record_digest(base),
            "gallery": hashlib.sha256(shown.read_bytes()).hexdigest() if shown else None,
        },
    )


def _shortened(name: str) -> str:
    """A name that W&B takes; those that are cut end with a digest, so that different ones stay different."""
    if len(name) <= _NAME_LENGTH:
        return name
    mark = f"~{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return name[: _NAME_LENGTH - len(mark)] + mark


def _record_digest(folder: Path | None) -> str | None:
    """Digest of a finished stage's record, which holds the digests of its files."""
    return hashlib.sha256((folder / RECORD).read_bytes()).hexdigest() if folder else None


def _means(path: Path) -> dict[str, float]:
    """``split/scorer`` -> mean score, in the order of split and scorer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table: Any = pq.ParquetFile(path).read(columns=["split", "scorer", "score"])
    # Sums of float32 would lose digits over thousands of images.
    table = table.set_column(2, "score", table["score"].cast(pa.float64()))
    means = table.group_by(["split", "scorer"]).aggregate([("score", "mean")]).to_pylist()
    return {f"{row['split']}/{row['scorer']}": row["score_mean"] for row in sorted(means, key=_split_and_scorer)}


def _split_and_scorer(row: dict[str, Any]) -> tuple[str, str]:
    return row["split"], row["scorer"]
