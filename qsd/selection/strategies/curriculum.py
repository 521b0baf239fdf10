"""The best share of the pairs, used in the order of Q: the best first, the rest little by little."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsd.config.fields import meaning
from qsd.selection.curriculum import available_from
from qsd.selection.order import KeptAmount, best_first, kept_count
from qsd.selection.strategies import Candidates, Chosen, Strategy


@dataclass
class Settings(KeptAmount):
    """How many pairs to keep, and how fast the training gets to use all of them."""

    curriculum_start: float = meaning(0.2, "share of the kept pairs that a curriculum begins with", above=0, most=1)
    curriculum_full: float = meaning(0.5, "share of the training after which it has all of them", above=0, most=1)


def curriculum(pairs: Candidates, settings: Settings) -> Chosen:
    """The pairs of ``top_k``, weight 1; at first the training uses only the best of them, later more and more.

    From the share ``curriculum_start`` of the K pairs the pool grows linearly, until at the share ``curriculum_full``
    of the training it holds all K (``qsd.selection.curriculum``). A high Q stands for a clear preference, so the
    order is from easy to hard. After Bengio, Louradour, Collobert and Weston, "Curriculum Learning", ICML 2009.
    """
    rows = best_first(pairs.quality, pairs.pair_ids, kept_count(len(pairs.quality), settings))
    shares = available_from(len(rows), settings.curriculum_start, settings.curriculum_full)
    return Chosen(rows, np.ones(len(rows)), shares)


STRATEGY = Strategy(curriculum, Settings)
