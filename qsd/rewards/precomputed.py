"""Scores from a file: (digest of the image, caption) -> score, computed by any program.

Folder::

    config.json     {"name": "...", "revision": "...", "unit": "..."}   which judge this is, in its own terms
    scores.csv      or scores.parquet, with the columns image, caption and score

``qsd export-images`` writes the images of a data set, or those of a generate artefact, under these digests, with a
table to which the judge adds the column of scores. The revision of the reward model is a digest of the folder, so other
scores or another stated revision are another reward model.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

from qsd.errors import UserError
from qsd.rewards.folder import read_config
from qsd.rewards.native_size import NativeSize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

NATIVE = NativeSize()
STATED = "stated"
"""In the place of a unit that only the folder of the reward model knows."""
COLUMNS = ("image", "caption", "score")
FILES = ("scores.csv", "scores.parquet")
_REQUIRED = ("name", "revision", "unit")
_STREAMED_ROWS = 4096


def image_digest(width: int, height: int, rgb: bytes) -> str:
    """64 hex digits: SHA-256 of ``<width>x<height>`` and a line feed, then the 8-bit RGB values, row by row.

    Of the decoded pixels, so that the format of the file does not count. For a PIL image:
    ``image_digest(image.width, image.height, image.convert("RGB").tobytes())``.
    """
    return hashlib.sha256(f"{width}x{height}\n".encode() + rgb).hexdigest()


class PrecomputedScorer:
    """A table of scores as a reward model. See :class:`qsd.rewards.scorer.Scorer`.

    Args:
        stated: name, revision and unit of the judge, in its own terms.
        scores: (digest of the image, caption) -> score.
        place: of the table, for messages.
    """

    def __init__(self, stated: Mapping[str, str], scores: Mapping[tuple[str, str], float], place: str) -> None:
        self.name = stated["name"]
        self.revision = stated["revision"]
        self.unit = stated["unit"]
        self.resolution = NATIVE.size
        self._scores = scores
        self._place = place

    def score(self, images: Sequence[Image.Image | Tensor], captions: Sequence[str]) -> NDArray[np.float32]:
        """Scores of images and their captions, float32 (N,).

        Args:
            images: of any sizes; or their RGB values, uint8 (3, H, W).
            captions: one per image.

        Raises:
            UserError: the file has no score of an image with its caption.
            ValueError: not as many captions as images.
        """
        import numpy as np
        import torch

        if len(images) != len(captions):
            raise ValueError(f"{len(images)} images but {len(captions)} captions")
        items = []
        for image, caption in zip(images, captions, strict=True):
            pixels = image if isinstance(image, torch.Tensor) else NATIVE.one(image)
            _, height, width = pixels.shape
            rgb = pixels.permute(1, 2, 0).contiguous().cpu().numpy().tobytes()
            items.append((image_digest(width, height, rgb), caption))
        missing = [item for item in items if item not in self._scores]
        if missing:
            digest, caption = missing[0]
            more = f" (and of {len(missing) - 1} more among {len(items)})" if len(missing) > 1 else ""
            raise UserError(
                f"{self._place}: no score of image {digest} with the caption {caption!r}{more}; "
                "write them out with `qsd export-images`, have them scored, and add the rows"
            )
        return np.array([self._scores[item] for item in items], np.float32)

    def score_tensor(self, pixels: Tensor, captions: Sequence[str]) -> Tensor:
        """Not possible: there are scores of stored images only.

        Raises:
            UserError: always.
        """
        raise UserError(f"{self._place}: scores from a file cannot score new images; use another reward model")


def open_scorer(folder: Path, _device: str) -> PrecomputedScorer:
    """Read the scores of a folder.

    Raises:
        UserError: missing or damaged files, an empty statement, or a row that cannot be used, with its line.
    """
    config = read_config(folder, _REQUIRED)
    empty = [key for key in _REQUIRED if not isinstance(config[key], str) or not config[key].strip()]
    if empty:
        raise UserError(f"{folder / 'config.json'}: {', '.join(empty)} must be a text that is not empty")
    found = [folder / name for name in FILES if (folder / name).is_file()]
    if len(found) != 1:
        problem = "both" if found else "neither"
        raise UserError(f"{folder}: has {problem} of {' and '.join(FILES)}; it needs one of them")
    return PrecomputedScorer(config, _table(found[0]), str(found[0]))


def _table(path: Path) -> dict[tuple[str, str], float]:
    """The scores of a file by (digest, caption).

    Raises:
        UserError: a missing column, or a row without a digest, with a score that is no number, or that contradicts an
            earlier one.
    """
    scores: dict[tuple[str, str], float] = {}
    lines: dict[tuple[str, str], int] = {}
    for line, row in _rows(path):
        item = (str(row["image"] or "").lower(), str(row["caption"] or ""))
        if len(item[0]) != 64 or set(item[0]) - set("0123456789abcdef"):
            raise UserError(f"{path}:{line}: image {row['image']!r} is no SHA-256 digest of 64 hex digits")
        try:
            score = float(row["score"])
        except (TypeError, ValueError):
            raise UserError(f"{path}:{line}: score {row['score']!r} is no number") from None
        earlier = scores.get(item)
        if earlier is not None and earlier != score and not (math.isnan(earlier) and math.isnan(score)):
            raise UserError(
                f"{path}:{line}: another score of the same image and caption than in line {lines[item]}: "
                f"{score:g}, there {earlier:g}"
            )
        scores[item], lines[item] = score, line
    return scores


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, row) of a file; of a parquet file the row's number from 1."""
    if path.suffix == ".parquet":
        yield from enumerate(_parquet_rows(path), start=1)
        return
    from qsd.data.text_table import PROBLEMS, TextTable

    text = TextTable(path)
    _require(path, text.header)
    for row in text.rows():
        if row.problem:
            raise UserError(f"{path}:{row.line}: {PROBLEMS[row.problem]}")
        yield row.line, dict(zip(text.header, row.cells, strict=True))


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    from qsd.data.parquet import check_columns, is_numeric, is_text, open_parquet, stream

    file, first = open_parquet(path), 0
    _require(path, file.schema_arrow.names)
    text = (is_text, "text")
    check_columns(path, file.schema_arrow, {"image": text, "caption": text, "score": (is_numeric, "numbers")})
    for group in range(file.metadata.num_row_groups):
        for batch in stream(file, path, group, COLUMNS, _STREAMED_ROWS, first):
            yield from batch
            first += len(batch)


def _require(path: Path, columns: Iterable[str]) -> None:
    given = list(columns)
    missing = [name for name in COLUMNS if name not in given]
    if missing:
        raise UserError(f"{path}: the columns {', '.join(missing)} are missing; it has {', '.join(given) or 'none'}")
