"""Any judge in a process of its own, by the files in its folder (``qsd.rewards.external``)."""

from qsd.rewards.external import external_spec

SCORER = external_spec("external")
