"""Resume by shard: long work in fixed pieces, each written once and never half.

The pieces depend on ``total`` and ``size`` alone, so an interrupted run continues with the same pieces and ends in
the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qsd.files import write_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pyarrow as pa

    from qsd.runtime import Report


def sharded(
    folder: Path,
    total: int,
    size: int,
    compute: Callable[[int, int], pa.Table],
    report: Report,
    unit: str,
) -> Iterator[pa.Table]:
    """Tables of ``compute(start, stop)`` for all shards in order, from ``folder`` where they are there already.

    Args:
        folder: where the shards are kept.
        total: items of the whole work.
        size: items of a shard; the last has fewer.
        compute: items ``start`` to ``stop - 1`` -> a table.
        report: told after every shard.
        unit: of the items.
    """
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, total, size):
        stop = min(start + size, total)
        path = folder / f"{start:010d}.parquet"
        if not path.exists():
            write_table(path, compute(start, stop))
        report(stop, total, unit)
        yield pq.read_table(path)
