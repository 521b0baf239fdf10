"""PickScore as its README computes it: exp(logit_scale) times the cosine, about 20."""

from qsd.rewards import pickscore

SCORER = pickscore.spec("logit")
