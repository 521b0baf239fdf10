"""PickScore as the Diffusion-DPO code computes it: the bare cosine, about 0.2, as metrics on [0, 1] need it."""

from qsd.rewards import pickscore

SCORER = pickscore.spec("cosine")
