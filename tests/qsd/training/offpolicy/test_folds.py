"""Cross-fitting: folds of the pairs, what is trained on without one, and what is judged then."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from qsd.config.load import defaults
from qsd.errors import UserError
from qsd.files import read_table, write_table
from qsd.stages.data import run as data
from qsd.stages.encode import run as encode
from qsd.stages.score import run as score
from qsd.stages.select import run as select_stage
from qsd.stages.train import off_policy
from qsd.stages.train import run as train
from qsd.training.offpolicy.detection import Detection
from qsd.training.offpolicy.folds import FOLDS, MOST_PAIRS, folds_of, trained_share
from tests.qsd import tiny_world
from tests.qsd.tiny_stages import PAIRS, TinyStages, pair_ids, select, trainer

if TYPE_CHECKING:
    from pathlib import Path

IDS = [f"{row * 7919:016x}" for row in range(3000)]


def test_folds_are_nearly_equal_and_depend_on_the_id_alone() -> None:
    folds = folds_of(IDS)
    counts = np.bincount(folds, minlength=FOLDS)
    assert len(counts) == FOLDS
    assert (abs(counts - 600) < 3 * np.sqrt(0.16 * 3000)).all()
    some = IDS[50:10:-3]
    assert folds_of(some).tolist() == [int(folds[IDS.index(name)]) for name in some]
    assert (trained_share(None), trained_share(3)) == (1.0, pytest.approx(0.8))


@pytest.fixture
def noisy(world: TinyStages, tmp_path: Path) -> TinyStages:
    """The tiny world with every third label flipped."""
    folder = select(tmp_path / "noisy", pair_ids(world))
    selected = read_table(folder / "selected.parquet")
    flips = pa.array([row % 3 == 0 for row in range(selected.num_rows)])
    write_table(folder / "selected.parquet", selected.append_column("flipped", flips))
    return world.with_inputs(select=folder)


def usable(world: TinyStages) -> list[int]:
    """The folds that have some of the few pairs."""
    return sorted(set(folds_of(pair_ids(world)).tolist()))


@pytest.mark.slow
def test_every_pair_is_judged_once_by_a_model_that_was_not_trained_on_it(noisy: TinyStages, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"data__flip_fraction": 30.0, "training__detection_draws": 2, "training__steps": 2}
    names, judged = pair_ids(noisy), []
    flips = dict(zip(names, (row % 3 == 0 for row in range(len(names))), strict=True))
    for fold in usable(noisy):
        method = trainer(noisy, training__held_out_fold=fold, **settings).method
        folder = noisy.run(train, tmp_path / str(fold), training__held_out_fold=fold, **settings)
        detection = Detection.read(folder)
        assert sorted(detection.pair_ids) == sorted(set(names) - set(method.stream.pair_ids))
        assert detection.flipped.tolist() == [flips[name] for name in detection.pair_ids]
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["pairs"] == len(names) - len(detection.pair_ids)
        assert summary["detector"]["held_out_fold"] == fold
        assert summary["detector"]["draws"] == 2
        assert (summary["detector"]["scorer"], summary["detector"]["judge"]) == ("clip_emoji", None)
        judged += detection.pair_ids
    assert sorted(judged) == sorted(names)


@pytest.mark.slow
@pytest.mark.parametrize("only", [None, "follows"])
@pytest.mark.parametrize("normalizer", ["step", "timestep"])
def test_the_study_of_sweep_label_noise_detection_in_small(
    world: TinyStages, tmp_path: Path, normalizer: str, only: str | None
) -> None:
    """All stages from the list of pairs to the detector, with the settings of the sweep."""
    rows = [{**row, "follows": number % 4 > 0} for number, row in enumerate(tiny_world.good_rows(PAIRS))]
    settings: dict[str, Any] = {
        "data__path": str(tiny_world.write_rows(tmp_path / "pairs.parquet", rows)),
        "data__only": only,
        "data__judge_agrees": "follows",
        "data__flip_fraction": 40.0,
        "selection__strategy": "random",
        "selection__fraction": 100.0,
        "loss__name": "adaptive_dpo",
        "loss__adaptive_normalizer": normalizer,
        "training__detection_draws": 4,
    }
    for name, stage in (("data", data), ("score", score), ("select", select_stage), ("encode", encode)):
        world = world.with_inputs(**{name: world.run(stage, tmp_path / name, **settings)})
    names = pair_ids(world)
    assert len(names) == (PAIRS if only is None else 3 * PAIRS // 4)
    fold = int(np.bincount(folds_of(names)).argmax())
    detection = Detection.read(world.run(train, tmp_path / "train", training__held_out_fold=fold, **settings))
    pairs = read_table(tmp_path / "data" / "pairs.parquet")
    agrees = dict(zip(names, pairs["judge_agrees"].to_pylist(), strict=True))
    expected = [float(not agrees[name]) for name in detection.pair_ids] != detection.flipped
    assert (detection.contradicts_judge == expected).all()
    if only:
        assert (detection.contradicts_judge == detection.flipped).all(), "the judge finds every flip"
    for values in detection.suspicions().values():
        assert np.isfinite(values).all()


def test_a_fold_with_none_or_all_of_the_pairs_is_refused(world: TinyStages, tmp_path: Path) -> None:
    names = pair_ids(world)
    folds = folds_of(names)
    fold = int(folds[0])
    inside = [name for name, number in zip(names, folds, strict=True) if number == fold]
    only = world.with_inputs(select=select(tmp_path / "inside", inside))
    with pytest.raises(UserError, match=f"held_out_fold is {fold}, and all of the {len(inside)} selected pairs are in"):
        trainer(only, training__held_out_fold=fold)
    with pytest.raises(UserError, match=f"and none of the {len(inside)} selected pairs are in this fold"):
        trainer(only, training__held_out_fold=(fold + 1) % FOLDS)


def test_draws_of_a_detection_are_read_only_where_there_is_one() -> None:
    def read(**values: object) -> bool:
        flat = {**defaults(), **{name.replace("__", "."): value for name, value in values.items()}}
        return "training.detection_draws" in off_policy.reads(flat)

    assert not read()
    assert read(data__flip_fraction=20.0)
    assert read(loss__name="adaptive_dpo")
    assert not read(data__flip_fraction=20.0, data__relabel="scores")


def test_the_price_of_an_epoch_is_that_of_the_pairs_that_are_trained_on() -> None:
    class Counted:
        def selected(self, _values: object) -> float:
            return 1000.0

    values = {**defaults(), "model.path": "m", "training.budget": "epochs", "training.pairs_per_step": 10}
    counts: Any = Counted()
    whole = off_policy.work(values, counts).amount
    assert off_policy.work({**values, "training.held_out_fold": 1}, counts).amount == pytest.approx(0.8 * whole)


def test_the_price_of_a_training_has_that_of_the_search_for_flips() -> None:
    class Counted:
        def selected(self, _values: object) -> float:
            return 2000.0

    def price(**values: object) -> float:
        flat = {**defaults(), "model.path": "m", "training.steps": 10, "training.pairs_per_step": 10, **values}
        counts: Any = Counted()
        return off_policy.work(flat, counts).amount

    flips, folds = {"data.flip_fraction": 20.0}, {"training.held_out_fold": 1, "training.detection_draws": 4}
    assert price(**flips) - price() == pytest.approx(2 * 2 * MOST_PAIRS)
    assert price(**flips, **folds) - price() == pytest.approx(2 * 2 * 400 * 4)
    adaptive = {"loss.name": "adaptive_dpo"}
    without = price(**adaptive, **{"data.relabel": "scores"})
    assert price(**adaptive, **folds) - without == pytest.approx(2 * 4 * 400 * 4)
