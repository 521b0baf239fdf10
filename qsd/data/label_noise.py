"""Labels that differ from the data set's: some flipped on purpose, or all replaced by those of the reward model.

Label noise: a pair is flipped when a number in [0, 1), hashed from its id alone, is below ``data.flip_fraction`` /
100. So the flipped pairs of a smaller fraction are among those of a larger one, and are the same for every seed,
loss and subset. A flipped pair keeps its id: its images, scores and encodings exist once for all fractions.
Everything after the scores (Q, selection, training) uses the flipped label, as it would with wrong labels in
the data set.

Relabelling: with ``data.relabel: scores`` the image that ``reward.model`` scores higher wins. With an ensemble combined
by ``majority_vote`` this is voting by several scorers, the comparison of the Adaptive-DPO paper (its Table 4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.data.only import CONFIRMED
from qsd.draws import uniforms
from qsd.files import texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from qsd.config.schema import DataConfig

CONTRADICTED = "contradicted"
"""The column of a selection that says whether a judge contradicts the label that is trained on."""
_PURPOSE = "label flip"
_SEED = 0
"""Fixed: the noise belongs to the data, not to a training."""


def flipped(pair_ids: Sequence[str], fraction: float) -> NDArray[np.bool_]:
    """[N] true for the pairs that are flipped at ``fraction`` percent."""
    return uniforms(pair_ids, _SEED, _PURPOSE) < fraction / 100


def changes_labels(data: DataConfig) -> bool:
    """Whether labels are flipped or replaced, so that ``inject_flips`` must be called."""
    return data.flip_fraction > 0 or data.relabel != "none"


def inject_flips(pairs: pa.Table, scores: pa.Table, fraction: float, relabel: str = "none") -> pa.Table:
    """The pairs with ``fraction`` percent of the labels flipped, and then optionally with the labels of the scores.

    Every column ``winner_x`` is exchanged with ``loser_x`` in rows whose label changes. New columns: ``flipped``, true
    if the label differs from the data set's; ``score_gap``, the winner's score minus the loser's under the new label,
    null if the pair has no score; and ``contradicted``, where it is known whether a judge agrees with the data set's
    label: whether it contradicts the new one.

    Args:
        pairs: rows with pair_id.
        scores: pair_id, winner_score and loser_score under the original label.
        fraction: percent, 0-100.
        relabel: ``none``, or ``scores``: the image with the higher score wins, and a pair without scores or with equal
            scores keeps its label.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    places = pc.index_in(pairs["pair_id"], value_set=scores["pair_id"])
    names = ("winner_score", "loser_score")
    winner, loser = (scores[name].cast(pa.float64()).take(places).to_numpy() for name in names)
    swapped = flipped(texts(pairs["pair_id"]), fraction)
    gaps = np.where(swapped, loser - winner, winner - loser)
    if relabel == "scores":
        swapped ^= gaps < 0
        gaps = np.where(gaps < 0, -gaps, gaps)
    mask = pa.array(swapped)
    for name in pairs.schema.names:
        other = f"loser_{name.removeprefix('winner_')}"
        if name.startswith("winner_") and other in pairs.schema.names:
            first, second = pairs[name], pairs[other]
            pairs = _put(pairs, name, pc.if_else(mask, second, first))
            pairs = _put(pairs, other, pc.if_else(mask, first, second))
    pairs = pairs.append_column("score_gap", pa.array(gaps, from_pandas=True))
    if CONFIRMED in pairs.schema.names:
        contradicted = pc.xor(pc.invert(pairs[CONFIRMED].combine_chunks()), mask)
        pairs = pairs.append_column(CONTRADICTED, contradicted)
    return pairs.append_column("flipped", mask)


def columns(pairs: pa.Table, rows: NDArray[np.int64]) -> dict[str, Any]:
    """The columns about changed labels that a selection keeps, for its ``rows``; empty if no label was changed."""
    names = [name for name in ("flipped", "score_gap", CONTRADICTED) if name in pairs.schema.names]
    return {name: pairs[name].take(rows).combine_chunks() for name in names}


def counts(pairs: pa.Table, rows: NDArray[np.int64]) -> dict[str, Any]:
    """Number of changed labels among the selected pairs and among all, for the summary; empty if none was changed."""
    import pyarrow.compute as pc

    if "flipped" not in pairs.schema.names:
        return {}
    changed = {"flipped": pairs["flipped"].take(rows), "flipped_of": pairs["flipped"]}
    return {name: int(pc.sum(column).as_py()) for name, column in changed.items()}


def _put(pairs: pa.Table, name: str, column: Any) -> pa.Table:
    return pairs.set_column(pairs.schema.get_field_index(name), name, column)
