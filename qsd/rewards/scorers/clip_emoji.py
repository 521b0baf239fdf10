"""CLIP trained on the emoji and their captions: the emoji world's stand-in for HPS and PickScore."""

from qsd.rewards import clip
from qsd.rewards.scorers import ScorerSpec

SCORER = ScorerSpec(open=clip.open_scorer, folder="clip_emoji", unit="cosine", backbone="clip_emoji")
