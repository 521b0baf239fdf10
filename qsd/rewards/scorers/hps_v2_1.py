"""HPS v2.1 (February 2024), named ``hps_v2.1``; its scores do not compare with those of v2."""

from qsd.rewards import hps

SCORER = hps.spec("hps_v2.1", "HPS_v2.1_compressed.pt")
