"""Score ranked groups with reward models, and compute their test accuracy beside what annotators and chance reach."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qsd.data.annotators import agreement
from qsd.data.images import decode
from qsd.data.problems import Problems
from qsd.errors import UserError
from qsd.reward_training import accuracy
from qsd.reward_training.groups import RankedImages, Refused
from qsd.rewards.scorer import Scorer

PROTOCOLS = {
    "hps_v2": "1 - strictly discordant pairs / all pairs, mean over groups; equal ranks are right",
    "image_reward": "share of the pairs of unequal rank scored right; equal scores are wrong",
    "pairs": "1 for right, 1/2 where exactly one of label and prediction is a tie, 0 else, mean over pairs",
}
"""The published protocols; sources in :mod:`qsd.reward_training.accuracy`."""

_COSINE_SCALE = 100.0
"""Published CLIPs have this logit scale: their probabilities are softmax(100 cosine)."""
_IMAGES_IN_MEMORY = 256


@dataclass
class ReadRanks:
    """Ranks of all groups that could be read, and what was refused."""

    ranks: list[list[float]] = field(default_factory=list)
    annotations: list[list[list[float]]] = field(default_factory=list)
    problems: Problems = field(default_factory=Problems)

    @property
    def ties(self) -> int:
        """Pairs of equal rank."""
        return sum(accuracy.ties(ranks) for ranks in self.ranks)

    @property
    def pairs(self) -> int:
        """All pairs within groups."""
        return sum(len(ranks) * (len(ranks) - 1) // 2 for ranks in self.ranks)

    def chance(self) -> float:
        """What a random order reaches by HPS v2's accuracy on average."""
        return float(np.mean([accuracy.chance(ranks) for ranks in self.ranks]))

    def annotators(self) -> Annotators | None:
        """What single annotators reach, mean over the groups with at least two; None without such groups."""
        several = [(own, ranks) for own, ranks in zip(self.annotations, self.ranks, strict=True) if len(own) > 1]
        if not several:
            return None
        others = [value for own, _ in several if (value := accuracy.against_the_others(own)) is not None]
        another = [value for own, _ in several if (value := agreement(own)) is not None]
        return Annotators(
            against_rank=float(np.mean([accuracy.against_the_rank(own, ranks) for own, ranks in several])),
            against_others=float(np.mean(others)),
            against_another=float(np.mean(another)),
        )


@dataclass(frozen=True)
class Annotators:
    """Accuracy of one annotator by HPS v2's protocol, in [0, 1]: the human ceilings of a data set.

    Attributes:
        against_rank: against the group's rank, which is made of all annotators, the own ranking included.
        against_others: against the mean place that the other annotators gave.
        against_another: against one other annotator.
    """

    against_rank: float
    against_others: float
    against_another: float


@dataclass(frozen=True)
class Result:
    """Accuracy of one reward model, in [0, 1], and the pairs of images to which it gave equal scores.

    Attributes:
        accuracy: by the protocol; of ``image_reward`` that over all pairs, as ImageReward's own test counts.
        equal_scores: pairs of images with equal scores.
        groups: how many groups there are.
        over_groups: of ``image_reward``: the mean over groups, as HPS v2's table counts; None otherwise.
    """

    accuracy: float
    equal_scores: int
    groups: int
    over_groups: float | None = None


def scored(
    scorer: Scorer,
    groups: Iterable[RankedImages | Refused],
    batch: int,
    most_refused: float,
    what: str,
    setting: str = "--max-refused",
) -> tuple[list[NDArray[np.float64]], ReadRanks]:
    """Scores of every group's images, and the labels.

    Args:
        scorer: the reward model.
        groups: as :func:`qsd.reward_training.groups.read_groups` gives them.
        batch: images per forward pass.
        most_refused: groups above this share end it.
        what: the data set, for messages.
        setting: where the bound is set, for messages.

    Raises:
        UserError: no group, more refused than allowed, or a score that is no number.
    """
    labels = ReadRanks()
    scores: list[NDArray[np.float64]] = []
    for chunk in _chunks(groups):
        good = [group for group in chunk if isinstance(group, RankedImages)]
        for group in chunk:
            if not isinstance(group, RankedImages):
                labels.problems.add(group.reason, group.name)
        scores.extend(_scores(scorer, good, batch))
        labels.ranks.extend(group.ranks for group in good)
        labels.annotations.extend(group.annotations for group in good)
    total = len(scores) + labels.problems.count()
    labels.problems.check_bound(what, total, most_refused, setting=setting)
    if not scores:
        raise UserError(f"{what}: no group of images in it")
    return scores, labels


def result(
    scorer: Scorer, scores: Sequence[NDArray[np.float64]], labels: ReadRanks, protocol: str, threshold: float = 0.0
) -> Result:
    """Accuracy by one of :data:`PROTOCOLS`; ``threshold`` is that of ``pairs`` on |p_0 - p_1|.

    Raises:
        UserError: groups that the protocol does not know: of more than two images, or with equal ranks only.
    """
    groups = list(zip(scores, labels.ranks, strict=True))
    over_groups: float | None = None
    if protocol == "pairs":
        value = _pairs_accuracy(scorer, scores, labels, threshold)
    elif protocol == "hps_v2":
        value = float(np.mean([accuracy.ranking_accuracy(own, ranks) for own, ranks in groups]))
    else:
        counts = [accuracy.strict_counts(own, ranks) for own, ranks in groups]
        unequal = [(right, pairs) for right, pairs in counts if pairs]
        if not unequal:
            raise UserError(f"protocol {protocol}: all ranks are equal")
        value = sum(right for right, _ in unequal) / sum(pairs for _, pairs in unequal)
        over_groups = float(np.mean([right / pairs for right, pairs in unequal]))
    return Result(value, sum(accuracy.ties(own) for own in scores), len(scores), over_groups)


def best_threshold(scorer: Scorer, scores: Sequence[NDArray[np.float64]], labels: ReadRanks) -> float:
    """The threshold of ``pairs`` that is best on a validation set, of 0, 0.1, …, 1 as published; the least of equals.

    Raises:
        UserError: a group of more than two images.
    """
    tried = [step / 10 for step in range(11)]
    return max(tried, key=lambda threshold: (_pairs_accuracy(scorer, scores, labels, threshold), -threshold))


def _pairs_accuracy(
    scorer: Scorer, scores: Sequence[NDArray[np.float64]], labels: ReadRanks, threshold: float
) -> float:
    if any(len(own) != 2 for own in scores):
        raise UserError("protocol pairs: a group has more than two images; use hps_v2 or image_reward")
    # Probabilities are of logits, and a cosine is not one yet.
    scale = _COSINE_SCALE if scorer.unit == "cosine" else 1.0
    gaps = np.array([scale * (own[0] - own[1]) for own in scores])
    wanted = [0.5 if a == b else float(a < b) for a, b in labels.ranks]
    return accuracy.tied_accuracy(1 / (1 + np.exp(-np.clip(gaps, -500, 500))), wanted, threshold)


def _chunks(groups: Iterable[RankedImages | Refused]) -> Iterator[list[RankedImages | Refused]]:
    """Groups in order, about ``_IMAGES_IN_MEMORY`` images at a time."""
    chunk: list[RankedImages | Refused] = []
    images = 0
    for group in groups:
        chunk.append(group)
        images += len(group.files) if isinstance(group, RankedImages) else 0
        if images >= _IMAGES_IN_MEMORY:
            yield chunk
            chunk, images = [], 0
    yield chunk


def _scores(scorer: Scorer, groups: Sequence[RankedImages], batch: int) -> list[NDArray[np.float64]]:
    """The scores of each group's images."""
    files = [file for group in groups for file in group.files]
    captions = [group.caption for group in groups for _ in group.files]
    parts = [
        scorer.score([decode(file) for file in files[start : start + batch]], captions[start : start + batch])
        for start in range(0, len(files), batch)
    ]
    scores = np.concatenate([np.zeros(0), *parts])
    if not np.isfinite(scores).all():
        raise UserError(f"{scorer.name}: a score is not a number")
    return np.split(scores, np.cumsum([len(group.files) for group in groups])[:-1]) if groups else []
