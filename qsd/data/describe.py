"""A data set in numbers: counts, problems, duplicates, resolutions, captions, annotators."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qsd.data.examine import examine_rows
from qsd.data.images import SIDEWAYS, orientation
from qsd.data.pairs import PreferencePair, SourceRow, pair_id
from qsd.data.votes import Judgements

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from qsd.data.source import PairSource
    from qsd.runtime import Report

CLIP_WORDS = 75
"""CLIP reads 77 tokens, two of which mark start and end; a caption with more words is certainly cut."""

_SHOWN_SIZES = 5


@dataclass
class Description:
    """The counts of :func:`describe`. It keeps ids, captions and sizes in memory, but no images."""

    rows: int = 0
    pairs: set[str] = field(default_factory=set)
    judgements: Judgements = field(default_factory=Judgements)
    opposite: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    images: dict[str, tuple[int, int]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    captions: Counter[str] = field(default_factory=Counter)
    annotators: Counter[str] = field(default_factory=Counter)

    def add(self, row: SourceRow, result: tuple[str, str] | PreferencePair) -> None:
        """Count one row."""
        self.rows += 1
        if not isinstance(result, PreferencePair):
            self.problems[result[1]] += 1
            return
        repeated = self.judgements.add(result.pair_id, result.annotator_id)
        if repeated != "duplicate_pair" and result.annotator_id is not None:
            self.annotators[result.annotator_id] += 1
        if repeated:
            self.problems[repeated] += 1
            return
        self.pairs.add(result.pair_id)
        self.opposite += pair_id(result.caption, result.loser_uid, result.winner_uid) in self.pairs
        self.captions[result.caption] += 1
        sides = ((result.winner_uid, row.winner, row.winner_name), (result.loser_uid, row.loser, row.loser_name))
        for uid, data, name in sides:
            if uid not in self.images and data:
                self.images[uid] = _size(data)
            if name is not None:
                self.names[name] = uid

    def lines(self, annotators: Iterable[str] = ()) -> Iterator[str]:
        """The description as text, one fact per line; ``annotators``: what the layout says of people no row names."""
        yield f"rows              {self.rows:,}"
        yield f"pairs             {len(self.pairs):,}"
        for reason, count in sorted(self.problems.items()):
            yield f"  {reason:<19} {count:,}"
        if self.opposite:
            yield f"  opposite opinions   {self.opposite:,} (same caption and images, other winner; data.votes decides)"
        yield f"unique images     {len(self.images):,} in {2 * len(self.pairs):,} places"
        if copies := len(self.names) - len(set(self.names.values())):
            yield f"  copies              {copies:,} (same content under another name)"
        yield from self._sizes()
        yield from self._captions()
        if self.annotators:
            most = self.annotators.most_common(1)[0][1]
            yield f"annotators        {len(self.annotators):,}, the busiest with {most:,} pairs"
        else:
            yield from list(annotators) or ["annotators        not given"]

    def _sizes(self) -> Iterator[str]:
        sizes = Counter(self.images.values())
        for (width, height), count in sizes.most_common(_SHOWN_SIZES):
            yield f"  {f'{width} x {height}':<19} {count:,}"
        if len(sizes) > _SHOWN_SIZES:
            sides = sorted(min(size) for size in self.images.values())
            others = len(sizes) - _SHOWN_SIZES
            yield f"  {others:,} further sizes; shorter side {sides[0]} to {sides[-1]}, median {sides[len(sides) // 2]}"

    def _captions(self) -> Iterator[str]:
        yield f"unique captions   {len(self.captions):,}"
        if not self.captions:
            return
        words = sorted(len(caption.split()) for caption in self.captions)
        yield f"  words               {words[0]:,} to {words[-1]:,}, median {words[len(words) // 2]:,}"
        if long := sum(count > CLIP_WORDS for count in words):
            yield f"  over {CLIP_WORDS} words       {long:,} (CLIP cuts them)"
        yield f"  pairs per caption   {len(self.pairs) / len(self.captions):.1f}, most {max(self.captions.values()):,}"


def describe(source: PairSource, threads: int, report: Report) -> Description:
    """Count every row of a source; reads and decodes each image once."""
    description = Description()
    for row, result in examine_rows(source, 0, len(source), threads):
        description.add(row, result)
        report(description.rows, len(source), "rows")
    return description


def _size(data: bytes) -> tuple[int, int]:
    from PIL import Image

    image = Image.open(io.BytesIO(data))
    width, height = image.size
    return (height, width) if orientation(image) in SIDEWAYS else (width, height)
