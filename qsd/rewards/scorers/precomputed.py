"""Scores that another program has computed, read from a file: for judges that are too large for this machine."""

from qsd.rewards import precomputed
from qsd.rewards.scorers import ScorerSpec

SCORER = ScorerSpec(
    open=precomputed.open_scorer,
    folder="precomputed",
    unit=precomputed.STATED,
    preprocess=precomputed.NATIVE,
    differentiable=False,
    scores_new_images=False,
)
