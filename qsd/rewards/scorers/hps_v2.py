"""HPS v2 (June 2023), the scorer that the QSD paper ranks by; its scores do not compare with those of v2.1."""

from qsd.rewards import hps

SCORER = hps.spec("hps_v2", "HPS_v2_compressed.pt")
