"""Simulated annotators: Bradley-Terry on the judge's score, with noise, ties, and a minority that disagrees.

No person labelled anything in this world. An annotator has a temperature (how noisy) and either follows the judge or,
for a minority, prefers the image with the lower score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ANNOTATORS = 40
MINORITY_SHARE = 0.10
TIE_WIDTH = 0.04


@dataclass(frozen=True)
class Annotator:
    """``temperature`` in standard deviations of the score difference; ``sign`` is -1 for the minority."""

    user_id: int
    temperature: float
    sign: int


def recruit(rng: np.random.Generator) -> list[Annotator]:
    """Forty annotators, four of them in the minority."""
    signs = np.ones(ANNOTATORS, dtype=int)
    signs[rng.permutation(ANNOTATORS)[: round(MINORITY_SHARE * ANNOTATORS)]] = -1
    temperatures = rng.uniform(0.15, 0.6, ANNOTATORS)
    return [Annotator(i, float(t), int(s)) for i, (t, s) in enumerate(zip(temperatures, signs, strict=True))]


def label(difference: float, annotator: Annotator, rng: np.random.Generator) -> float:
    """``label_0`` of Pick-a-Pic: 1 when the first image is preferred, 0 when the second, 0.5 for a tie.

    ``difference`` is score(first) - score(second) in standard deviations over the data set;
    P(first) = sigmoid(sign * difference / temperature).
    """
    if abs(difference) < TIE_WIDTH:
        return 0.5
    first = 1 / (1 + np.exp(-annotator.sign * difference / annotator.temperature))
    return float(rng.random() < first)
