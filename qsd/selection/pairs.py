"""The pairs that stage select chooses from, as one table, with their scores where Q needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.data.only import CONFIRMED
from qsd.data.votes import WEIGHT
from qsd.errors import UserError
from qsd.files import read_table

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

_PAIR = ["pair_id", "caption", "winner_uid", "loser_uid", "annotator_id"]
_SCORE = ["pair_id", "winner_score", "loser_score", "scorer"]
_REPEATED = ["caption", "annotator_id"]


def read_pairs(data: Path, score: Path | None) -> pa.Table:
    """pair_id, caption, winner_uid, loser_uid, annotator_id; with scores also winner_score, loser_score and scorer.

    ``vote_weight`` is there too where votes weigh (``data.votes``), and ``judge_agrees`` where it is known.
    Pairs without a score are left out. ``caption``, ``annotator_id`` and ``scorer`` are dictionaries; every column is
    one chunk.

    Args:
        data: artefact of stage data.
        score: artefact of stage score, or None.

    Raises:
        UserError: a file is missing or damaged, or the two artefacts belong to different data sets.
    """
    path = data / "pairs.parquet"
    pairs = read_table(path, dictionaries=_REPEATED)
    lacking = [name for name in _PAIR if name not in pairs.schema.names]
    if lacking:
        raise UserError(f"{path}: damaged (no column '{lacking[0]}'); delete the artefact and run its stage again")
    pairs = pairs.select([name for name in (*_PAIR, WEIGHT, CONFIRMED) if name in pairs.schema.names])
    if score is not None:
        pairs = _with_scores(pairs, read_table(score / "scores.parquet", _SCORE, dictionaries=["scorer"]))
    return pairs.unify_dictionaries().combine_chunks()


def dictionary(pairs: pa.Table, name: str) -> pa.DictionaryArray[Any, Any]:
    """A dictionary column as one array."""
    column: Any = pairs[name].combine_chunks()
    array: pa.DictionaryArray[Any, Any] = column
    return array


def codes(pairs: pa.Table, name: str) -> NDArray[np.int64]:
    """Numbers [N] of the values of a dictionary column."""
    import numpy as np

    values: NDArray[np.int64] = dictionary(pairs, name).indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return values


def _with_scores(pairs: pa.Table, scores: pa.Table) -> pa.Table:
    """The pairs that have scores, with them, in the order of ``scores``."""
    import pyarrow.compute as pc

    if not scores["pair_id"].equals(pairs["pair_id"]):
        places = pc.index_in(scores["pair_id"], value_set=pairs["pair_id"])
        if places.null_count:
            unknown = scores["pair_id"].filter(pc.is_null(places))[0].as_py()
            raise UserError(
                f"input score has pair {unknown}, which input data lacks; they belong to different data sets"
            )
        pairs = pairs.take(places)
    for name in _SCORE[1:]:
        pairs = pairs.append_column(name, scores[name])
    return pairs
