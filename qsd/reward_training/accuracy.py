"""Test accuracy of scores against human rankings, by the protocols under which reward models are published.

Ranks are lower for better images; scores are higher for better images. HPD v2's published rank is the order of the
annotators' mean places, other lists have the means themselves.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = Sequence[float] | NDArray[np.floating]


def ranking_accuracy(scores: Numbers, ranks: Numbers) -> float:
    """HPS v2's accuracy of one group: 1 - (strictly discordant pairs) / (n (n - 1) / 2), in [0, 1].

    Pairs of equal rank count as correct. Equal scores do not: the published code sorts the scores and compares places,
    so that of equal scores the one listed first counts as better. (It sorts by an unstable sort; here it is stable.)
    Source: tgxs002/HPSv2 ``training/train.py`` (inversion_score), ``evaluation.py`` (evaluate_rank).
    """
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    places = np.empty(len(order))
    places[order] = np.arange(len(order))
    discordant = sum((places[i] - places[j]) * (ranks[i] - ranks[j]) < 0 for i, j in _pairs(ranks))
    return float(1.0 - discordant / _count(ranks))


def strict_counts(scores: Numbers, ranks: Numbers) -> tuple[int, int]:
    """(Pairs scored right, pairs) among the pairs of unequal rank of a group; equal scores are wrong.

    The accuracy on ImageReward's test set is made of them in two ways, which differ where groups differ in size:
    ImageReward's own test adds up the counts of all groups; HPS v2's table averages the groups' shares.
    Source: THUDM/ImageReward ``src/test.py``; tgxs002/HPSv2 ``training/train.py`` (calc_ImageReward).
    """
    unequal = [(i, j) for i, j in _pairs(ranks) if ranks[i] != ranks[j]]
    return sum(bool((scores[i] - scores[j]) * (ranks[i] - ranks[j]) < 0) for i, j in unequal), len(unequal)


def tied_accuracy(probabilities: Numbers, labels: Numbers, threshold: float) -> float:
    """PickScore's accuracy over pairs: the mean of 1 (right), 1/2 (exactly one of label and prediction is a tie), 0.

    Args:
        probabilities: that the first image is preferred, [N]: softmax over the two logits.
        labels: 1, 0, or 0.5 for a tie, [N].
        threshold: |p_0 - p_1| up to it is predicted as a tie. It is chosen on a validation set from 0, 0.1, …, 1.

    Source: yuvalkirstain/PickScore ``scripts/eval_preference_predictor.py``.
    """
    first, label = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    gap = 2 * first - 1
    predicted = np.where(np.abs(gap) <= threshold, 0.5, (gap > 0).astype(float))
    return float((1 - np.abs(predicted - label)).mean())


def ties(scores: Numbers) -> int:
    """Pairs of equal scores, or of equal ranks."""
    return sum(bool(scores[i] == scores[j]) for i, j in _pairs(scores))


def chance(ranks: Numbers) -> float:
    """What a random order reaches by :func:`ranking_accuracy` on average: half of the unequal pairs, all equal ones."""
    return 1.0 - 0.5 * (_count(ranks) - ties(ranks)) / _count(ranks)


def against_the_rank(annotations: Sequence[Numbers], ranks: Numbers) -> float:
    """Accuracy of one annotator's ranking against the group's rank, averaged over the annotators.

    The rank is made of all annotators' rankings, the own one included, which flatters; compare
    :func:`against_the_others`.
    """
    return float(np.mean([ranking_accuracy(-np.asarray(own, dtype=np.float64), ranks) for own in annotations]))


def against_the_others(annotations: Sequence[Numbers]) -> float | None:
    """Accuracy of one annotator's ranking against the mean rank of the others, averaged; None for one annotator."""
    if len(annotations) < 2:
        return None
    rankings = np.asarray(annotations, dtype=np.float64)
    others = [(rankings.sum(axis=0) - own) / (len(rankings) - 1) for own in rankings]
    return float(np.mean([ranking_accuracy(-own, mean) for own, mean in zip(rankings, others, strict=True)]))


def _pairs(values: Numbers) -> Iterator[tuple[int, int]]:
    """All pairs of places."""
    return itertools.combinations(range(len(values)), 2)


def _count(values: Numbers) -> float:
    """How many pairs there are."""
    return len(values) * (len(values) - 1) / 2
