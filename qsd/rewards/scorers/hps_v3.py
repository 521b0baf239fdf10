"""HPS v3 (arXiv 2508.03789) in an environment of its own; experiments/judges/hps_v3 has its program."""

from qsd.rewards.external import external_spec

SCORER = external_spec("hps_v3")
