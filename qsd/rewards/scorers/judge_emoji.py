"""The emoji world's strongest CLIP: plays the simulated annotators and judges cells, and never selects."""

from qsd.rewards import clip
from qsd.rewards.scorers import ScorerSpec

SCORER = ScorerSpec(open=clip.open_scorer, folder="judge_emoji", unit="cosine", selects=False)
