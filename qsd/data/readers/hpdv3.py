"""HPD v3's layout: a JSON list of pairs, and their images in ``images/`` beside it.

``train.json`` and ``test.json`` of MizzenAI/HPDv3 are lists of ``{"prompt": …, "path1": …, "path2": …, "model1": …,
"model2": …, "confidence": …}``. **``path1`` is always the preferred image**; nothing else says which one is. ``model1``
and ``model2`` name what made the images (a generator, or real photographs). ``confidence`` is a number or null; it is
checked and counted by ``qsd data describe``, and selects nothing. Other keys, such as ``choice_dist``, are not read.
The images come as ``images.tar.gz.*``, which are joined and unpacked; those of ``test.json`` were reported to be
missing from the archive (MizzenAI/HPSv3 issue 21), and each is then counted as a missing image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.data.image_files import ImageFiles
from qsd.data.json_list import read_list
from qsd.data.listed import Listed, ListedPairs, check_keys, is_number, text
from qsd.data.readers import Reader
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NEEDED: dict[str, type] = {"prompt": str, "path1": str, "path2": str, "model1": str, "model2": str}
_SURE = 0.95
"""The share of raters above which the publication calls a choice confident."""


def open_hpdv3(path: Path) -> ListedPairs:
    """The pairs of ``train.json`` or ``test.json``.

    Raises:
        UserError: no such file, not in this layout, or a confidence that is no number; with the item's number.
    """
    if path.is_dir():
        lists = ", ".join(sorted(file.name for file in path.glob("*.json"))) or "no *.json"
        raise UserError(f"{path}: a folder with {lists}; give the list itself, such as {path / 'train.json'}")
    return ListedPairs(path, _rows(path), ImageFiles(path.parent))


def _items(path: Path) -> Iterator[tuple[int, dict[str, Any], float | None]]:
    """Number, from 0, item, and confidence of every pair."""
    for number, item in enumerate(read_list(path, dict)):
        check_keys(path, number, item, _NEEDED)
        confidence = item.get("confidence")
        if confidence is not None and (not is_number(confidence) or confidence < 0):
            raise UserError(
                f"{path}: item {number}: 'confidence' must be a number that is not negative, or null, not "
                f"{confidence!r:.40}; repair the item, or take it out"
            )
        yield number, item, confidence


def _rows(path: Path) -> Iterator[Listed]:
    for number, item, _ in _items(path):
        yield Listed(f"item-{number}", text(item["prompt"]), text(item["path1"]), text(item["path2"]))


def _described(path: Path) -> Iterator[str]:
    """How sure the raters were, for ``qsd data describe``."""
    known = sorted(confidence for _, _, confidence in _items(path) if confidence is not None)
    if not known:
        yield "confidence        stated of no pair"
        return
    sure = sum(confidence >= _SURE for confidence in known)
    yield (
        f"confidence        stated of {len(known):,} pairs: {known[0]:g} to {known[-1]:g}, median "
        f"{known[len(known) // 2]:g}, {sure:,} at least {_SURE}; selects nothing"
    )


def _recognises(path: Path) -> bool:
    if path.suffix != ".json":
        return False
    first: dict[str, Any] = next(read_list(path, dict), {})
    return {"path1", "path2", "prompt"} <= first.keys()


READER = Reader(
    open=open_hpdv3, recognises=_recognises, digest=lambda path: open_hpdv3(path).digest(), annotators=_described
)
