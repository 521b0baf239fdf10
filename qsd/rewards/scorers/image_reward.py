"""ImageReward v1.0, about -2 to 2."""

from qsd.rewards import image_reward
from qsd.rewards.hub import HubFile
from qsd.rewards.scorers import ScorerSpec

SCORER = ScorerSpec(
    image_reward.open_scorer,
    "image_reward",
    "reward",
    preprocess=image_reward.PREPROCESS,
    files=(HubFile("THUDM/ImageReward", "ImageReward.pt"), HubFile("google-bert/bert-base-uncased", "vocab.txt")),
)
