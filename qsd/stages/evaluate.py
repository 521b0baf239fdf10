"""Stage evaluate: every generated image scored by every reward model of ``evaluation.scorers``.

Input ``generate``. Output: ``scores.parquet`` (prompt_id, split, caption, image_index, scorer, revision, unit, score),
one row per image and scorer, scorers in the order of the configuration; ``problems.json``.
Work is kept scorer by scorer.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from qsd.data.problems import Problems
from qsd.device import prepare
from qsd.errors import UserError
from qsd.files import read_table, write_table
from qsd.generation.images import GeneratedImage, read_images
from qsd.rewards.scorer import Scorer, open_reward

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

    from qsd.stages.context import StageContext

MAX_NON_FINITE = 0.02
"""Share of scores of one scorer that may be infinite or not a number; above it the stage fails."""


def run(context: StageContext) -> None:
    """Score the images of stage generate.

    Raises:
        UserError: no images, missing weights, or too many scores that are not finite.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    config = context.config
    device = prepare(config.device, config.threads)
    names = config.evaluation.scorers
    tables: list[pa.Table] = []
    for place, name in enumerate(names):
        kept = context.state / f"{name}.parquet"
        if not kept.exists():
            scorer = open_reward(name, config.reward.weights, device)
            write_table(kept, _scores(scorer, context.inputs["generate"], config.evaluation.batch_size))
        tables.append(read_table(kept))
        context.report(place + 1, len(names), "scorers")
    problems = Problems()
    for table in tables:
        _check(table, problems)
    problems.write(context.output / "problems.json")
    joined = pa.concat_tables(tables)
    joined = joined.filter(pc.is_finite(joined["score"])).unify_dictionaries()
    write_table(context.output / "scores.parquet", joined)


def _scores(scorer: Scorer, folder: Path, batch_size: int) -> pa.Table:
    """All rows of one scorer, non-finite scores included."""
    import numpy as np
    import pyarrow as pa

    columns: dict[str, list[Any]] = {"prompt_id": [], "split": [], "caption": [], "image_index": []}
    scores = []
    for batch in _batches(read_images(folder), batch_size):
        scores.append(scorer.score([item.image for item in batch], [item.caption for item in batch]))
        for name, values in columns.items():
            values.extend(getattr(item, name) for item in batch)
    score = np.concatenate(scores).astype(np.float32)

    def constant(value: str) -> Any:
        return pa.DictionaryArray.from_arrays(np.zeros(len(score), dtype=np.int32), pa.array([value]))

    table: dict[str, Any] = {
        "prompt_id": pa.array(columns["prompt_id"], pa.string()),
        "split": pa.array(columns["split"], pa.string()).dictionary_encode(),
        "caption": pa.array(columns["caption"], pa.string()),
        "image_index": pa.array(columns["image_index"], pa.int32()),
        "scorer": constant(scorer.name),
        "revision": constant(scorer.revision),
        "unit": constant(scorer.unit),
        "score": score,
    }
    return pa.table(table)


def _batches(images: Iterator[GeneratedImage], size: int) -> Iterator[list[GeneratedImage]]:
    while batch := list(islice(images, size)):
        yield batch


def _check(table: pa.Table, problems: Problems) -> None:
    """Count the non-finite scores of one scorer; ids are ``scorer/prompt_id/image_index``."""
    import pyarrow.compute as pc

    bad = table.filter(pc.invert(pc.is_finite(table["score"]))).to_pylist()
    for row in bad:
        problems.add("non_finite_score", f"{row['scorer']}/{row['prompt_id']}/{row['image_index']}")
    if len(bad) > MAX_NON_FINITE * table.num_rows:
        first = bad[0]
        raise UserError(
            f"scorer {first['scorer']}: {len(bad)} of {table.num_rows} scores are not finite (at most "
            f"{100 * MAX_NON_FINITE:g} % may be), the first for prompt {first['prompt_id']}"
        )
