"""An ensemble: the mean over several reward models of their scores relative to the data set.

Reward models have different units, so each one's scores are first made comparable over all distinct (image, caption) of
the data set: as z-scores, or as percentile ranks. An ensemble's score is therefore no function of one image: with other
pairs around it, it is another number. So it ranks pairs (``reward.model: ensemble`` with ``reward.members``), where the
data set is what is ranked, and is refused in ``evaluation.scorers``, where every cell's mean would be the same. On
prompts instead of pairs its scale is fixed once, before the first step (``qsd.training.onpolicy.rewards``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.config.digest import hash_of
from qsd.errors import UserError
from qsd.quality.ranks import share_below
from qsd.rewards.revision import revision
from qsd.rewards.scorers import ENSEMBLE, REGISTRY
from qsd.source import source_digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from qsd.config.schema import RewardConfig

MAJORITY = "majority_vote"
UNITS = {"z_score": "mean z-score", "percentile_rank": "mean percentile rank", MAJORITY: "share of votes"}


def members_of(model: str, members: list[str] | None) -> list[str]:
    """The reward models that score: ``model`` alone, or the members of an ensemble.

    Raises:
        UserError: fewer than two members, or one that must not rank pairs.
    """
    if model != ENSEMBLE:
        return [model]
    if members is None or len(members) < 2:
        raise UserError("reward.model ensemble needs reward.members, a list of at least two reward models")
    for name in members:
        if name == ENSEMBLE or not REGISTRY.get(name).selects:
            kind = "an ensemble itself" if name == ENSEMBLE else "an independent judge, which must never rank pairs"
            raise UserError(f"reward.members has {name!r}, which is {kind}; take it out")
    return members


def ensemble_revision(reward: RewardConfig) -> str:
    """12 hex digits made of the members' revisions, of how they are combined and of the code that does it."""
    names = members_of(reward.model, reward.members)
    revisions = {name: revision(name, reward.weights) for name in names}
    return hash_of({"members": revisions, "combine": reward.combine, "source": source_digest(__name__)})[:12]


def combined(scores: NDArray[np.float32], how: str) -> NDArray[np.float32]:
    """Mean over the members of their scores relative to the data set.

    Args:
        scores: of K members for M distinct (image, caption) [K, M]; entries may be no number.
        how: ``z_score``: (ψ - mean) / population std of the member's finite scores, 0 for a member whose scores are all
            equal; or ``percentile_rank``: (average rank - 1/2) / M among them.

    Returns:
        Scores [M], float32; no number where a member has none.
    """
    import numpy as np

    total = np.zeros(scores.shape[1], dtype=np.float64)
    for member in scores.astype(np.float64):
        finite = np.isfinite(member)
        relative = np.full(len(member), np.nan)
        relative[finite] = _relative(member[finite], how)
        total += relative
    mean: NDArray[np.float32] = (total / len(scores)).astype(np.float32)
    return mean


def votes(winner: NDArray[np.float32], loser: NDArray[np.float32]) -> NDArray[np.float32]:
    """The share of members that score the winner higher than the loser, equal scores counting half.

    Args:
        winner: of K members for N pairs [K, N]; entries may be no number.
        loser: likewise.

    Returns:
        Shares [N], float32 in [0, 1], the loser's being the rest; no number where a member has none.
    """
    import numpy as np

    share: NDArray[np.float32] = ((np.sign(winner - loser) + 1) / 2).mean(axis=0).astype(np.float32)
    return share


def _relative(scores: NDArray[np.float64], how: str) -> NDArray[np.float64]:
    import numpy as np

    if how == "percentile_rank":
        return share_below(scores)
    if len(scores) == 0 or scores.min() == scores.max():
        return np.zeros(len(scores))
    z: NDArray[np.float64] = (scores - scores.mean()) / scores.std()
    return z
