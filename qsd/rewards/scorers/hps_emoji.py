"""``clip_emoji`` fine-tuned on the emoji world's choices with HPS v2's loss: its stand-in for HPS v2."""

from qsd.rewards import delta
from qsd.rewards.scorers import ScorerSpec

SCORER = ScorerSpec(
    open=delta.open_scorer, folder="hps_emoji", unit="cosine", needs=("clip_emoji",), backbone="clip_emoji"
)
