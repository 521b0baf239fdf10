"""All pairs whose Q reaches a bound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsd.config.fields import meaning
from qsd.errors import UserError
from qsd.selection.order import best_first
from qsd.selection.strategies import Candidates, Chosen, Strategy


@dataclass
class Settings:
    """The bound."""

    threshold: float = meaning(0.0, "least Q to keep (strategy threshold)")


def threshold(pairs: Candidates, settings: Settings) -> Chosen:
    """The pairs with Q >= ``selection.threshold``, best first, weight 1; Q in the unit of the metric.

    Raises:
        UserError: no pair reaches the bound.
    """
    count = int((pairs.quality >= settings.threshold).sum())
    if count == 0:
        raise UserError(
            f"selection.threshold {settings.threshold:g} keeps no pair: the highest Q is {pairs.quality.max():.6g}"
        )
    return Chosen(best_first(pairs.quality, pairs.pair_ids, count), np.ones(count))


STRATEGY = Strategy(threshold, Settings)
