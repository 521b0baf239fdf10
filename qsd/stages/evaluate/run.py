"""Stage evaluate: every generated image scored by every reward model of ``evaluation.scorers``.

Input ``generate``. Output: ``scores.parquet`` (prompt_id, split, caption, image_index, scorer, revision, unit, score),
one row per image and scorer, scorers in the order of the configuration; ``problems.json``.
With ``evaluation.embedder`` also ``embeddings.parquet`` and a last scorer, ``diversity``. Where prompts have
categories, also ``categories.json``, as stage generate wrote it.
As in stage score, each image is decoded once for all reward models that fit into memory together, by threads ahead of
the model (``reward.workers``), and scores are kept shard by shard. The forward pass is in fp32.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from qsd.config.schema import ExperimentConfig
from qsd.data.problems import Problems
from qsd.device import prepare
from qsd.errors import UserError
from qsd.evaluation.categories import copy_categories
from qsd.evaluation.embedding_measures import DIVERSITY, UNIT
from qsd.evaluation.embeddings import Embeddings, write_embeddings
from qsd.files import write_table
from qsd.generation.images import GeneratedImageSource
from qsd.rewards.requests import requests_in_order
from qsd.runtime import StageContext
from qsd.scoring.compute import ScoringJob, ensure_scores
from qsd.scoring.scorer_runs import EmbedderRun, ScorerRun, column_of
from qsd.stages.evaluate.spec import measures_revision

MAX_NON_FINITE = 0.02
"""Share of scores of one scorer that may be infinite or not a number; above it the stage fails."""


def run(context: StageContext) -> None:
    """Score the images of stage generate.

    Raises:
        UserError: no images, missing weights, or too many scores that are not finite.
    """
    config = context.config
    device = prepare(config.device, config.threads)
    # The judge is always computed in fp32, whatever precision the scores that select pairs have.
    images = GeneratedImageSource(context.inputs["generate"])
    requests = requests_in_order(images.about["caption"])
    work = ScoringJob(images, requests, context.state / "scores", device, config.reward.workers)
    columns = [_column(name, config) for name in config.evaluation.scorers]
    embedder = config.evaluation.embedder
    embedding = [] if embedder is None else [EmbedderRun(**vars(_column(embedder, config)))]
    scores = ensure_scores(work, [*columns, *embedding], context.report)
    tables = [
        _rows(images.about, (column.name, column.revision, column.unit), of_column)
        for column, of_column in zip(columns, scores, strict=False)
    ]
    if embedder is not None:
        embedded = Embeddings(images.about, scores[-1])
        write_embeddings(context.output, embedded)
        measure = (DIVERSITY, measures_revision(embedder, config.reward.weights), UNIT)
        tables.append(_rows(images.about, measure, embedded.diversity()))
    copy_categories(context.inputs["generate"], context.output)
    problems = Problems()
    for table in tables:
        _check(table, problems)
    problems.write(context.output / "problems.json")
    joined = pa.concat_tables(tables)
    # Scores that are not finite are listed in problems.json; the analysis leaves their images out of every cell.
    joined = joined.filter(pc.is_finite(joined["score"])).unify_dictionaries()
    write_table(context.output / "scores.parquet", joined)


def _column(name: str, config: ExperimentConfig) -> ScorerRun:
    return replace(column_of(name, config.reward), precision="fp32", batch_size=config.evaluation.batch_size)


def _rows(about: pa.Table, scorer: tuple[str, str, str], scores: NDArray[np.float32]) -> pa.Table:
    """All rows of one scorer (name, revision, unit), non-finite scores included."""

    def constant(value: str) -> Any:
        return pa.DictionaryArray.from_arrays(np.zeros(len(scores), dtype=np.int32), pa.array([value]))

    name, revision, unit = scorer
    table: dict[str, Any] = {
        "prompt_id": about["prompt_id"].combine_chunks(),
        "split": about["split"].combine_chunks().dictionary_encode(),
        "caption": about["caption"].combine_chunks(),
        "image_index": about["image_index"].combine_chunks(),
        "scorer": constant(name),
        "revision": constant(revision),
        "unit": constant(unit),
        "score": scores,
    }
    return pa.table(table)


def _check(table: pa.Table, problems: Problems) -> None:
    """Count the non-finite scores of one scorer; ids are ``scorer/prompt_id/image_index``."""
    bad = table.filter(pc.invert(pc.is_finite(table["score"]))).to_pylist()
    for row in bad:
        problems.add("non_finite_score", f"{row['scorer']}/{row['prompt_id']}/{row['image_index']}")
    if len(bad) > MAX_NON_FINITE * table.num_rows:
        first = bad[0]
        raise UserError(
            f"scorer {first['scorer']}: {len(bad)} of {table.num_rows} scores are not finite (at most "
            f"{100 * MAX_NON_FINITE:g} % may be), the first for prompt {first['prompt_id']}"
        )
