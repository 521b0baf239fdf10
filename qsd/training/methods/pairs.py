"""Off-policy: every loss of ``qsd.losses`` on the selected preference pairs."""

from __future__ import annotations

from qsd.config.members import NoSettings
from qsd.training.methods import MethodSpec

METHOD = MethodSpec("qsd.training.offpolicy.method:PairsMethod", NoSettings, inputs=("select", "encode"))
