"""Resume by shard: long work cut into fixed pieces, each written once and in one step.

The cut depends on ``total`` and ``size`` alone, so an interrupted run continues with the same pieces and ends in the
same bytes. Stages data, encode and generate, and the HPS v2 benchmark, are cut so; what a file holds and when it counts
as there is theirs to say. Two stores look alike and are not cut so: shards of scores follow the bounds of images and
are filled by several processes at once, out of order (``qsd.scoring.compute``), and reference errors have no total,
for their files are named after their content (``qsd.reference.store``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow.parquet as pq

from qsd.files import write_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pyarrow as pa

    from qsd.runtime import Report


class Shard(NamedTuple):
    """The items ``start`` to ``stop - 1`` of some work; ``number`` counts shards from 0."""

    number: int
    start: int
    stop: int


def cut(total: int, size: int) -> Iterator[Shard]:
    """The shards of ``total`` items, ``size`` in each; the last may have fewer."""
    for number, start in enumerate(range(0, total, size)):
        yield Shard(number, start, min(start + size, total))


def write_missing(
    total: int, size: int, is_there: Callable[[Shard], bool], write: Callable[[Shard], None]
) -> Iterator[Shard]:
    """Yield every shard in order once it is there; those that are not are written first."""
    for shard in cut(total, size):
        if not is_there(shard):
            write(shard)
        yield shard


def sharded_tables(
    folder: Path,
    total: int,
    size: int,
    compute: Callable[[int, int], pa.Table],
    report: Report,
    unit: str,
) -> Iterator[pa.Table]:
    """Tables of ``compute(start, stop)`` for all shards in order, from ``folder`` where they are there already.

    Args:
        folder: where the shards are kept, as ``0000000000.parquet``, named after their first item.
        total: items of all shards.
        size: items of a shard; the last may have fewer.
        compute: items ``start`` to ``stop - 1`` -> a table.
        report: called after every shard.
        unit: of the items.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def path(shard: Shard) -> Path:
        return folder / f"{shard.start:010d}.parquet"

    def write(shard: Shard) -> None:
        write_table(path(shard), compute(shard.start, shard.stop))

    for shard in write_missing(total, size, lambda shard: path(shard).exists(), write):
        report(shard.stop, total, unit)
        yield pq.read_table(path(shard))
