"""The choices that a reward model learns from: examined once, dealt into folds by caption, streamed without end.

Position p of the stream is choice ``order(epoch)[p mod N]`` of epoch ``p div N``: a step is known by its number alone,
in one process or in many, and a resumed run needs nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from qsd.data.examine import HARMLESS, examine
from qsd.data.image_files import RefusedImageError
from qsd.data.images import decode
from qsd.data.listed import ListedPairs
from qsd.data.pairs import PreferencePair, SourceRow, image_uid
from qsd.data.problems import Problems
from qsd.data.source import PairSource
from qsd.data.votes import Judgements
from qsd.draws import epoch_order, uniforms
from qsd.errors import UserError
from qsd.files import read_table, texts, write_table
from qsd.reward_training.schema import ChoicesConfig
from qsd.rewards.preprocess import Preprocess
from qsd.runtime import Report

FILE, PROBLEMS = "choices.parquet", "problems.json"
_ROWS_IN_MEMORY = 64


@dataclass(frozen=True)
class Choices:
    """N choices between two images, the preferred one first."""

    ids: list[str]
    captions: list[str]
    uids: list[tuple[str, str]]
    """Of the two images."""
    rows: npt.NDArray[np.int64]
    """[N] in the source."""
    ties: npt.NDArray[np.bool_]
    """[N] true where neither image is preferred."""

    def __len__(self) -> int:
        return len(self.ids)

    def chosen(self, mask: npt.NDArray[np.bool_]) -> Choices:
        """Those where ``mask`` [N] is true."""
        places = np.flatnonzero(mask)
        return Choices(
            [self.ids[place] for place in places],
            [self.captions[place] for place in places],
            [self.uids[place] for place in places],
            self.rows[mask],
            self.ties[mask],
        )

    def of_caption(self) -> npt.NDArray[np.float64]:
        """[N] number of choices with the same caption."""
        _, inverse, counts = np.unique(self.captions, return_inverse=True, return_counts=True)
        return counts[inverse].astype(np.float64)


def examined(source: PairSource, config: ChoicesConfig, ties: bool, threads: int, output: Path, report: Report) -> None:
    """Examine every row once; write ``choices.parquet`` and ``problems.json``. Nothing damaged is learnt from.

    Args:
        source: the data set.
        config: section ``choices``.
        ties: whether ties are choices too; else they are left out, and counted.
        threads: that decode images.
        output: folder for the two files.
        report: progress.

    Raises:
        UserError: no choice, or more damaged rows than the bound allows.
    """
    problems, seen, rows = Problems(), Judgements(), list[dict[str, object]]()
    for number, (row, choice, tie) in enumerate(examined_rows(source, ties, threads)):
        report(number + 1, len(source), "rows")
        if not isinstance(choice, PreferencePair):
            problems.add(choice[1], choice[0])
        elif repeated := seen.add(choice.pair_id, choice.annotator_id):
            problems.add(repeated, row.name)
        else:
            rows.append({**vars(choice), "tie": tie})
    bound = config.max_rejected_fraction
    problems.check_bound(config.path, len(source), bound, HARMLESS, "choices.max_rejected_fraction")
    if not rows:
        raise UserError(f"{config.path}: no choice among {len(source)} rows")
    problems.write(output / PROBLEMS)
    write_table(output / FILE, pa.Table.from_pylist(rows).drop_columns(["annotator_id"]))


def examined_rows(
    source: PairSource, ties: bool, threads: int
) -> Iterator[tuple[SourceRow, tuple[str, str] | PreferencePair, bool]]:
    """Every row with what it is, in order, and whether it is a tie; ``ties``: their images are examined too."""

    def examine_row(row: SourceRow) -> tuple[SourceRow, tuple[str, str] | PreferencePair, bool]:
        tie = row.problem == "tie"
        row = _as_choice(source, row) if ties and tie else row
        return row, examine(row), tie

    rows = source.rows(0, len(source))
    with ThreadPoolExecutor(threads) as pool:
        while chunk := list(islice(rows, _ROWS_IN_MEMORY)):
            yield from pool.map(examine_row, chunk)


def _as_choice(source: PairSource, row: SourceRow) -> SourceRow:
    """A tie as if its first image were preferred, with the images that a list of pairs does not read for ties."""
    if not isinstance(source, ListedPairs):
        return replace(row, problem=None)
    try:
        winner, loser = (source.images.read(name or "") for name in (row.winner_name, row.loser_name))
    except RefusedImageError as refused:
        return replace(row, problem=refused.reason)
    return replace(row, winner=winner, loser=loser, problem=None)


def read(folder: Path) -> Choices:
    """What :func:`examined` wrote."""
    table = read_table(folder / FILE)
    ids, captions, winners, losers = (texts(table[name]) for name in ("pair_id", "caption", "winner_uid", "loser_uid"))
    uids = list(zip(winners, losers, strict=True))
    return Choices(ids, captions, uids, table["source_row"].to_numpy(), table["tie"].to_numpy())


def held_out(choices: Choices, config: ChoicesConfig, seed: int) -> npt.NDArray[np.bool_]:
    """[N] true for the choices of the held-out fold; all choices of a caption are in one fold.

    Raises:
        UserError: no such fold, or one side is empty.
    """
    if config.folds == 0:
        return np.zeros(len(choices), dtype=bool)
    if config.folds < 2 or config.fold >= config.folds:
        raise UserError(f"choices.fold {config.fold} of choices.folds {config.folds}: at least 2 folds, counted from 0")
    fold = np.floor(uniforms(choices.captions, seed, "fold of a caption") * config.folds)
    held: npt.NDArray[np.bool_] = fold == config.fold
    if held.all() or not held.any():
        raise UserError(
            f"choices.folds {config.folds}: {held.sum()} of {len(held)} choices are held out; take fewer folds"
        )
    return held


class ChoiceStream:
    """An endless, randomly accessible stream of choices.

    Args:
        choices: what is drawn from.
        weights: of the choices [N], > 0.
        seed: of the order.
    """

    def __init__(self, choices: Choices, weights: npt.NDArray[np.float64], seed: int) -> None:
        self.choices = choices
        self.weights = weights
        self._seed = seed
        self._order = lru_cache(2)(self._order_of)

    def places(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Which choice is at each position ``start`` to ``stop - 1``."""
        positions = (divmod(position, len(self.choices)) for position in range(start, stop))
        return np.array([self._order(epoch)[offset] for epoch, offset in positions], dtype=np.int64)

    def _order_of(self, epoch: int) -> npt.NDArray[np.int64]:
        return epoch_order(self.choices.ids, self._seed, epoch)


class ChoicePixels:
    """Preprocessed images of choices; the most recently used stay in memory.

    Args:
        source: the data set.
        preprocess: of the images.
        cached: how many images stay in memory.
        threads: that decode and resize.
    """

    def __init__(self, source: PairSource, preprocess: Preprocess, cached: int, threads: int) -> None:
        self._source = source
        self._preprocess = preprocess
        self._capacity = cached
        self._cache: dict[str, Tensor] = {}
        self._pool = ThreadPoolExecutor(threads)

    def of(self, choices: Choices, places: Sequence[int] | npt.NDArray[np.int64]) -> Tensor:
        """Pixels [B, 2, 3, S, S] of the choices at ``places``.

        Raises:
            UserError: an image that was examined does not decode any more.
        """
        wanted = {choices.uids[place]: place for place in places if not set(choices.uids[place]) <= self._cache.keys()}
        # Only this thread reads the source, since a parquet file is one stream; the pool decodes.
        files = ((int(choices.rows[place]), uids, self._bytes(choices, place)) for uids, place in wanted.items())
        fresh = self._pool.map(self._pixels, files)
        images = dict(self._cache)
        for uids, pixels in zip(wanted, fresh, strict=True):
            images.update(zip(uids, pixels, strict=True))
        batch = torch.stack([torch.stack([images[uid] for uid in choices.uids[place]]) for place in places])
        # A dictionary keeps the order of insertion: the image used least recently comes first and goes first.
        for uid in (uid for place in places for uid in choices.uids[place]):
            self._cache.pop(uid, None)
            self._cache[uid] = images[uid]
        while len(self._cache) > self._capacity:
            del self._cache[next(iter(self._cache))]
        return batch

    def _pixels(self, read: tuple[int, tuple[str, str], tuple[bytes, bytes]]) -> Tensor:
        row, uids, files = read
        if (image_uid(files[0]), image_uid(files[1])) != uids:
            raise UserError(
                f"source row {row}: not the image files that were listed; the data set has changed, train into a new "
                "folder"
            )
        try:
            return self._preprocess.pixels([decode(data) for data in files])
        except ValueError as error:
            raise UserError(f"source row {row}: {error}; the data set has changed, train into a new folder") from None

    def _bytes(self, choices: Choices, place: int) -> tuple[bytes, bytes]:
        row = int(choices.rows[place])
        if not choices.ties[place]:
            return self._source.image_bytes(row)
        tie = _as_choice(self._source, next(self._source.rows(row, row + 1)))
        if tie.problem or not tie.winner or not tie.loser:
            raise UserError(f"source row {row}: its images are gone; the data set has changed, train into a new folder")
        return tie.winner, tie.loser
