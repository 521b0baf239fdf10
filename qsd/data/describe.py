"""A data set in numbers: counts, problems, resolutions, captions, annotators."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qsd.data.examine import examine_rows
from qsd.data.pairs import PreferencePair, SourceRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qsd.data.source import PairSource
    from qsd.stages.context import Report


@dataclass
class Description:
    """What :func:`describe` counts."""

    rows: int = 0
    pairs: set[str] = field(default_factory=set)
    problems: Counter[str] = field(default_factory=Counter)
    images: dict[str, tuple[int, int]] = field(default_factory=dict)
    captions: Counter[str] = field(default_factory=Counter)
    annotators: Counter[str] = field(default_factory=Counter)

    def add(self, row: SourceRow, found: tuple[str, str] | PreferencePair) -> None:
        """Count one row."""
        self.rows += 1
        if not isinstance(found, PreferencePair):
            self.problems[found[1]] += 1
            return
        if found.pair_id in self.pairs:
            self.problems["duplicate_pair"] += 1
            return
        self.pairs.add(found.pair_id)
        self.captions[found.caption] += 1
        if found.annotator_id is not None:
            self.annotators[found.annotator_id] += 1
        for uid, data in ((found.winner_uid, row.winner), (found.loser_uid, row.loser)):
            if uid not in self.images and data:
                self.images[uid] = _size(data)

    def lines(self) -> Iterator[str]:
        """The description as text, one fact a line."""
        yield f"rows              {self.rows:,}"
        yield f"pairs             {len(self.pairs):,}"
        for reason, count in sorted(self.problems.items()):
            yield f"  {reason:<15} {count:,}"
        yield f"unique images     {len(self.images):,} in {2 * len(self.pairs):,} places"
        for (width, height), count in Counter(self.images.values()).most_common(5):
            yield f"  {f'{width} x {height}':<15} {count:,}"
        yield f"unique captions   {len(self.captions):,}"
        if self.captions:
            words = sorted(len(caption.split()) for caption in self.captions)
            yield f"  words           {words[0]} to {words[-1]}, median {words[len(words) // 2]}"
        if self.annotators:
            most = self.annotators.most_common(1)[0][1]
            yield f"annotators        {len(self.annotators):,}, the busiest with {most:,} pairs"
        else:
            yield "annotators        not given"


def describe(source: PairSource, threads: int, report: Report) -> Description:
    """Look at every row once; image sizes and captions of pairs are held, images are not."""
    description = Description()
    for row, found in examine_rows(source, 0, len(source), threads):
        description.add(row, found)
        report(description.rows, len(source), "rows")
    return description


def _size(data: bytes) -> tuple[int, int]:
    from PIL import Image

    return Image.open(io.BytesIO(data)).size
