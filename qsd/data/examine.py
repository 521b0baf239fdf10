"""Look at every row of a source once: is it a pair, and which?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

from qsd.data import text_table, votes
from qsd.data.images import image_problem
from qsd.data.only import LEFT_OUT
from qsd.data.pairs import PreferencePair, SourceRow, image_uid, pair_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qsd.data.source import PairSource

HARMLESS = ("tie", "no_label", LEFT_OUT, *votes.REASONS)
"""Reasons that are no damage: they do not count against ``data.max_rejected_fraction``."""

REASONS = {
    "tie": "both images were liked equally: no pair, and no damage",
    "no_label": "no choice was made between the two images (has_label is false): no pair, and no damage",
    LEFT_OUT: "the column that data.only names is false in this row: not used, and no damage",
    "label_out_of_range": "the label is no choice between two images; see docs/data.md for what the layout allows",
    "uneven_lists": "there are not as many labels as images",
    "single_image": "a ranking of one image makes no pair",
    **text_table.PROBLEMS,
    "empty_caption": "there is no caption",
    "undecodable_caption": "the caption holds characters that are none (halves of surrogate pairs)",
    "missing_image": "no such file, or no bytes in it",
    "path_outside_folder": "the path leads out of the data folder: absolute (also C:\\), by .. or by a link",
    "unreadable_image": "the file is there and cannot be read: its rights, the disk, links in a circle, or encryption",
    "not_a_file": "a pipe, a device or a socket, which is not read",
    "too_large": "the file has more than 256 MiB, also unpacked from an archive",
    "lfs_pointer": "a git-lfs pointer instead of the image; run 'git lfs pull' where the data was cloned",
    "corrupt_image": "the file is damaged, cut off, or no image of a format that is read (docs/data.md)",
    "several_frames": "an animation, or a file with several pages; save the picture that is meant",
    "unsupported_pixels": "32-bit or floating-point pixels, of which no range is known, or a PGM of 16 bits; save it "
    "as PNG with 8 or 16 bits",
    "identical_images": "winner and loser are the same file content",
    "duplicate_pair": "the same caption, winner and loser came before",
    **votes.REASONS,
}
"""Reason why a row is no pair -> its explanation."""

_ROWS_IN_MEMORY = 32


def problem_of(row: SourceRow) -> str | None:
    """Why a row is no usable pair, or None.

    A key of :data:`REASONS`: first what the reader reports, then those about the caption, then those about images.
    """
    if row.problem is not None:
        return row.problem
    if row.caption is None or not row.caption.strip():
        return "empty_caption"
    if not _is_encodable(row.caption):
        return "undecodable_caption"
    if not row.winner or not row.loser:
        return "missing_image"
    if row.winner == row.loser:  # before decoding, which is slow
        return "identical_images"
    return image_problem(row.winner) or image_problem(row.loser)


def _is_encodable(caption: str) -> bool:
    try:
        caption.encode()
    except UnicodeEncodeError:
        return False
    return True


def examine(row: SourceRow) -> tuple[str, str] | PreferencePair:
    """The pair that a row holds; or (its name, the reason), a key of :data:`REASONS`, where it is none."""
    problem = problem_of(row)
    if problem is not None:
        return row.name, problem
    assert row.caption is not None
    assert row.winner is not None
    assert row.loser is not None
    winner, loser = image_uid(row.winner), image_uid(row.loser)
    return PreferencePair(pair_id(row.caption, winner, loser), row.caption, winner, loser, row.annotator, row.number)


def examine_rows(
    source: PairSource, start: int, stop: int, threads: int
) -> Iterator[tuple[SourceRow, tuple[str, str] | PreferencePair]]:
    """Rows ``start`` to ``stop - 1`` with what they are, in order; a few dozen rows are held at a time."""
    rows = source.rows(start, stop)  # read by this thread alone; only decoding is shared out
    with ThreadPoolExecutor(threads) as pool:
        while chunk := list(islice(rows, _ROWS_IN_MEMORY)):
            yield from zip(chunk, pool.map(examine, chunk), strict=True)
