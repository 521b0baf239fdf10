"""What W&B shows of one training seed of one cell, read from a sweep's files; wandb is not needed here."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations.files import read_json
from ablations.tracking import run_names
from ablations.tracking.comparisons import comparison_summary, table_rows
from ablations.tracking.curves import AXIS, curves
from ablations.tracking.pictures import KEY as PICTURES
from ablations.tracking.pictures import prompt_pictures
from ablations.tracking.shareable import shareable
from ablations.tracking.times import cell_times
from ablations.tracking.tracked import TrackedRun
from qsd.config.load import nested
from qsd.run_store import RECORD, RunStore
from qsd.training.metrics import FILE as METRICS

if TYPE_CHECKING:
    from collections.abc import Container, Mapping
    from pathlib import Path

    from analysis.data.rows import Row

_DIVERGED = "diverged"
"""State of a cell in ``cells.json``, and the tag of its run."""


@dataclass(frozen=True)
class CellRun(TrackedRun):
    """The W&B run of one training seed of one cell.

    Attributes:
        training: folder of the training, None while it has written nothing; of one that diverged, what it wrote
            before.
        attempts: folders of the training's attempts, oldest first.
        live: the training may still go on.
        scores: the evaluation of this cell, None while it is not finished.
        base_scores: the evaluation of the base model that the cell is compared with, None for a base model itself and
            while it is not finished.
        images: folder of the cell's images, None for a run without scores.
        compared: what the sweep's table says of the cell (``ablations.tracking.comparisons``).
        diverged: the training diverged.
    """

    training: Path | None
    attempts: list[Path]
    live: bool
    scores: Path | None
    base_scores: Path | None
    images: Path | None
    compared: dict[str, Any]
    diverged: bool

    def history(self) -> list[dict[str, float]]:
        """The training's curves (``ablations.tracking.curves``); empty without a training."""
        return curves(self.training, self.attempts, self.live) if self.training else []

    def final(self) -> dict[str, Any]:
        """The run's summary: scores in the scorers' units, comparisons, times, and whether the training diverged.

        ``scores/<split>/<scorer>/…`` is of this seed: ``mean`` and ``difference_to_base``, the base model.
        """
        summary: dict[str, Any] = {_DIVERGED: self.diverged, **self.compared, **self.times.summary()}
        if self.scores is None:
            return summary
        means = _means(self.scores)
        base = _means(self.base_scores) if self.base_scores else {}
        for key, mean in means.items():
            summary[f"scores/{key}/mean"] = mean
            if key in base:
                summary[f"scores/{key}/difference_to_base"] = mean - base[key]
        return summary

    def log(self, handle: Any, after: int, had: Mapping[str, Any]) -> int:
        """Send rows after the step ``after``, the summary, and images that are new; the last step."""
        import wandb

        last = after
        for row in self.history():
            if row[AXIS] > after:
                last = int(row[AXIS])
                handle.log(row, step=last)
        handle.summary.update(self.final())
        if self.images is not None and self.state["images"] != had.get("images"):
            pictures = prompt_pictures(self.images)
            handle.log({PICTURES: [wandb.Image(each.image, caption=each.caption) for each in pictures]})
        return last


def cell_runs(runs: Path, sweep_folder: Path, live: bool) -> list[CellRun]:
    """The W&B runs of a sweep's cells that have something to show.

    Args:
        runs: the store.
        sweep_folder: contains ``cells.json``; ``settings.json`` and ``rows.json`` add settings and comparisons.
        live: show trainings that are still running, too. Those that diverged are shown always.
    """
    sweep = _Sweep(runs, sweep_folder, live)
    tracked = [sweep.run(cell) for cell in sweep.content["cells"]]
    return [run for run in tracked if run.training is not None or run.scores is not None or run.diverged]


class _Sweep:
    """What the runs of one sweep have in common."""

    def __init__(self, runs: Path, folder: Path, live: bool) -> None:
        self.store, self.live = RunStore(runs), live
        self.content: dict[str, Any] = json.loads((folder / "cells.json").read_text(encoding="utf-8"))
        cells = self.content["cells"]
        self.bases = {
            cell["name"]: self.store.finished("evaluate", cell["stages"].get("evaluate"))
            for cell in cells
            if cell["role"] == "base"
        }
        uses = Counter(key for cell in cells for key in cell["stages"].values())
        self.shared: Container[str] = {key for key, count in uses.items() if count > 1}
        self.rows: list[Row] = table_rows(folder)
        settings = read_json(folder / "settings.json")
        self.settings: dict[str, Any] = settings if isinstance(settings, dict) else {}

    def run(self, cell: dict[str, Any]) -> CellRun:
        store, stages = self.store, cell["stages"]
        train_key = stages.get("train")
        train, evaluate = (store.finished(stage, stages.get(stage)) for stage in ("train", "evaluate"))
        base = self.bases.get(cell["base"]) if cell["role"] != "base" and evaluate is not None else None
        training, going_on = train, False
        trained: Any = _record_digest(train)
        diverged = cell.get("state") == _DIVERGED
        # A training under way, or one that diverged and will never be sealed, is shown from its partial folder.
        if (self.live or diverged) and train is None and train_key is not None:
            growing = store.partial("train", train_key) / METRICS
            if growing.is_file() and growing.stat().st_size:
                training, going_on, trained = growing.parent, not diverged, growing.stat().st_size
        compared = (
            shareable(comparison_summary(self.rows, cell["cell_id"], cell["seed"])) if evaluate or diverged else {}
        )
        images = store.finished("generate", stages.get("generate")) if evaluate else None
        config = self._config(cell)
        tags = [*(f"{key}={value}" for key, value in cell["axes"].items()), *([_DIVERGED] if diverged else [])]
        sweep, experiment = self.content["sweep"], self.content["experiment"]
        return CellRun(
            run_id=run_names.run_id(sweep, experiment, cell["cell_id"], cell["seed"]),
            name=run_names.name(shareable(_label(cell))),
            group=run_names.name(f"{sweep}@{experiment}"),
            job_type=cell["role"],
            tags=list(dict.fromkeys(run_names.tag(shareable(tag)) for tag in tags)),
            config=config,
            times=cell_times(store, stages, self.shared),
            state={
                "config": _digest(config),
                "compared": _digest(compared),
                "train": trained,
                "evaluate": _record_digest(evaluate),
                "base": _record_digest(base),
                "images": _record_digest(images),
            },
            training=training,
            attempts=store.attempt_folders("train", train_key) if train_key is not None else [],
            live=going_on,
            scores=evaluate / "scores.parquet" if evaluate else None,
            base_scores=base / "scores.parquet" if base else None,
            images=images,
            compared=compared,
            diverged=diverged,
        )

    def _config(self, cell: dict[str, Any]) -> dict[str, Any]:
        """Nested, so that no key has a dot: the cell's settings, its place in the sweep, and the sweep."""
        settings = self.settings.get(cell["cell_id"], {})
        sweep = {
            key: self.content.get(key)
            for key in ("sweep", "experiment", "question", "git_commit", "baseline", "primary")
        }
        entry = {key: nested(value) if isinstance(value, dict) else value for key, value in cell.items()}
        config: dict[str, Any] = shareable({**nested(settings), **sweep, **entry})
        return config


def _label(cell: dict[str, Any]) -> str:
    name: str = cell["name"]
    return name if cell["seed"] is None else f"{name} seed {cell['seed']}"


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


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
