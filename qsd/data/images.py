"""Images of pairs: decoding, checking, and random access through a source."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Protocol

from qsd.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

    from qsd.data.pairs import Side
    from qsd.data.source import PairSource


def decode(data: bytes) -> Image.Image:
    """An image file as RGB; alpha is dropped, as in the official Diffusion-DPO code.

    Raises:
        ValueError: damaged, truncated, absurdly large, or no image.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data)).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"not a readable image: {error}") from None


def is_readable(data: bytes) -> bool:
    """True when the whole file decodes. JPEGs are decoded at an eighth of their size, which reads every byte."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
            image.draft("RGB", (1, 1))
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return False
    return True


class ImageFiles(Protocol):
    """Image files by row and side; a reader asks for them from front to back."""

    def bytes_of(self, source_row: int, side: Side) -> bytes:
        """The file."""

    def unreadable(self, source_row: int, side: Side, error: ValueError) -> UserError:
        """What to tell a person of a file that does not decode."""


class PairImages:
    """Images by source row and side. The last image is kept, so asking again for the same one decodes nothing."""

    def __init__(self, source: PairSource) -> None:
        self.source = source
        self.decoded = 0
        self._last: tuple[int, Side, Image.Image] | None = None

    def bytes_of(self, source_row: int, side: Side) -> bytes:
        """The image file as it is in the source."""
        winner, loser = self.source.image_bytes(source_row)
        return winner if side == "winner" else loser

    def unreadable(self, source_row: int, side: Side, error: ValueError) -> UserError:
        """The image was readable when the data stage saw it."""
        return UserError(f"source row {source_row}, {side}: {error}; run the data stage again")

    def image(self, source_row: int, side: Side) -> Image.Image:
        """The image as RGB.

        Raises:
            UserError: it does not decode; the source has changed since the data stage.
        """
        if self._last is not None and self._last[:2] == (source_row, side):
            return self._last[2]
        try:
            image = decode(self.bytes_of(source_row, side))
        except ValueError as error:
            raise self.unreadable(source_row, side, error) from None
        self.decoded += 1
        self._last = (source_row, side, image)
        return image
