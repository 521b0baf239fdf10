"""Records taken apart into start-up and time per item, by hand-made numbers."""

from __future__ import annotations

import pytest

from ablations.cost.record_estimate import Destination, RecordEstimate, estimate_from_records
from ablations.cost.timings import Timing
from qsd.stages.stage_spec import Work

HERE = Destination(on_slurm=False, on_gpu=False)
DEMO = 20_000


def pairs(amount: float) -> Work:
    return Work(amount, "pairs", amount)


def records(*points: tuple[float, float], starts: int = 1, on_gpu: bool = False) -> list[Timing]:
    """One record for each (pairs, seconds)."""
    return [Timing(seconds, 100, pairs(amount), False, on_gpu, starts) for amount, seconds in points]


def judged(timings: list[Timing], amount: float = DEMO, rate: float = 0.0, place: Destination = HERE) -> RecordEstimate:
    estimate = estimate_from_records(timings, pairs(amount), place, rate)
    assert estimate is not None
    return estimate


def test_two_sizes_give_start_up_and_time_per_item() -> None:
    """12 s + 0.05 s per pair, whatever the model says."""
    timings = records((100, 17.0), (1000, 62.0))
    for rate in (0.0, 10.0):
        estimate = judged(timings, rate=rate)
        assert estimate.parts == (pytest.approx((12.0, 0.05)),) * 2
        assert estimate.seconds(DEMO) == pytest.approx(12 + 1000)
        assert estimate.seconds(DEMO, processes=4) == pytest.approx(12 + 250)
        assert not estimate.modelled


def test_a_record_keeps_its_own_time_and_no_part_is_negative() -> None:
    """A line through these two would start at -2 s."""
    estimate = judged(records((100, 8.0), (400, 38.0)))
    assert estimate.parts == (pytest.approx((0.0, 0.095)), pytest.approx((0.0, 0.08)))
    assert all(part >= 0 for record in estimate.parts for part in record)


def test_one_record_of_a_busy_machine_among_many_does_not_decide() -> None:
    timings = records((100, 15.0), (200, 20.0), (400, 30.0), (800, 50.0), (150, 300.0))
    assert judged(timings).seconds(DEMO) == pytest.approx(10 + 0.05 * DEMO, rel=0.1)


@pytest.mark.parametrize(
    "points",
    [
        [(8, 3.1), (8, 3.0), (8, 3.3)],
        [(8, 3.1), (9, 3.0), (10, 3.3)],
        [(4, 3.1), (8, 3.0), (16, 3.3)],
        [(4, 3.3), (8, 3.1), (16, 3.0)],
        [(2, 9.0), (2, 8.2), (2, 10.8)],
        [(8, 3.0)],
    ],
)
@pytest.mark.parametrize("rate", [0.0, 0.02, 0.1])
def test_tiny_records_do_not_make_hours(points: list[tuple[float, float]], rate: float) -> None:
    """Per pair these took 0.2 to 5 s: 1 to 28 h for 20,000 pairs, had that been work. The model has up to 0.1 s."""
    estimate = judged(records(*points), rate=rate)
    assert estimate.seconds(DEMO) < 3600
    assert estimate.seconds(points[0][0]) == pytest.approx(sorted(s for _, s in points)[len(points) // 2], rel=0.15)


def test_what_tiny_records_hide_is_the_models() -> None:
    estimate = judged(records((8, 3.0), (8, 3.2), (8, 3.1)), rate=0.02)
    assert estimate.modelled
    assert estimate.seconds(DEMO) == pytest.approx(3.1 - 8 * 0.02 + DEMO * 0.02)
    assert estimate.mostly_modelled(DEMO)
    assert not estimate.mostly_modelled(16)


def test_a_long_record_is_work_whatever_the_model_says() -> None:
    """Of 1,060 s at most 60 are start-up."""
    assert judged(records((1000, 1060.0)), amount=10_000, rate=1e-6).seconds(10_000) == pytest.approx(60 + 10_000)


def test_every_start_of_a_record_is_counted() -> None:
    """Two attempts of two processes: 4 x 12 s, and 0.05 s per pair in all."""
    timings = records((100, 4 * 12 + 5), (1000, 4 * 12 + 50), starts=4)
    assert judged(timings).parts == (pytest.approx((12.0, 0.05)),) * 2


def test_records_of_a_cpu_do_not_count_for_a_gpu_nor_the_other_way_round() -> None:
    cpu, gpu = records((100, 500.0)), records((100, 20.0), on_gpu=True)
    on_gpu = Destination(on_slurm=True, on_gpu=True)
    assert estimate_from_records(cpu, pairs(100), on_gpu, 1.0) is None
    assert estimate_from_records(gpu, pairs(100), HERE, 1.0) is None
    estimate = judged(cpu + gpu, 100, 1.0, on_gpu)
    assert (estimate.seconds(100), estimate.records, estimate.same_place) == (pytest.approx(20), 1, False)
    indifferent = judged(cpu, 100, 1.0, Destination(on_slurm=True, on_gpu=None))
    assert indifferent.seconds(100) == pytest.approx(500), "a stage that uses no GPU anywhere"
