"""Better pairs count more in the loss; none is drawn by chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsd.errors import UserError
from qsd.selection.order import KeptAmount, Temperature, best_first, kept_count, standardised
from qsd.selection.strategies import Candidates, Chosen, Strategy


@dataclass
class Settings(KeptAmount, Temperature):
    """How many pairs to keep, and how unequal their weights are."""


def loss_weighting(pairs: Candidates, settings: Settings) -> Chosen:
    """The K pairs of highest Q with weights exp(z / temperature), mean 1; z is Q standardised over the K pairs.

    K = count, or round(N · fraction / 100); with ``fraction: 100`` no pair is left out and the weights are all that Q
    does. The expected loss is that of ``weighted_sampling`` with replacement, without the noise of drawing. Temperature
    to infinity gives ``top_k``.

    Raises:
        UserError: the temperature is so low that a weight is rounded to 0.
    """
    rows = best_first(pairs.quality, pairs.pair_ids, kept_count(len(pairs.quality), settings))
    z = standardised(pairs.quality[rows])
    weights = np.exp((z - z.max()) / settings.temperature)
    if (weights < np.finfo(np.float32).tiny).any():
        lost, least = int((weights < np.finfo(np.float32).tiny).sum()), (z.max() - z.min()) / 87
        raise UserError(
            f"selection.temperature {settings.temperature:g} leaves {lost} of {len(rows)} pairs without weight; "
            f"raise it above {least:.3g}, or keep fewer pairs"
        )
    return Chosen(rows, weights / weights.mean())


STRATEGY = Strategy(loss_weighting, Settings)
