"""The mean of ``reward.members``, each relative to the data set (``qsd.rewards.ensemble``); evaluates nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.errors import UserError
from qsd.rewards.without_weights import WithoutWeights

if TYPE_CHECKING:
    from pathlib import Path

    from qsd.rewards.scorer import Scorer


def _refuse(_folder: Path, _device: str) -> Scorer:
    raise UserError("reward model 'ensemble' is made of its members' scores of a whole data set and opens no weights")


SCORER = WithoutWeights(_refuse, "", "relative")
