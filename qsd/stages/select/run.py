"""Stage select: Q of every pair, and the pairs that are trained on.

Inputs ``data`` and, when Q needs scores or labels change, ``score``. Output: ``selected.parquet`` (pair_id,
quality, weight, rank; best first; quality null when the strategy ignores it; with changed labels also flipped,
score_gap, and contradicted where ``data.judge_agrees`` says what a judge thinks), ``summary.json``, ``problems.json``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qsd.config.schema import SelectionConfig
from qsd.data import label_noise
from qsd.data.problems import Problems
from qsd.data.votes import WEIGHT
from qsd.errors import UserError
from qsd.files import read_table, texts, write_json, write_table
from qsd.quality.metrics import REGISTRY as METRICS
from qsd.runtime import StageContext
from qsd.selection.pair_quality import pair_quality, uniform_of_pairs
from qsd.selection.pairs import codes, dictionary, read_pairs
from qsd.selection.strata import strata
from qsd.selection.strategies import REGISTRY as STRATEGIES
from qsd.selection.strategies import Candidates
from qsd.selection.summary import summary


def run(context: StageContext) -> None:
    """Rank and select the pairs.

    Raises:
        UserError: the metric refuses the scores, too many Q are not finite, or nothing is selected.
    """
    config = context.config
    strategy = STRATEGIES.get(config.selection.strategy)
    scored = strategy.uses_quality and METRICS.get(config.quality.metric).uses_scores
    pairs = read_pairs(context.inputs["data"], context.inputs["score"] if scored else None)
    if label_noise.changes_labels(config.data):
        scores = read_table(context.inputs["score"] / "scores.parquet")
        pairs = label_noise.inject_flips(pairs, scores, config.data.flip_fraction, config.data.relabel)
    # A strategy that ignores quality (random) gets NaN, so that a use by mistake cannot go unnoticed.
    values = pair_quality(config, pairs) if strategy.uses_quality else np.full(pairs.num_rows, np.nan)
    problems = Problems()
    if strategy.uses_quality:
        pairs, values = _finite(pairs, values, problems)
        problems.check_bound(
            f"quality.metric '{config.quality.metric}'",
            len(values) + problems.count(),
            config.data.max_rejected_fraction,
        )
    if pairs.num_rows == 0:
        raise UserError("nothing to select from: no pair has a quality")
    pair_ids = texts(pairs["pair_id"])
    uniform = uniform_of_pairs(pair_ids, config.seed, "selection", strategy.stochastic)
    candidates = Candidates(values, pair_ids, uniform, _stratum(pairs, config.selection, strategy.uses_strata))
    chosen = strategy.function(candidates, config.selection)
    if WEIGHT in pairs.schema.names:
        chosen = replace(chosen, weights=chosen.weights * pairs[WEIGHT].take(chosen.rows).to_numpy())
    rows, weights = chosen.rows, chosen.weights
    _check(rows, weights, len(values), config.selection.strategy)
    table = {
        "pair_id": pairs["pair_id"].take(rows).combine_chunks(),
        "quality": pa.array(values[rows], from_pandas=True),
        "weight": pa.array(weights),
        "rank": pa.array(np.arange(len(rows), dtype=np.int32)),
        **({} if chosen.available_from is None else {"opens": pa.array(chosen.available_from)}),
        **label_noise.columns(pairs, rows),
    }
    write_json(context.output / "summary.json", {**summary(pairs, values, chosen), **label_noise.counts(pairs, rows)})
    problems.write(context.output / "problems.json")
    write_table(context.output / "selected.parquet", pa.table(table))
    context.report(pairs.num_rows, pairs.num_rows, "pairs")


def _stratum(pairs: pa.Table, settings: SelectionConfig, used: bool) -> NDArray[np.int64]:
    """Number of the stratum of every pair [N]; 0 for strategies that do not declare that they use strata."""
    if not used:
        return np.zeros(pairs.num_rows, dtype=np.int64)
    captions = dictionary(pairs, "caption").dictionary
    return strata(captions, settings.prompt_clusters)[codes(pairs, "caption")]


def _finite(pairs: pa.Table, values: NDArray[np.float64], problems: Problems) -> tuple[pa.Table, NDArray[np.float64]]:
    """The pairs whose Q is a number; the others are problems."""
    finite = np.isfinite(values)
    if finite.all():
        return pairs, values
    for pair_id in texts(pairs["pair_id"].filter(pa.array(~finite))):
        problems.add("nan_quality", pair_id)
    return pairs.filter(pa.array(finite)), values[finite]


def _check(rows: NDArray[np.int64], weights: NDArray[np.float64], total: int, strategy: str) -> None:
    """What every strategy owes: some rows, each once, each in range, each with a positive weight."""
    proper = len(rows) > 0 and rows.min() >= 0 and rows.max() < total and np.bincount(rows).max() == 1
    if not proper or len(weights) != len(rows) or not (np.isfinite(weights) & (weights > 0)).all():
        raise UserError(
            f"selection strategy '{strategy}' must return at least one row, distinct rows in 0 … {total - 1}, and a "
            "positive weight for each"
        )
