"""Plans of tuned sweeps: first the trials, then the report with what they chose, by what is finished alone."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from ablations.grid.expand import BASE, TRIAL
from ablations.grid.spec import read_sweep
from ablations.planning import cells as listing
from ablations.planning.explain import explain
from ablations.planning.needed import progress_lines
from ablations.planning.plan import Plan, make_plan
from ablations.recovery.gc import find_garbage
from ablations.store.artefacts import Store
from ablations.store.states import states
from qsd.errors import UserError
from tests.ablations import tuned_stages
from tests.ablations.tuned import CHOSEN, SWEEP, TRIALS, chosen, diverge, finish, first_plan, plan_now


def trained(plan: Plan) -> list[str]:
    """Labels of the report's trained cells that have stages."""
    return [cell.label for cell in plan.cells if cell.role != BASE and cell.stages]


def test_a_sweep_without_tune_has_no_trials(world: Path, store: Store) -> None:
    plan = plan_now(store, SWEEP[: SWEEP.index("tune:")])
    assert plan.tuning is None
    assert not plan.trials
    assert len(trained(plan)) == 6


def test_every_cell_has_equally_many_trials_of_its_own(world: Path, store: Store) -> None:
    plan = plan_now(store)
    assert len(plan.trials) == TRIALS
    per_cell = Counter(trial.axes["loss.name"] for trial in plan.trials)
    assert set(per_cell.values()) == {12}
    assert len({trial.stages["evaluate"].key for trial in plan.trials}) == TRIALS
    for trial in plan.trials:
        assert trial.role == TRIAL
        assert trial.values["evaluation.splits"] == ["validation"]
        assert trial.values["evaluation.scorers"] == ["clip_emoji_b"]
        assert trial.values["seed"] in (100, 101)
    assert not trained(plan), "the keys of the report are unknown until the choice"
    assert {node.stage for node in plan.nodes.values()} >= {"train", "evaluate"}


def test_the_report_follows_when_all_trials_are_finished(world: Path, store: Store) -> None:
    first = plan_now(store)
    finish(store, first.trials, but=[first.trials[0].label])
    waiting = plan_now(store)
    assert not trained(waiting)
    assert waiting.tuning is not None
    assert waiting.tuning.record.finished == TRIALS - 1

    finish(store, first.trials)
    after = plan_now(store)
    assert chosen(after) == CHOSEN
    assert len(trained(after)) == 6
    for cell in after.cells:
        if cell.role != BASE:
            assert {name: cell.values[name] for name in CHOSEN[cell.name]} == CHOSEN[cell.name]
            assert cell.values["seed"] in (0, 1)
            assert cell.values["evaluation.splits"] == ["evaluation"]
            assert dict(cell.axes) == {"loss.name": cell.values["loss.name"], **CHOSEN[cell.name]}
    assert set(first.nodes) <= set(after.nodes), "trials stay a part of the plan, so gc and status know them"
    assert {cell.name for cell in after.cells} == {cell.name for cell in first.cells}, "names do not depend on it"


def test_the_report_has_the_keys_of_a_sweep_with_these_values(world: Path, store: Store) -> None:
    finish(store, plan_now(store).trials)
    tuned = plan_now(store)
    plain = SWEEP[: SWEEP.index("tune:")].replace("[dpo, ipo, sft]", "[dpo]")
    fixed = first_plan(
        plain.replace("overrides: {", "overrides: {loss.beta: 1000, training.learning_rate: 1e-3, "), "f"
    )
    key = listing.find_cell(fixed, "loss=dpo seed 1").stages["evaluate"].key
    assert listing.find_cell(tuned, "loss=dpo seed 1").stages["evaluate"].key == key


@pytest.mark.slow
def test_the_order_in_which_trials_finish_changes_nothing(world: Path, store: Store) -> None:
    plan = plan_now(store)
    trials = list(plan.trials)
    random.Random(3).shuffle(trials)
    for trial in trials:
        finish(store, [trial])
    other = Store(world / "other", tuned_stages.key_of)
    finish(other, plan.trials)
    assert chosen(plan_now(store)) == chosen(plan_now(other))
    assert list(plan_now(store).nodes) == list(plan_now(other).nodes)


def test_a_setting_with_a_diverged_seed_is_never_chosen(world: Path, store: Store) -> None:
    plan = plan_now(store)
    best = [listing.find_cell(plan, f"loss=dpo/beta=1000,learning_rate={rate} seed 101") for rate in ("0.001", "0.002")]
    finish(store, plan.trials, but=[trial.label for trial in best])
    for trial in best:
        diverge(store, trial)
    after = plan_now(store)
    assert after.tuning is not None
    assert chosen(after)["loss=dpo"] == {"loss.beta": 500, "training.learning_rate": 1e-3}, (
        "as good as (2000, 1e-3), and first"
    )
    dpo = after.tuning.record.cells["loss=dpo"]
    assert [setting.state for setting in dpo.settings].count("diverged") == 2
    assert after.tuning.record.finished == TRIALS, "a diverged training is finished"
    assert len(trained(after)) == 6


def test_a_cell_of_which_every_setting_diverged_is_named(world: Path, store: Store) -> None:
    plan = plan_now(store)
    ipo = [trial for trial in plan.trials if trial.axes["loss.name"] == "ipo"]
    finish(store, [trial for trial in plan.trials if trial not in ipo])
    for trial in ipo:
        diverge(store, trial)
    after = plan_now(store)
    assert not trained(after)
    assert progress_lines(after)[-1].strip() == (
        "no setting of loss=ipo can be chosen: all 6 diverged; give it other values in 'tune' (sweeps/losses.yaml:11:5)"
    )


def test_what_every_cell_is_for(world: Path, store: Store) -> None:
    plan = plan_now(store)
    finish(store, plan.trials, but=[plan.trials[0].label])
    waiting = plan_now(store)
    baseline = listing.find_cell(waiting, None)
    line = "after the tuning: its setting, and so its stages, are known then (35 of 36 trials are finished)"
    assert {entry["name"]: entry["tuning"] for entry in listing.listed(waiting)}["loss=dpo"] == line
    assert next(iter(explain(waiting, baseline, store, states(store, waiting.nodes)))).startswith("loss=dpo seed 0")
    head = progress_lines(waiting)[0]
    assert head == (
        "tuning: 36 trials (3 cells x 6 settings x 2 seeds) by clip_emoji_b on 6 prompts of split validation; 35 "
        "finished; then every cell is trained for the report with its best setting"
    )
    finish(store, plan.trials)
    after = plan_now(store)
    entries = {(entry["name"], entry["seed"]): entry["tuning"] for entry in listing.listed(after)}
    assert entries["loss=dpo", 0].startswith("chosen by tuning: loss.beta 1000, training.learning_rate 0.001 (0.")
    assert entries["loss=dpo/beta=500,learning_rate=0.002", 101].startswith(
        "setting 2 of 6 of loss=dpo, with tuning seed 101: not chosen ("
    )
    lines = progress_lines(after)
    assert lines[0].endswith("all finished; chosen:")
    assert "  best at the edge of loss.beta, the largest value that was tried: widen the range (loss=ipo)" in lines
    assert len(listing.as_csv(after).splitlines()) == 1 + TRIALS + 6 + 1
    assert "loss=dpo/beta=500,learning_rate=0.002" in listing.as_csv(after)
    assert "after tuning" in "\n".join(listing.as_table(waiting))
    json.dumps(listing.listed(after))


def test_gc_keeps_the_trials(world: Path, store: Store) -> None:
    plan = plan_now(store)
    finish(store, plan.trials)
    after = plan_now(store)
    finish(store, after.cells)
    assert not [item for item in find_garbage(store, Path("sweeps"), tuned_stages).items if item.kind == "artefacts"]
    Path("sweeps/losses.yaml").write_text(SWEEP[: SWEEP.index("tune:")])
    unneeded = {
        item.key for item in find_garbage(store, Path("sweeps"), tuned_stages).items if item.kind == "artefacts"
    }
    assert {trial.stages["train"].key for trial in plan.trials} <= unneeded, "so the test above can fail"


def test_damaged_scores_are_named(world: Path, store: Store) -> None:
    plan = plan_now(store)
    finish(store, plan.trials)
    key = plan.trials[5].stages["evaluate"].key
    path = store.artefact("evaluate", key) / "scores.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=f"{key}.*is not"):
        plan_now(store)


def test_looks_follow_the_tuning(world: Path, store: Store) -> None:
    text = SWEEP.replace("seeds: [0, 1]\n", "seeds: {looks: [2, 3], margin: 0.1}\n")
    plan = plan_now(store, text)
    assert plan.looks is None
    finish(store, plan.trials)
    first = plan_now(store, text)
    assert first.looks is not None
    assert len(trained(first)) == 6
    finish(store, first.cells)
    second = plan_now(store, text)
    assert second.looks is not None
    assert second.looks.record.taken == 1
    assert set(second.looks.record.cells) == {"loss=ipo", "loss=sft"}, "trials are no comparisons"


REFUSED = {
    "no entry": (
        SWEEP.replace("loss.name: sft}", "loss.name: kto}"),
        "11:5: no entry holds for cell 'loss=sft', but every cell is tuned",
    ),
    "two entries": (
        SWEEP.replace("when: {loss.name: sft}, ", ""),
        "12:7: this entry holds for cell 'loss=dpo', and so",
    ),
    "an entry for nothing": (
        SWEEP.replace(
            "    - {when: {loss.name: sft}",
            "    - {when: {loss.name: kto}, loss.beta: [1, 2, 3, 4, 5, 6]}\n    - {when: {loss.name: sft}",
        ),
        "12:7: this entry holds for no cell of the sweep",
    ),
    "a field that a cell ignores": (
        SWEEP.replace(
            "training.learning_rate: [1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 4e-3]",
            "loss.beta: [500, 1000, 2000], training.learning_rate: [1e-3, 2e-3]",
        ),
        "12:7: the 6 settings of cell 'loss=sft' are only 2 different ones: its stages do not read loss.beta; give",
    ),
    "another judge": (
        SWEEP.replace("judge: clip_emoji_b", "judge: judge_emoji"),
        "13:10: 'judge_emoji' is not in eval",
    ),
    "a judge that selected": (
        SWEEP.replace("judge: clip_emoji_b", "judge: clip_emoji"),
        "13:10: 'clip_emoji' selected the training pairs of cell 'loss=dpo', so it would choose what it was trained to",
    ),
    "a symptom as judge": (
        SWEEP.replace("judge: clip_emoji_b", "judge: texture").replace("[clip_emoji_b", "[texture, clip_emoji_b"),
        "13:10: 'texture' is no judge",
    ),
    "the report's split": (
        SWEEP.replace("split: validation", "split: evaluation"),
        "14:10: cell 'loss=dpo' is evaluated",
    ),
    "no such split": (
        SWEEP.replace("split: validation", "split: validate"),
        "14:10: world/prompts.csv: no prompt of split",
    ),
    "too many trials": (
        SWEEP.replace("seeds: [100, 101]", f"seeds: [{', '.join(map(str, range(100, 6000)))}]"),
        "9:11: 3 cells x 6 settings x 5900 seeds are 106,200 trials; at most 100,000",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_tuning_that_does_not_fit_the_cells_is_refused(name: str, world: Path) -> None:
    text, message = REFUSED[name]
    with pytest.raises(UserError) as caught:
        first_plan(text)
    assert str(caught.value).startswith(f"sweeps/losses.yaml:{message}")


def test_a_prompt_in_both_splits_is_refused(world: Path) -> None:
    first_plan()
    path = Path("world/prompts.csv")
    text = path.read_text() + "v99,A  held-out thing 3,validation\n"
    path.write_text(text)
    with pytest.raises(
        UserError, match=r"losses.yaml:14:10: the caption a held-out thing 3 is in split 'validation' and"
    ):
        make_plan(read_sweep(Path("sweeps/losses.yaml")), tuned_stages)


def test_seeds_of_the_command_line_may_not_be_those_of_the_tuning(world: Path, store: Store) -> None:
    first_plan()
    sweep = replace(read_sweep(Path("sweeps/losses.yaml")), seeds=(0, 101))
    with pytest.raises(UserError, match=r"losses.yaml:15:10: seed 101 is also a seed of the report"):
        make_plan(sweep, tuned_stages)
