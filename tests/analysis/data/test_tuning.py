"""What was tuned, as it is written down: the choice, its edges, and results that must not be shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.data.sweep import Replicate, SweepFolder, read_sweep
from analysis.data.tuned_apart import check_apart
from analysis.data.tuning import (
    DIVERGED,
    SCORED,
    Trial,
    TriedSetting,
    TunedCell,
    Tuning,
    choose,
    prompt_digest,
    read_tuning,
    tuning_as_json,
)
from analysis.statistics.factors import grid_of
from qsd.errors import UserError
from tests.analysis.synthetic import usual_world, write_sweep


def scored(score: float | None, **values: Any) -> TriedSetting:
    state = DIVERGED if score is None else SCORED
    return TriedSetting(values, state, score, () if score is None else (score, score), 2)


def tuned_cell(*settings: TriedSetting) -> TunedCell:
    return TunedCell(settings, choose(settings))


def test_the_highest_score_is_chosen_and_of_equal_ones_the_first() -> None:
    assert choose([scored(0.1), scored(0.3), scored(0.2)]) == 1
    assert choose([scored(0.1), scored(0.3), scored(0.3)]) == 1
    assert choose([scored(None), scored(-2.0), scored(None)]) == 1, "a diverged setting is never chosen"
    assert choose([scored(None), scored(None)]) is None


def test_an_edge_needs_three_numbers_that_were_tried() -> None:
    low = tuned_cell(scored(3, beta=1, rate=0.1), scored(2, beta=2, rate=0.2), scored(1, beta=3, rate=0.1))
    assert low.edges == [("beta", "smallest")], "rate has two values, so every choice is at an edge"
    assert tuned_cell(scored(1, beta=1), scored(2, beta=2), scored(3, beta=3)).edges == [("beta", "largest")]
    assert not tuned_cell(scored(1, beta=1), scored(3, beta=2), scored(2, beta=3)).edges
    assert not tuned_cell(*(scored(x, name=name) for x, name in enumerate("abc"))).edges, "text has no order"
    assert not tuned_cell(scored(None, beta=1), scored(None, beta=2), scored(None, beta=3)).edges


def test_captions_are_compared_by_content() -> None:
    assert prompt_digest(" A  bee,\tnoto style") == prompt_digest("a bee, noto Style")
    assert prompt_digest("a bee") != prompt_digest("a bee.")


def tuning(captions: tuple[str, ...] = ("a tuned prompt",)) -> Tuning:
    cell = tuned_cell(scored(0.1, beta=1), scored(0.2, beta=2))
    return Tuning(
        budget=2,
        sampler="grid",
        judge="judge",
        unit="logit",
        split="validation",
        prompts=len(captions),
        prompt_digests=tuple(sorted(map(prompt_digest, captions))),
        seeds=(100, 101),
        cells={"metric=product": cell},
        trials=(Trial("metric=product/beta=1", 100, {"train": "t" * 32, "evaluate": "e" * 32}),),
        grid="g",
    )


def test_what_is_written_is_read_again() -> None:
    written = tuning()
    assert read_tuning(json.loads(json.dumps(tuning_as_json(written)))) == written
    assert read_tuning(None) is None


def sweep(tmp_path: Path) -> SweepFolder:
    folder = write_sweep(tmp_path / "runs", usual_world(pictures=False))
    return replace(read_sweep(folder), tuning=tuning())


def changed(of: SweepFolder, **values: Any) -> SweepFolder:
    """The sweep with another first replicate."""
    first: Replicate = replace(of.replicates[0], **values)
    return replace(of, replicates=(first, *of.replicates[1:]))


def test_results_of_other_prompts_and_seeds_are_shown(tmp_path: Path) -> None:
    check_apart(sweep(tmp_path), {"evaluation": ["a held-out prompt", "another"]})


def test_a_prompt_that_was_tuned_on_is_refused_whatever_its_id_and_split(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"on prompts of split evaluation that they were tuned on \('A tuned  prompt'\)"
    ):
        check_apart(sweep(tmp_path), {"evaluation": ["a held-out prompt", "A tuned  prompt"]})


def test_a_tuning_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'metric=product' seed 101 was trained with a tuning seed"):
        check_apart(changed(sweep(tmp_path), seed=101), {})


def test_a_training_of_a_trial_is_refused(tmp_path: Path) -> None:
    of = sweep(tmp_path)
    stages = {**of.replicates[0].stages, "train": "t" * 32}
    with pytest.raises(UserError, match="'metric=product' seed 0 is the training of trial 'metric=product/beta=1'"):
        check_apart(changed(of, stages=stages), {})


def test_the_base_model_may_be_scored_anywhere(tmp_path: Path) -> None:
    of = sweep(tmp_path)
    base = next(replicate for replicate in of.replicates if replicate.role == "base")
    check_apart(replace(of, replicates=(*of.replicates, replace(base, seed=100))), {})


def test_what_was_tuned_is_no_factor_of_the_sweep(tmp_path: Path) -> None:
    of = sweep(tmp_path)
    cells = [replicate for replicate in of.replicates if replicate.role == "grid"]
    crossed = tuple(
        replace(cell, name=f"{cell.name},{rank}", axes={**cell.axes, "lora.rank": rank, "beta": number % 2})
        for number, (cell, rank) in enumerate((cell, rank) for cell in cells for rank in (4, 8, 16))
    )
    assert "beta" in {
        axis for each in grid_of(replace(of, replicates=crossed, tuning=None)).factors for axis in each.axes
    }
    assert {axis for each in grid_of(replace(of, replicates=crossed)).factors for axis in each.axes} == {
        "quality.metric",
        "lora.rank",
    }
