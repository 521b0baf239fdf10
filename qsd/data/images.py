"""Images: decoding, checking, and where their files come from."""

from __future__ import annotations

import io
import struct
import warnings
from typing import TYPE_CHECKING, Protocol

from qsd.data.lfs import is_pointer
from qsd.data.pairs import image_uid
from qsd.errors import UserError, reason

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL import Image

    from qsd.data.pairs import Side
    from qsd.data.source import PairSource


_ORIENTATION = 0x0112
"""The EXIF tag that says how a camera was held."""
SIDEWAYS = (5, 6, 7, 8)
"""Orientations that exchange width and height."""
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_UNKNOWN_RANGE = ("I", "F")
"""Pillow's modes of 32-bit integers and of floats: nothing in the file says which numbers are black and white."""
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
"""What is decoded. Of what Pillow knows besides, EPS would start another program (Ghostscript) on the file."""
_WITH_FRAMES = ("PNG", "WEBP", "GIF", "TIFF", "AVIF")
"""Formats of animations and pages; the further pictures in a photograph (MPO) are its depth or its other eye."""


class RefusedPixelsError(ValueError):
    """Raised for an image that is whole and of which no one 8-bit picture can be made.

    Args:
        reason: a reason of ``problems.json``.
        text: what is wrong with it, and what to do.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(f"not a usable image: {text}")
        self.reason = reason


def decode(data: bytes) -> Image.Image:
    """An image file as RGB, upright; alpha is dropped, as in the official Diffusion-DPO code.

    The EXIF orientation is applied, and 16-bit gray is scaled from 0 … 65535 to 0 … 255.

    Raises:
        ValueError: damaged, truncated, absurdly large, no image of a format that is decoded, or
            (``RefusedPixelsError``) several frames or numbers of unknown range.
    """
    return _eight_bits(upright(_loaded(data, whole=True))).convert("RGB")


def _loaded(data: bytes, whole: bool) -> Image.Image:
    """An image file, all bytes of it read.

    Args:
        data: the file.
        whole: False to decode a JPEG at an eighth of its size, which reads every byte too.

    Raises:
        ValueError: as :func:`decode`.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Pillow only warns of sizes up to twice its limit; a pair is not worth a gigabyte of pixels.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
            frames = getattr(image, "n_frames", 1) if image.format in _WITH_FRAMES else 1
            if not whole:
                image.draft("RGB", (1, 1))  # no effect on other formats, which are decoded in full
            image.load()
    except MemoryError:
        raise
    except UnidentifiedImageError:
        raise ValueError(f"not a readable image: none of the formats {', '.join(_FORMATS)}") from None
    # Pillow's decoders trust the numbers in a file: a damaged one ends in any kind of error.
    except Exception as error:
        raise ValueError(f"not a readable image: {reason(error)}") from None
    if frames > 1:
        raise RefusedPixelsError(
            "several_frames", f"an animation or pages, {frames} pictures in one file; save the one that is meant"
        )
    if image.mode == "I" and image.format == "PPM":
        raise RefusedPixelsError(
            "unsupported_pixels", "a PGM with more than 8 bits, which is not read; save it as PNG with 8 or 16 bits"
        )
    if image.mode in _UNKNOWN_RANGE:
        raise RefusedPixelsError(
            "unsupported_pixels",
            "32-bit or floating-point pixels, of which no range is known; save it with 8 or 16 bits",
        )
    return image


def image_problem(data: bytes) -> str | None:
    """Why a file is no usable image, a reason of ``problems.json``; None if it is one.

    The whole file is decoded. JPEGs are decoded at an eighth of their size, which reads every byte.
    """
    if is_pointer(data):
        return "lfs_pointer"
    try:
        _loaded(data, whole=False)
    except RefusedPixelsError as error:
        return error.reason
    except ValueError:
        return "corrupt_image"
    return None


def upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation says that it is to be seen; as it is where that is missing or damaged."""
    from PIL import Image

    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    turn = turns.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1, upright, where it is missing or damaged."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, struct.error):  # a damaged block of metadata
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """The same picture in 8 bits where Pillow would cut off all above 255."""
    if image.mode not in _SIXTEEN_BITS:
        return image
    import numpy as np
    from PIL import Image

    values = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


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

    Keys know image files beside a list by name and size alone, so each is compared with what the data stage read:
    another file of the same name and size would be used in the place of the first.

    Args:
        source: the data set.
        pairs: source_row (ascending), winner_uid and loser_uid, as stage data wrote them; None compares nothing.

    Attributes:
        decoded: how many images were decoded.
    """

    def __init__(self, source: PairSource, pairs: pa.Table | None = None) -> None:
        self.source = source
        self.decoded = 0
        self._pairs = pairs
        self._rows = None if pairs is None else pairs["source_row"].to_numpy()
        self._last: tuple[int, Image.Image] | None = None

    def bytes_of(self, number: int) -> bytes:
        """The image file as it is in the source.

        Raises:
            UserError: it is gone, or not the one that the data stage read.
        """
        source_row, is_loser = divmod(number, 2)
        data = self.source.image_bytes(source_row)[is_loser]
        if self._pairs is not None and self._rows is not None:
            side = "loser" if is_loser else "winner"
            uid = self._pairs[f"{side}_uid"][int(self._rows.searchsorted(source_row))].as_py()
            if image_uid(data) != uid:
                raise UserError(
                    f"source row {source_row}, {side}: not the image file that the data stage read; put that one back, "
                    "or give the other one a name of its own in the list"
                )
        return data

    def unreadable(self, number: int, error: ValueError) -> UserError:
        """The error for an image that was readable when the data stage saw it."""
        source_row, is_loser = divmod(number, 2)
        side = "loser" if is_loser else "winner"
        return UserError(f"source row {source_row}, {side}: {error}; run the data stage again")

    def image(self, number: int) -> Image.Image:
        """The image as RGB.

        Raises:
            UserError: it does not decode, or is another one; the source has changed since the data stage.
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
