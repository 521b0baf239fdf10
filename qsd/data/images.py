"""Images: decoding, checking, and where their files come from."""

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
            # Pillow only warns of sizes up to twice its limit; a pair is not worth a gigabyte of pixels.
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
            image.draft("RGB", (1, 1))  # no effect on other formats, which are decoded in full
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return False
    return True


class ImageSource(Protocol):
    """Image files by number. What the numbers stand for is up to the source; callers ask in ascending order."""

    def bytes_of(self, number: int, /) -> bytes:
        """The content of an image file."""

    def unreadable(self, number: int, error: ValueError, /) -> UserError:
        """The error to raise for a file that does not decode: which image it is, and what to do."""


def pair_image_number(source_row: int, side: Side) -> int:
    """The number of an image of a pair: two per row of the source, the winner first."""
    return 2 * source_row + (side == "loser")


class PairImages:
    """The images of pairs, by :func:`pair_image_number`. The last one decoded is kept: neighbours often share it.

    Args:
        source: the data set.

    Attributes:
        decoded: how many images were decoded.
    """

    def __init__(self, source: PairSource) -> None:
        self.source = source
        self.decoded = 0
        self._last: tuple[int, Image.Image] | None = None

    def bytes_of(self, number: int) -> bytes:
        """The image file as it is in the source."""
        source_row, is_loser = divmod(number, 2)
        return self.source.image_bytes(source_row)[is_loser]

    def unreadable(self, number: int, error: ValueError) -> UserError:
        """The error for an image that was readable when the data stage saw it."""
        source_row, is_loser = divmod(number, 2)
        side = "loser" if is_loser else "winner"
        return UserError(f"source row {source_row}, {side}: {error}; run the data stage again")

    def image(self, number: int) -> Image.Image:
        """The image as RGB.

        Raises:
            UserError: it does not decode; the source has changed since the data stage.
        """
        if self._last is not None and self._last[0] == number:
            return self._last[1]
        try:
            image = decode(self.bytes_of(number))
        except ValueError as error:
            raise self.unreadable(number, error) from None
        self.decoded += 1
        self._last = (number, image)
        return image
