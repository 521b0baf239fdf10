"""Rankings of single people behind the rank of a group of images, as HPD v2's ``test.json`` has them.

An item's ``raw_annotations`` is a list with one object per person: ``{"annotation": [0, 2, 1], "user_hash": -28139…}``
in the published list (places from 0, lower is better, hashes are signed integers), ``{"rank": […], "user_hash": "…"}``
in others. The published ``rank`` is a permutation: the order of the annotators' mean places, not these means.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

from qsd.data.json_list import read_list
from qsd.data.listed import is_number, shown
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_KEYS = ("annotation", "rank")


def annotations_of(path: Path, number: int, item: dict[str, Any]) -> list[Any]:
    """The ranking of every person of item ``number`` (from 0), as the list has them; empty where it has none.

    Raises:
        UserError: ``raw_annotations`` is no list of objects with one of the two keys.
    """
    people = item.get("raw_annotations")
    if people is None:
        return []
    if not isinstance(people, list):
        raise UserError(f"{path}: item {number}: 'raw_annotations' must be a list, not {shown(repr(people))[:40]}")
    rankings = []
    for person in people:
        key = next((name for name in _KEYS if isinstance(person, dict) and name in person), None)
        if key is None:
            have = shown(", ".join(person) if isinstance(person, dict) else repr(person))[:60] or "nothing"
            raise UserError(
                f"{path}: item {number}: an entry of 'raw_annotations' needs 'annotation' or 'rank'; it has {have}"
            )
        rankings.append(person[key])
    return rankings


def agreement(rankings: Sequence[Sequence[float]]) -> float | None:
    """Accuracy of one annotator against another by HPS v2's protocol, averaged over all pairs of annotators.

    1 - (image pairs that the two order in opposite ways) / (n (n - 1) / 2), in [0, 1]; equal places are no
    disagreement. On the published list of HPD v2 the mean over groups is 0.7792, the 78.1 % of a single human in the
    paper.

    Args:
        rankings: places of the same n ≥ 2 images, lower is better, one list per annotator.

    Returns:
        None for fewer than two annotators.
    """
    if len(rankings) < 2:
        return None
    discordant = 0
    image_pairs = list(itertools.combinations(range(len(rankings[0])), 2))
    for first, second in image_pairs:
        better = sum(ranking[first] < ranking[second] for ranking in rankings)
        worse = sum(ranking[first] > ranking[second] for ranking in rankings)
        discordant += better * worse
    return 1 - discordant / (len(image_pairs) * len(rankings) * (len(rankings) - 1) / 2)


def annotator_lines(path: Path) -> Iterator[str]:
    """What ``qsd data describe`` says about the annotators of a list of rankings; nothing where it names none.

    Raises:
        UserError: as ``read_list`` and :func:`annotations_of`.
    """
    people: set[Any] = set()
    per_group: Counter[int] = Counter()
    agreements: list[float] = []
    unusable = 0
    for number, item in enumerate(read_list(path, dict)):
        rankings = annotations_of(path, number, item)
        if not rankings:
            continue
        people.update(str(person.get("user_hash")) for person in item["raw_annotations"] if "user_hash" in person)
        images = item.get("image_path") or []
        if len(images) < 2 or not all(_fits(ranking, len(images)) for ranking in rankings):
            unusable += 1
            continue
        per_group[len(rankings)] += 1
        if (value := agreement(rankings)) is not None:
            agreements.append(value)
    if not per_group and not unusable:
        return
    least, most = min(per_group, default=0), max(per_group, default=0)
    each = f"{least}" if least == most else f"{least} to {most}"
    known = f"{len(people):,}, " if people else ""
    yield f"annotators        {known}{each} per group on {per_group.total():,} groups"
    if agreements:
        mean = sum(agreements) / len(agreements)
        yield f"  agreement           {mean:.2%} (one annotator against another, mean over groups)"
    if unusable:
        yield f"  unusable            {unusable:,} groups: an annotator's list is not one number per image"


def _fits(ranking: Any, images: int) -> bool:
    return isinstance(ranking, list) and len(ranking) == images and all(is_number(place) for place in ranking)
