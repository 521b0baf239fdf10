"""A second CLIP of the emoji world with another image tower: evaluates, and never selects."""

from qsd.rewards import clip
from qsd.rewards.scorers import ScorerSpec

SCORER = ScorerSpec(open=clip.open_scorer, folder="clip_emoji_b", unit="cosine", selects=False)
