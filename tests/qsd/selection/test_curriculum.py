"""A curriculum: when pairs enter, which epochs there are, and what the stream does with it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsd.draws import pair_draws
from qsd.files import read_table, write_table
from qsd.selection.curriculum import Epochs, available_from
from tests.qsd.tiny_stages import TinyStages, pair_ids, select, trainer

if TYPE_CHECKING:
    from qsd.training.offpolicy.batches import PairBatch

shares = st.floats(0.01, 1)


def test_openings_by_hand() -> None:
    """Half of eight from the start, all at 0.4 of the training: one more pair every tenth."""
    np.testing.assert_allclose(available_from(8, 0.5, 0.4), [0, 0, 0, 0, 0.1, 0.2, 0.3, 0.4], atol=1e-15)
    assert available_from(8, 1.0, 0.4).tolist() == [0] * 8
    np.testing.assert_allclose(available_from(2, 0.1, 1), [0, 1])  # at least one from the start
    assert available_from(1, 0.1, 1).tolist() == [0]


@given(count=st.integers(1, 200), start=shares, full=shares, share=st.floats(0, 1))
def test_the_pool_is_the_stated_share(count: int, start: float, full: float, share: float) -> None:
    opens = available_from(count, start, full)
    assert (np.diff(opens) >= 0).all()
    assert opens.min() == 0
    assert opens.max() <= full
    stated = (start + (1 - start) * min(1, share / full)) * count
    assert abs(max(1, stated) - (opens <= share).sum()) <= 1 + 1e-6


@given(count=st.integers(1, 60), start=shares, full=shares, positions=st.integers(1, 500))
def test_epochs_follow_each_other_and_hold_each_open_pair_once(
    count: int, start: float, full: float, positions: int
) -> None:
    opens = available_from(count, start, full)
    epochs = Epochs(opens, positions)
    expected, epoch, first, size = [], 0, 0, 1
    for position in range(positions + 3 * count):
        if position == 0 or position == first + size:
            epoch, first = (0, 0) if position == 0 else (epoch + 1, position)
            if position < positions:
                size = max(1, int((opens <= position / positions).sum()))
        expected.append((epoch, position - first, size))
    assert [epochs.locate(position) for position in reversed(range(len(expected)))] == expected[::-1]


@given(count=st.integers(1, 50), position=st.integers(0, 1000))
def test_without_a_curriculum_epochs_are_a_division(count: int, position: int) -> None:
    assert Epochs(np.zeros(count), 100).locate(position) == (*divmod(position, count), count)


def opened(world: TinyStages, folder: Path, opens: list[float]) -> TinyStages:
    """The world with a selection that says when its pairs enter."""
    made = select(folder, pair_ids(world)[: len(opens)])
    table = read_table(made / "selected.parquet")
    write_table(made / "selected.parquet", table.append_column("opens", [np.array(opens)]))
    return world.with_inputs(select=made)


def batches(world: TinyStages, steps: list[int], **settings: Any) -> list[PairBatch]:
    stream = trainer(world, training__steps=6, **settings).method.stream
    return [stream.batch(4 * step, 4 * step + 4, "cpu") for step in steps]


def test_the_stream_begins_with_the_best_and_ends_with_all(world: TinyStages, tmp_path: Path) -> None:
    ids = pair_ids(world)[:8]
    growing = opened(world, tmp_path / "select", [0, 0, 0, 0, 0.3, 0.3, 0.3, 0.3])
    stream = [batch.pair_ids for batch in batches(growing, [0, 1, 2, 3, 4, 5])]
    assert sorted(stream[0]) == sorted(stream[1]) == sorted(ids[:4])
    assert sorted(stream[2] + stream[3]) == sorted(ids)  # 2 of 6 steps are past the share 0.3
    counts = Counter(pair for batch in stream for pair in batch)
    assert [counts[pair] for pair in ids] == [4, 4, 4, 4, 2, 2, 2, 2]


@pytest.mark.slow
def test_a_resumed_curriculum_needs_the_step_alone(world: TinyStages, tmp_path: Path) -> None:
    growing = opened(world, tmp_path / "select", [0, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    straight = batches(growing, [0, 1, 2, 3, 4, 5])
    for step in (5, 2, 3):
        again = batches(growing, [step])[0]
        assert again.pair_ids == straight[step].pair_ids
        assert (again.noise == straight[step].noise).all()


def test_a_pair_meets_the_numbers_of_its_epoch(world: TinyStages, tmp_path: Path) -> None:
    growing = opened(world, tmp_path / "select", [0, 0, 0, 0, 0.3, 0.3, 0.3, 0.3])
    batch = batches(growing, [1])[0]
    draws = pair_draws(batch.pair_ids, [1] * 4, 0, batch.noise.shape[1:])
    np.testing.assert_array_equal(batch.noise[:4].numpy(), draws.noise)


@pytest.mark.parametrize("missing", [0, 3])
def test_pairs_without_an_encoding_do_not_hold_up_the_others(world: TinyStages, tmp_path: Path, missing: int) -> None:
    growing = opened(world, tmp_path / "select", [0, 0, 0.1, 0.2, 0.3, 0.4])
    table = read_table(growing.artefacts["select"] / "selected.parquet")
    ids = table["pair_id"].to_pylist()
    ids[:missing] = [f"stranger {number}" for number in range(missing)]
    write_table(growing.artefacts["select"] / "selected.parquet", table.set_column(0, "pair_id", [ids]))
    used = {pair for batch in batches(growing, [0, 1, 2, 3, 4, 5]) for pair in batch.pair_ids}
    assert used == set(ids[missing:])
