"""Stage score: ψ of winner and loser of every pair, each distinct (image, caption) scored once.

Input ``data``. Output: ``scores.parquet`` (pair_id, winner_score, loser_score, scorer, revision, unit) in the order of
the pairs, ``problems.json``. An ensemble is scored member by member and combined over the whole data set. Work is
kept by shard; a batch holds the same images whether or not a run was interrupted.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from qsd.data.images import PairImages
from qsd.data.problems import Problems
from qsd.data.source import open_source
from qsd.device import prepare
from qsd.files import read_table, texts, write_table
from qsd.rewards.ensemble import UNITS, combined, ensemble_revision, members_of
from qsd.rewards.requests import Requests, distinct, requests_of
from qsd.rewards.scorer import Scorer, open_reward
from qsd.rewards.scorers import ENSEMBLE
from qsd.stages.shards import sharded

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from PIL import Image

    from qsd.stages.context import StageContext

SHARD_BATCHES = 8

Origin = tuple[str, str, str]
"""Name, revision and unit of what scored."""


def run(context: StageContext) -> None:
    """Score the pairs of stage data with ``config.reward.model``.

    Raises:
        UserError: weights or images are missing, or too many scores are not finite.
    """
    import numpy as np

    config = context.config
    device = prepare(config.device, config.threads)
    members = members_of(config.reward.model, config.reward.members)
    pairs = read_table(context.inputs["data"] / "pairs.parquet")
    found = distinct(pairs)
    requests = requests_of(pairs, found)
    images = PairImages(open_source(config.data))
    size = config.reward.batch_size

    def scored_by(name: str) -> tuple[Origin, NDArray[np.float32]]:
        """Name, revision and unit of a reward model, and its scores [M]; the model is let go afterwards."""
        scorer = open_reward(name, config.reward.weights, device)

        def compute(start: int, stop: int) -> pa.Table:
            import pyarrow as pa

            batches = []
            for done, batch in _scores(scorer, images, requests, start, stop, size):
                context.report(done, len(requests), "images")
                batches.append(batch)
            return pa.table({"score": pa.array(np.concatenate(batches))})

        folder = context.state / (f"scores-{size}" if len(members) == 1 else f"scores-{size}-{name}")
        shards = sharded(folder, len(requests), SHARD_BATCHES * size, compute, context.report, "images")
        scores = np.empty(len(requests), dtype=np.float32)
        scores[requests.item] = np.concatenate([shard["score"].to_numpy() for shard in shards])
        return (scorer.name, scorer.revision, scorer.unit), scores

    origin, scores = scored_by(members[0])
    if config.reward.model == ENSEMBLE:
        others = [scored_by(name)[1] for name in members[1:]]
        scores = combined(np.stack([scores, *others]), config.reward.combine)
        origin = (ENSEMBLE, ensemble_revision(config.reward), UNITS[config.reward.combine])
    table, problems = _pair_scores(pairs, scores[found.item], origin)
    problems.check_bound(origin[0], pairs.num_rows, config.data.max_rejected_fraction)
    problems.write(context.output / "problems.json")
    write_table(context.output / "scores.parquet", table)


def _scores(
    scorer: Scorer, images: PairImages, requests: Requests, start: int, stop: int, size: int
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(requests done, scores of the batch); the next batch is decoded while this one is scored."""

    def decoded(first: int) -> list[Image.Image]:
        return [images.image(row, side) for row, side in requests.images(first, min(first + size, stop))]

    with ThreadPoolExecutor(1) as reader:
        upcoming = reader.submit(decoded, start)
        for first in range(start, stop, size):
            batch, last = upcoming.result(), min(first + size, stop)
            if last < stop:
                upcoming = reader.submit(decoded, last)
            yield last, scorer.score(batch, requests.captions_of(first, last))


def _pair_scores(pairs: pa.Table, scores: NDArray[np.float32], origin: Origin) -> tuple[pa.Table, Problems]:
    """The table of finite scores, and the pairs that have none. ``scores`` [2N]: winners, then losers."""
    import numpy as np
    import pyarrow as pa

    winner, loser = scores.reshape(2, -1)
    finite = np.isfinite(winner) & np.isfinite(loser)
    problems = Problems()
    for pair_id in texts(pairs["pair_id"].filter(pa.array(~finite))):
        problems.add("nan_score", pair_id)
    kept = int(finite.sum())

    def constant(value: str) -> pa.Array[Any]:
        return pa.DictionaryArray.from_arrays(np.zeros(kept, dtype=np.int32), pa.array([value]))

    columns = {
        "pair_id": pairs["pair_id"].filter(pa.array(finite)).combine_chunks(),
        "winner_score": pa.array(winner[finite]),
        "loser_score": pa.array(loser[finite]),
        "scorer": constant(origin[0]),
        "revision": constant(origin[1]),
        "unit": constant(origin[2]),
    }
    return pa.table(columns), problems
