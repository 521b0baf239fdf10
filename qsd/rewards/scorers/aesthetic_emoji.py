"""Aesthetic head on the embedding of ``clip_emoji``, in the shape of LAION's predictor."""

from qsd.rewards import aesthetic
from qsd.rewards.scorers import ScorerSpec

SCORER = ScorerSpec(
    open=aesthetic.open_scorer, folder="aesthetic_emoji", unit="aesthetic", needs=("clip_emoji",), backbone="clip_emoji"
)
