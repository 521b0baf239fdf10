"""Ranked groups of images for one caption: what test accuracy is measured on.

* HPD v2's ``test.json``: ``{"prompt": …, "image_path": […], "rank": […], "raw_annotations": [{"annotation": […]}]}``;
  ``rank`` is the order of the annotators' mean places; the annotators' own rankings may be missing.
* ImageReward's ``test.json``: ``{"id": …, "prompt": …, "generations": […], "ranking": […]}``.
* Any other data set of preference pairs: groups of two, ties included.

A group with a missing or damaged image, or whose lists do not fit together, is left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qsd.data.annotators import annotations_of
from qsd.data.image_files import ImageFiles, RefusedImageError
from qsd.data.images import image_problem
from qsd.data.json_list import read_list
from qsd.data.listed import check_keys, is_number, text
from qsd.data.opening import open_path
from qsd.data.pairs import PreferencePair
from qsd.reward_training.choices import examined_rows

_HPD: dict[str, type] = {"prompt": str, "image_path": list, "rank": list}
_IMAGE_REWARD: dict[str, type] = {"prompt": str, "generations": list, "ranking": list}


@dataclass(frozen=True)
class RankedImages:
    """n ≥ 2 images of a caption with their ranks, lower is better.

    Attributes:
        name: how problems name it.
        caption: the text.
        files: bytes of the images.
        ranks: one per image.
        annotations: rankings of single annotators, where the data set has them.
    """

    name: str
    caption: str
    files: list[bytes]
    ranks: list[float]
    annotations: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True)
class Refused:
    """A group that is left out, and why."""

    name: str
    reason: str


def protocol_of(path: Path) -> str:
    """``hps_v2``, ``image_reward`` or ``pairs``: how reward models are published on data in this layout.

    Raises:
        UserError: a JSON file that is no list.
    """
    first: dict[str, Any] = next(read_list(path, dict), {}) if path.suffix == ".json" and path.is_file() else {}
    if {"image_path", "rank"} <= first.keys() and isinstance(first["rank"], list):
        return "hps_v2"
    return "image_reward" if "generations" in first else "pairs"


def read_groups(path: Path, reader: str | None = None, threads: int = 1) -> Iterator[RankedImages | Refused]:
    """All groups of a data set, one at a time.

    Raises:
        UserError: nothing there, or in no known layout.
    """
    layout = "pairs" if reader else protocol_of(path)
    if layout == "pairs":
        yield from _pairs(path, reader, threads)
        return
    needed = _HPD if layout == "hps_v2" else _IMAGE_REWARD
    places = ("", path.stem) if layout == "hps_v2" else ("", f"{path.stem}_images")
    images = ImageFiles(path.parent, places)
    for number, item in enumerate(read_list(path, dict)):
        check_keys(path, number, item, needed)
        caption, names, ranks = (item[key] for key in needed)
        annotations = annotations_of(path, number, item) if layout == "hps_v2" else []
        yield _group(f"item-{number}", caption, names or [], ranks or [], annotations, images)


def _group(
    name: str, caption: Any, names: list[Any], ranks: list[Any], annotations: list[Any], images: ImageFiles
) -> RankedImages | Refused:
    if not text(caption) or not caption.strip():
        return Refused(name, "empty_caption")
    if len(names) < 2:
        return Refused(name, "single_image")
    if any(not isinstance(one, list) or len(one) != len(names) for one in (ranks, *annotations)):
        return Refused(name, "uneven_lists")
    if not all(is_number(rank) for one in (ranks, *annotations) for rank in one):
        return Refused(name, "label_out_of_range")
    try:
        files = [images.read(text(file) or "") for file in names]
    except RefusedImageError as refused:
        return Refused(name, refused.reason)
    problem = next((problem for file in files if (problem := image_problem(file))), None)
    if problem:
        return Refused(name, problem)
    return RankedImages(name, caption, files, ranks, annotations)


def _pairs(path: Path, reader: str | None, threads: int) -> Iterator[RankedImages | Refused]:
    _, source = open_path(path, reader)
    for row, pair, tie in examined_rows(source, ties=True, threads=threads):
        if not isinstance(pair, PreferencePair):
            yield Refused(*pair)
            continue
        assert row.winner is not None
        assert row.loser is not None
        yield RankedImages(row.name, pair.caption, [row.winner, row.loser], [1.0, 1.0 if tie else 2.0])
