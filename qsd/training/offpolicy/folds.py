"""Cross-fitting: five parts of the pairs, of which a training may leave one out and judge it afterwards.

The fold of a pair is a hash of its id alone. So it is the same in every cell, whatever the selection, the filter of the
data, the labels or the seed, and five trainings that leave out one fold each judge every pair once, by a model that was
not trained on it. The folds are equal up to chance: each has a fifth of N pairs, give or take √(0.16 N).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

FOLDS = 5
MOST_PAIRS = 1024
"""The most that are judged. With 10 % of flips among them, the area has a standard error of about 0.03."""
_SEED = 0
_PURPOSE = "fold"


def folds_of(pair_ids: Sequence[str]) -> NDArray[np.int64]:
    """[N] in 0 … ``FOLDS`` - 1."""
    import numpy as np

    from qsd.draws import uniforms  # here, because planning imports this module

    return np.floor(FOLDS * uniforms(pair_ids, _SEED, _PURPOSE)).astype(np.int64)


def trained_share(held_out: int | None) -> float:
    """The share of the selected pairs that is trained on, up to chance."""
    return 1.0 if held_out is None else 1 - 1 / FOLDS


def judged_count(selected: float, held_out: int | None) -> float:
    """How many of the selected pairs flipped labels are searched in, up to chance."""
    return min(MOST_PAIRS, selected if held_out is None else selected / FOLDS)
