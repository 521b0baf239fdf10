"""Work in shards: the cut, what is computed again, and what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from qsd.shards import Shard, cut, sharded_tables, write_missing

if TYPE_CHECKING:
    from pathlib import Path


def test_the_cut_depends_on_total_and_size_alone() -> None:
    assert list(cut(5, 2)) == [Shard(0, 0, 2), Shard(1, 2, 4), Shard(2, 4, 5)]
    assert list(cut(4, 2)) == [Shard(0, 0, 2), Shard(1, 2, 4)]
    assert list(cut(0, 2)) == []


def test_only_what_is_missing_is_written_and_each_is_reported_once_it_is_there() -> None:
    there, events = {1}, []

    def write(shard: Shard) -> None:
        there.add(shard.number)
        events.append(f"write {shard.number}")

    for shard in write_missing(5, 2, lambda shard: shard.number in there, write):
        events.append(f"there {shard.number}")
    assert events == ["write 0", "there 0", "there 1", "write 2", "there 2"]


def test_an_interrupted_run_goes_on_after_the_last_complete_shard(tmp_path: Path) -> None:
    computed: list[int] = []

    def compute(start: int, stop: int) -> pa.Table:
        if start == 4 and len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(start)
        return pa.table({"row": list(range(start, stop))})

    def rows() -> list[int]:
        tables = sharded_tables(tmp_path / "rows", 7, 2, compute, lambda *_: None, "rows")
        return [row for table in tables for row in table["row"].to_pylist()]

    with pytest.raises(KeyboardInterrupt):
        rows()
    computed.append(-1)
    assert rows() == list(range(7))
    assert computed == [0, 2, -1, 4, 6]
    assert sorted(path.name for path in (tmp_path / "rows").iterdir()) == [
        f"{start:010d}.parquet" for start in (0, 2, 4, 6)
    ]
