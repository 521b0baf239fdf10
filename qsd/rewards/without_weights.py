"""Reward models without weights: a formula on the pixels of each image. Their revision is the digest of their code."""

from __future__ import annotations

from qsd.rewards.scorers import ScorerSpec


class WithoutWeights(ScorerSpec):
    """How a reward model without weights is opened; its ``folder`` is empty."""

    @property
    def folders(self) -> tuple[str, ...]:
        """It reads none."""
        return ()
