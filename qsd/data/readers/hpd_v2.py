"""HPD v2's layout: a JSON list, and its images in folders or archives beside it.

``train.json`` has choices between two images, ``{"human_preference": [1, 0], "prompt": …, "file_path": [a, b]}`` with 1
for the preferred one and a ``user_hash`` in some editions. ``test.json`` has rankings, ``{"prompt": …, "image_path":
[…], "rank": […]}``, lower is better; every pair of a ranking is a row, equal ranks are ties. The published ``rank`` is
a permutation, the order of the mean places that ten people gave (``raw_annotations``, :mod:`qsd.data.annotators`).
Images are looked for beside the list, and in the folder called like it (``train/`` for ``train.json``); a folder may be
a zip archive. Source: the data description of tgxs002/HPSv2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.data.annotators import annotator_lines
from qsd.data.image_files import ImageFiles
from qsd.data.json_list import read_list
from qsd.data.listed import Listed, ListedPairs, check_keys, ranked, shown, text
from qsd.data.readers import Reader
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHOICE: dict[str, type] = {"prompt": str, "human_preference": list, "file_path": list}
_RANKING: dict[str, type] = {"prompt": str, "image_path": list, "rank": list}
_BETTER = {(1, 0): (0, 1), (0, 1): (1, 0)}


def open_hpd(path: Path) -> ListedPairs:
    """The pairs of ``train.json`` or ``test.json``.

    Raises:
        UserError: no such file, or not in this layout.
    """
    if path.is_dir():
        lists = ", ".join(sorted(file.name for file in path.glob("*.json"))) or "no *.json"
        raise UserError(f"{path}: a folder with {lists}; give the list itself, such as {path / 'train.json'}")
    return ListedPairs(path, _rows(path), ImageFiles(path.parent, ("", path.stem)))


def _rows(path: Path) -> Iterator[Listed]:
    for number, item in enumerate(read_list(path, dict)):
        if "human_preference" in item:
            check_keys(path, number, item, _CHOICE)
            yield _choice(f"item-{number}", item)
        else:
            check_keys(path, number, item, _RANKING)
            yield from ranked(f"item-{number}", text(item["prompt"]), item["image_path"] or [], item["rank"] or [])


def _choice(name: str, item: dict[str, Any]) -> Listed:
    preference, images = item["human_preference"] or [], item["file_path"] or []
    caption, annotator = text(item["prompt"]), item.get("user_hash")
    if len(preference) != 2 or len(images) != 2:
        return Listed(name, caption, problem="uneven_lists")
    first, second = text(images[0]), text(images[1])
    if preference[0] == preference[1] == 0.5:
        return Listed(name, caption, first, second, problem="tie")
    if not all(isinstance(label, int | float) for label in preference) or tuple(preference) not in _BETTER:
        return Listed(name, caption, first, second, problem="label_out_of_range")
    winner, loser = (text(images[place]) for place in _BETTER[tuple(preference)])
    return Listed(name, caption, winner, loser, None if annotator is None else shown(annotator))


def _recognises(path: Path) -> bool:
    if path.suffix != ".json":
        return False
    first: dict[str, Any] = next(read_list(path, dict), {})
    return "human_preference" in first or ("prompt_id" not in first and {"image_path", "rank"} <= first.keys())


READER = Reader(
    open=open_hpd,
    recognises=_recognises,
    digest=lambda path: open_hpd(path).digest(),
    annotators=annotator_lines,
)
