"""Stage score: ψ of winner and loser of every pair, each distinct (image, caption) scored once.

Input ``data``. Output: ``scores.parquet`` in the order of the pairs: pair_id, winner_score, loser_score, and how they
were computed: scorer, revision, unit, precision, preprocessing and versions (JSON, by reward model); ``problems.json``;
with a precision other than fp32 also ``summary.json``, how well it orders images as fp32 does.

Scores are computed in shards (``qsd.scoring``), each image decoded once for all members of an ensemble. Where stages
share a folder, scores of other stages for the same data are read from there, and a precompute may have computed them
beforehand (:func:`precompute`). An ensemble's members are combined over the whole data set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qsd.config.digest import canonical_json
from qsd.config.schema import ExperimentConfig
from qsd.data.distinct import Distinct, distinct
from qsd.data.images import PairImages
from qsd.data.opening import open_source
from qsd.data.problems import Problems
from qsd.device import prepare
from qsd.files import read_table, texts, write_json, write_table
from qsd.rewards.ensemble import MAJORITY, UNITS, combined, ensemble_revision, members_of, votes
from qsd.rewards.requests import requests_of
from qsd.rewards.scorers import ENSEMBLE
from qsd.runtime import PrecomputeContext, StageContext
from qsd.scoring.agreement import rank_correlation
from qsd.scoring.compute import ScoringJob, compute_scores, ensure_scores
from qsd.scoring.precision import check_precision
from qsd.scoring.scorer_runs import ScorerRun, column_of, versions


def run(context: StageContext) -> None:
    """Score the pairs of stage data with ``config.reward.model``.

    Raises:
        UserError: weights or images are missing, too many scores are not finite, or no such precision on this device.
    """
    config = context.config
    columns = _columns([config])
    task = _Task.of(config, context.inputs, context.shared or context.state / "scores")
    task.check(columns)
    # The shards may be in a folder that all score stages of this data share, or in this stage's own state.
    scores = ensure_scores(task.work, columns, context.report)
    if config.reward.precision != "fp32":
        write_json(context.output / "summary.json", _agreement(task.work, columns, scores))
    table, problems = _pair_scores(task, config, columns, scores)
    problems.check_bound(config.reward.model, task.pairs.num_rows, config.data.max_rejected_fraction)
    problems.write(context.output / "problems.json")
    write_table(context.output / "scores.parquet", table)


def precompute(context: PrecomputeContext) -> None:
    """Compute a share of what the stages with ``configs`` will need, in one pass over the images for all of them.

    Raises:
        UserError: as :func:`run`.
    """
    task = _Task.of(context.configs[0], context.inputs, context.shared)
    columns = _columns(context.configs)
    task.check(columns)
    compute_scores(task.work, columns, context.report, (context.number, context.count))


def _columns(configs: Sequence[ExperimentConfig]) -> list[ScorerRun]:
    """The different columns that some stages need."""
    by_folder: dict[str, ScorerRun] = {}
    for config in configs:
        for name in members_of(config.reward.model, config.reward.members):
            # Two stages may differ in precision or batch size alone; the folder's name tells such columns apart.
            column = column_of(name, config.reward)
            by_folder.setdefault(column.folder, column)
    return list(by_folder.values())


@dataclass(frozen=True)
class _Task:
    """The pairs, the distinct (image, caption) among them, and where their scores go."""

    pairs: pa.Table
    distinct: Distinct
    work: ScoringJob

    @classmethod
    def of(cls, config: ExperimentConfig, inputs: Mapping[str, Path], root: Path) -> _Task:
        device = prepare(config.device, config.threads)
        pairs = read_table(inputs["data"] / "pairs.parquet")
        numbered = distinct(pairs)
        images = PairImages(open_source(config.data), pairs)
        return cls(
            pairs, numbered, ScoringJob(images, requests_of(pairs, numbered), root, device, config.reward.workers)
        )

    def check(self, columns: Sequence[ScorerRun]) -> None:
        for column in columns:
            check_precision(column.precision, self.work.device)

    def by_place(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores in the order of the requests -> of winners and losers [2N]."""
        of_item = np.empty_like(scores)
        of_item[self.work.requests.item] = scores
        return of_item[self.distinct.item]


def _agreement(work: ScoringJob, columns: Sequence[ScorerRun], scores: Sequence[NDArray[np.float32]]) -> dict[str, Any]:
    """How well each reward model orders images as it does in fp32; also printed."""
    by_name: dict[str, Any] = {}
    for column, of_column in zip(columns, scores, strict=True):
        correlation, size = rank_correlation(work, column, of_column)
        print(
            f"{column.name} in {column.precision}: Spearman's rank correlation with fp32 is {correlation:.6f} "
            f"over {size} images with captions",
            flush=True,
        )
        known = None if correlation != correlation else correlation
        by_name[column.name] = {"rank_correlation_to_fp32": known, "sample": size}
    return {"precision": columns[0].precision, "scorers": by_name}


def _pair_scores(
    task: _Task, config: ExperimentConfig, columns: Sequence[ScorerRun], scores: Sequence[NDArray[np.float32]]
) -> tuple[pa.Table, Problems]:
    """The table of finite scores, and the pairs that have none. ``scores`` [M] of each column."""
    reward, first = config.reward, columns[0]
    is_ensemble = reward.model == ENSEMBLE
    if is_ensemble and reward.combine == MAJORITY:  # votes are about pairs, not about single images
        by_member = np.stack([task.by_place(part).reshape(2, -1) for part in scores])
        winner = votes(by_member[:, 0], by_member[:, 1])
        loser = 1 - winner
    else:
        merged = combined(np.stack(scores), reward.combine) if is_ensemble else scores[0]
        winner, loser = task.by_place(merged).reshape(2, -1)
    about = {
        "scorer": reward.model,
        "revision": ensemble_revision(reward) if is_ensemble else first.revision,
        "unit": UNITS[reward.combine] if is_ensemble else first.unit,
        "precision": reward.precision,
        "preprocessing": canonical_json({column.name: json.loads(column.preprocessing) for column in columns}),
        "versions": versions(),
    }
    finite = np.isfinite(winner) & np.isfinite(loser)
    problems = Problems()
    for pair_id in texts(task.pairs["pair_id"].filter(pa.array(~finite))):
        problems.add("nan_score", pair_id)
    kept = int(finite.sum())

    def constant(value: str) -> pa.Array[Any]:
        return pa.DictionaryArray.from_arrays(np.zeros(kept, dtype=np.int32), pa.array([value]))

    values = {
        "pair_id": task.pairs["pair_id"].filter(pa.array(finite)).combine_chunks(),
        "winner_score": pa.array(winner[finite]),
        "loser_score": pa.array(loser[finite]),
    }
    return pa.table({**values, **{name: constant(value) for name, value in about.items()}}), problems
