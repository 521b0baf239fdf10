"""Pick-a-Pic's layout: parquet with ``jpg_0``, ``jpg_1`` (file bytes), ``label_0`` and ``caption``.

``label_0`` is 1 when ``jpg_0`` was preferred, 0 when ``jpg_1`` was, 0.5 for a tie; a row whose ``has_label`` is false
is no pair. ``ranking_id`` names a row in problems, ``user_id`` the annotator, ``image_0_uid`` and ``image_1_uid`` the
images, where they exist. Images are bytes, or the ``{bytes, path}`` of datasets' ``Image()``. A folder is one split:
all its ``*.parquet``, or those of its folder ``data``, in the order of their names. Source: Pick-a-Pic v1 and v2 as
read by SalesforceAIResearch/DiffusionDPO ``train.py``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qsd.data.image_rows import ImageRows, RowLayout
from qsd.data.pairs import SourceRow
from qsd.data.parquet import (
    image_file,
    is_flag,
    is_image,
    is_label,
    is_numeric,
    is_text,
    label_text,
    open_parquet,
    parquet_files,
)
from qsd.data.readers import Reader
from qsd.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from qsd.data.image_rows import Row

_REQUIRED = {
    "jpg_0": (is_image, "image bytes"),
    "jpg_1": (is_image, "image bytes"),
    "label_0": (is_numeric, "0, 0.5 or 1"),
    "caption": (is_text, "text"),
}
_ID = (is_label, "text or numbers")
_OPTIONAL = {
    "has_label": (is_flag, "true or false"),
    "ranking_id": _ID,
    "user_id": _ID,
    "image_0_uid": _ID,
    "image_1_uid": _ID,
}
_SHOWN = 3
_SHARD = re.compile(r"(?P<split>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})(-\w+)?\.parquet")
_HUB_NAME = re.compile(r"[\w-]+/[\w.-]+(@[\w.-]+)?")


def open_pickapic(path: Path) -> ImageRows:
    """The rows of a file, or of all files of a split in a folder.

    Raises:
        UserError: nothing there, several splits, or not in this layout.
    """
    return ImageRows(_files(path), _LAYOUT)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        if _HUB_NAME.fullmatch(str(path)) and not path.parent.exists():
            raise UserError(
                f"{path}: no such file or folder. Is it a hub name? Data is read from local files, and Pick-a-Pic has "
                f"been missing from the hub since 2025; another copy there is fetched with: "
                f"hf download --repo-type dataset {path} --local-dir FOLDER"
            )
        raise UserError(f"{path}: no such file or folder; data.path names the preference pairs")
    files = parquet_files(path)
    if not files:
        raise UserError(f"{path}: no *.parquet in this folder")
    shards = [found for file in files if (found := _SHARD.fullmatch(file.name))]
    numbers = [(shard["split"], shard["total"], shard["number"]) for shard in shards]
    if twice := next((number for number in numbers if numbers.count(number) > 1), None):
        names = " and ".join(shard[0] for shard, number in zip(shards, numbers, strict=True) if number == twice)
        raise UserError(f"{path}: {names} are the same shard; leave one of them")
    splits = sorted({split for split, _, _ in numbers})
    if len(splits) > 1:
        raise UserError(
            f"{path}: holds the splits {', '.join(splits)}, and a folder is read as one; "
            f"move each into a folder of its own (links will do)"
        )
    return files


def _missing_shards(path: Path) -> str | None:
    """What is missing of the split in a folder, by the names of its shards."""
    present: dict[tuple[str, int], set[int]] = {}
    for file in parquet_files(path) if path.is_dir() else []:
        if shard := _SHARD.fullmatch(file.name):
            present.setdefault((shard["split"], int(shard["total"])), set()).add(int(shard["number"]))
    for (split, total), numbers in present.items():
        if missing := [number for number in range(total) if number not in numbers]:
            names = ", ".join(f"{split}-{number:05d}-of-{total:05d}" for number in missing[:_SHOWN])
            more = ", …" if len(missing) > _SHOWN else ""
            return f"{len(missing)} of {total} shards {'is' if len(missing) == 1 else 'are'} missing ({names}{more})"
    return None


def _recognises(path: Path) -> bool:
    if path.suffix != ".parquet" and not (path.is_dir() and parquet_files(path)):
        return False
    return "jpg_0" in open_parquet(_files(path)[0]).schema_arrow.names


def _row(number: int, values: Row) -> SourceRow:
    label = values["label_0"]
    problem = {0.0: None, 1.0: None, 0.5: "tie"}.get(label, "label_out_of_range")
    chosen = values.get("has_label", True)
    if not chosen or chosen != chosen:  # false, null or NaN: the label of such a row means nothing
        problem = "no_label"
    ranking = label_text(values.get("ranking_id"))
    winner, loser = ("0", "1") if label == 1 else ("1", "0")
    return SourceRow(
        number=number,
        name=f"row-{number}" if ranking is None else f"row-{number}/ranking-{ranking}",
        caption=values.get("caption"),
        winner=image_file(values[f"jpg_{winner}"]),
        loser=image_file(values[f"jpg_{loser}"]),
        annotator=label_text(values.get("user_id")),
        problem=problem,
        winner_name=label_text(values.get(f"image_{winner}_uid")),
        loser_name=label_text(values.get(f"image_{loser}_uid")),
    )


_LAYOUT = RowLayout(_REQUIRED, _OPTIONAL, ("jpg_0", "jpg_1", "label_0"), _row)
READER = Reader(open=open_pickapic, recognises=_recognises, missing=_missing_shards)
