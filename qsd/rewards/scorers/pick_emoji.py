"""``clip_emoji`` fine-tuned on the emoji world's choices with PickScore's loss: its stand-in for PickScore."""

from qsd.rewards import delta
from qsd.rewards.scorers import ScorerSpec

SCORER = ScorerSpec(
    open=delta.open_scorer, folder="pick_emoji", unit="cosine", needs=("clip_emoji",), backbone="clip_emoji"
)
