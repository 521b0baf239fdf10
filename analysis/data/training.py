"""What the trainings of a sweep left: what each cell was trained on and for how long, and ``curves.json``.

Read from ``summary.json`` of stages select and train, and from ``metrics.jsonl`` and ``validation.jsonl`` of train.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.data.sweep import DIVERGED, artefact

if TYPE_CHECKING:
    from pathlib import Path

    from analysis.data.sweep import Replicate, SweepFolder

CURVES = "curves.json"
MOST_POINTS = 200
"""Rows of a log that a curve keeps at most."""
_LOGS = {"train": ("metrics.jsonl", "step"), "validation": ("validation.jsonl", "steps")}
"""Group of columns -> file, and the column that counts updates: a row of the first is measured before its update."""
_NO_CURVE = ("pairs", "prompts")
ON_POLICY = ("method", "reward", "prompts_seen", "reward_calls", "network_passes", "network_passes_trained")
"""What only the summary of an on-policy training has."""
_DIGITS = 6


@dataclass(frozen=True)
class Trained:
    """One cell. Every tuple holds the different values among its training seeds, ascending; empty: not known.

    Attributes:
        pairs: pairs kept.
        of: pairs that could have been kept.
        prompts: different captions of the kept pairs.
        images: different images of the kept pairs.
        contradicted: share of the kept pairs whose loser has the higher score, in [0, 1].
        styles: style and its share of the kept pairs in [0, 1], mean over seeds; empty where captions name none.
        budget: ``steps`` or ``epochs``: what was equal for all cells.
        steps: optimiser steps.
        epochs: uses of a pair, pairs seen / pairs trained on.
        method: of an on-policy cell; empty for one that was trained on pairs.
        reward: that an on-policy cell was trained on.
        prompts_seen: prompts that it sampled, a prompt counted once for every visit.
        reward_calls: images that its reward model scored.
        network_passes: images that went through the network without gradients.
        network_passes_trained: with gradients.
        used: share of its pairs, or trajectories, that its last steps were trained on, in [0, 1].
    """

    pairs: tuple[int, ...] = ()
    of: tuple[int, ...] = ()
    prompts: tuple[int, ...] = ()
    images: tuple[int, ...] = ()
    contradicted: tuple[float, ...] = ()
    styles: tuple[tuple[str, float], ...] = ()
    budget: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()
    epochs: tuple[float, ...] = ()
    method: tuple[str, ...] = ()
    reward: tuple[str, ...] = ()
    prompts_seen: tuple[int, ...] = ()
    reward_calls: tuple[int, ...] = ()
    network_passes: tuple[int, ...] = ()
    network_passes_trained: tuple[int, ...] = ()
    used: tuple[float, ...] = ()

    @property
    def on_policy(self) -> bool:
        """Whether the cell was trained on its own samples."""
        return bool(self.method)


def trained(runs: Path, replicates: list[Replicate]) -> Trained:
    """What the finished selections and trainings of a cell's replicates report."""
    selections, trainings = (_summaries(runs, stage, replicates) for stage in ("select", "train"))
    styles: dict[str, list[float]] = {}
    for summary in selections:
        for style, counts in summary.get("styles", {}).items():
            styles.setdefault(style, []).append(counts["kept"] / summary["kept"])
    return Trained(
        pairs=_different_values(selections, "kept"),
        of=_different_values(selections, "of"),
        prompts=_different_values(selections, "unique_captions"),
        images=_different_values(selections, "unique_images"),
        contradicted=_different_values(selections, "contradicted"),
        styles=tuple((style, sum(shares) / len(shares)) for style, shares in sorted(styles.items())),
        budget=_different_values(trainings, "budget"),
        steps=_different_values(trainings, "steps"),
        epochs=_different_values(trainings, "epochs"),
        **{name: _different_values(trainings, name) for name in ON_POLICY},
        used=_different_values([summary.get("mean_of_last_steps", {}) for summary in trainings], "used"),
    )


def _summaries(runs: Path, stage: str, replicates: list[Replicate]) -> list[dict[str, Any]]:
    keys = dict.fromkeys(replicate.stages.get(stage) for replicate in replicates)
    folders = (artefact(runs, stage, key) for key in keys)
    paths = (folder / "summary.json" for folder in folders if folder is not None)
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


def _different_values(summaries: list[dict[str, Any]], name: str) -> tuple[Any, ...]:
    return tuple(sorted({summary[name] for summary in summaries if name in summary}))


def curves_json(runs: Path, sweep: SweepFolder) -> str | None:
    """``curves.json``: the logs of every finished or diverged training, thinned; None where there is none.

    ``cells`` lists each cell and seed with the key of its training, ``curves`` holds each training once: key ->
    ``train`` and ``validation`` -> column -> values, None where a row has no number. ``step`` is the number of updates
    made before. Values have six significant digits; rows are kept as they are, at most ``MOST_POINTS`` of each log, the
    first and the last among them.
    """
    cells: list[dict[str, Any]] = []
    curves: dict[str, Any] = {}
    for name in sweep.cell_names():
        for replicate in sweep.of_cell(name):
            key = replicate.stages.get("train")
            folder = _logs_of(runs, replicate)
            if key is None or folder is None:
                continue
            if key not in curves:
                curves[key] = {group: _columns(folder / file, axis) for group, (file, axis) in _LOGS.items()}
            cells.append({"cell": name, "seed": replicate.seed, "state": replicate.state, "training": key})
    if not cells:
        return None
    content = {"cells": cells, "curves": curves}
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def _logs_of(runs: Path, replicate: Replicate) -> Path | None:
    """Folder with the logs of a training; one that diverged is never sealed, so it stays among the partial ones."""
    key = replicate.stages.get("train")
    folder = artefact(runs, "train", key)
    if folder is None and key is not None and replicate.state == DIVERGED:
        partial = runs / "partial" / "train" / key
        folder = partial if partial.is_dir() else None
    return folder


def _columns(path: Path, axis: str) -> dict[str, list[float | int | None]]:
    """Column -> values of the thinned rows of a log, ``step`` first; empty without such a file."""
    rows = thinned(_read_lines(path))
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in (axis, *_NO_CURVE)]
    columns = {"step": [row[axis] for row in rows]} if rows else {}
    return columns | {name: [_rounded(row.get(name)) for row in rows] for name in names}


def thinned(rows: list[dict[str, Any]], most: int = MOST_POINTS) -> list[dict[str, Any]]:
    """At most ``most`` (two or more) of the rows, evenly spaced, with the first and the last."""
    if len(rows) <= most:
        return rows
    return [rows[round(number * (len(rows) - 1) / (most - 1))] for number in range(most)]


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        # What follows the last line break is a row that a kill cut short.
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return value
