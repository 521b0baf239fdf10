"""A training that diverged is a result: recorded as one, not tried again, and no failure of the run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ablations.cost.estimate import Site, estimate
from ablations.files import write_json
from ablations.inspection.status import status, status_lines
from ablations.planning.cells import find_cell
from ablations.planning.plan import Plan
from ablations.recovery.failures import failures
from ablations.recovery.retry import causes_of, choose
from ablations.running.display import Lines
from ablations.running.local import run
from ablations.store.artefacts import Store
from ablations.store.attempts import diverged, outcome
from ablations.store.divergence import notice, with_followers
from ablations.store.states import states
from tests.ablations import fake_stages
from tests.ablations.conftest import Planner
from tests.ablations.faults import faulty
from tests.ablations.local_run import PRELOAD, run_plan

DIVERGES, FAILS = 608, 610
"""Values of ``loss.beta`` (``tests.ablations.faults``)."""
REASON = "training diverged: loss is nan at step 3; lower training.learning_rate"


def trainings(plan: Plan, name: str) -> list[str]:
    return [cell.stages["train"].key for cell in plan.cells if cell.name == name]


def attempts_at(store: Store, key: str) -> int:
    folder = store.attempts("train", key)
    return len(list(folder.iterdir())) if folder.is_dir() else 0


@pytest.fixture
def ended(plan_of: Planner, store: Store, fake_log: Path) -> Plan:
    """A sweep that has run: one cell is finished, one diverged, one failed."""
    plan = plan_of(faulty(DIVERGES, FAILS))
    result = run_plan(plan, store)
    assert [each.label for each in result.diverged] == ["train beta=608 seed 0"]
    assert [each.label for each in result.failures] == ["train beta=610 seed 0"]
    assert result.diverged[0].blocked == 2
    return plan


@pytest.mark.slow
def test_a_divergence_is_recorded_as_a_fact_and_has_its_own_state(ended: Plan, store: Store) -> None:
    (key,), (failed,) = trainings(ended, "beta=608"), trainings(ended, "beta=610")
    ending = outcome(store.attempts("train", key) / "1")
    other = outcome(store.attempts("train", failed) / "1")
    assert ending is not None
    assert other is not None
    assert (ending["state"], ending["reason"], ending["error"]["diverged"]) == ("failed", REASON, True)
    assert other["error"]["diverged"] is False
    state_of = states(store, ended.nodes)
    assert [state_of[node.key] for node in find_cell(ended, "beta=608").stages.values()][3:] == [
        "diverged",
        "blocked",
        "blocked",
    ]
    assert state_of[failed] == "failed"


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        ({"error": {"type": "ValueError", "diverged": True}, "reason": "x"}, True),
        ({"error": {"type": "qsd.errors.UserError", "diverged": False}, "reason": REASON}, False),
        ({"error": {"type": "qsd.training.jsonl_log.NonFiniteLossError"}, "reason": "x"}, True),
        ({"error": {"type": "qsd.errors.UserError"}, "reason": "3 of 9 scores are not finite numbers"}, False),
        ({"reason": REASON}, True),
        ({"error": None, "reason": "killed by SIGKILL"}, False),
    ],
)
def test_records_with_and_without_the_field(ending: dict[str, object], expected: bool) -> None:
    assert diverged({"state": "failed", **ending}) is expected
    assert not diverged({"state": "interrupted", **ending})


@pytest.mark.slow
def test_the_next_run_tries_the_failed_stage_again_and_not_the_diverged_one(
    ended: Plan, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    (key,), (failed,) = trainings(ended, "beta=608"), trainings(ended, "beta=610")
    result = run_plan(ended, store)
    assert (attempts_at(store, key), attempts_at(store, failed)) == (1, 2)
    assert result.diverged == []
    total = len(ended.nodes) - 3
    assert f"{total} stages, {total - 3} done, 3 to run" in capsys.readouterr().out


@pytest.mark.slow
def test_a_retry_must_ask_for_it_by_cause_or_by_cell(ended: Plan, store: Store) -> None:
    (key,), (failed,) = trainings(ended, "beta=608"), trainings(ended, "beta=610")
    cell = [find_cell(ended, "beta=608")]
    default = choose(ended, store, causes_of(None, None))
    assert key not in default.keys
    assert failed in default.keys
    assert default.others == 1
    by_cause, by_cell = (
        choose(ended, store, causes_of("non-finite", None)),
        choose(ended, store, causes_of(None, cell), cell),
    )
    assert by_cause.keys == by_cell.keys == {node.key for node in list(cell[0].stages.values())[3:]}
    result = run(ended, store, Lines(sys.stdout), 2, table=fake_stages.HERE, preload=PRELOAD, only=by_cause.keys)
    assert attempts_at(store, key) == 2
    assert (len(result.diverged), result.failures) == (1, [])


@pytest.mark.slow
def test_a_retry_of_what_failed_before_a_divergence_leaves_the_divergence(ended: Plan, store: Store) -> None:
    """The input of a diverged training is gone and failed since: with it, the training is not tried again."""
    cell = find_cell(ended, "beta=608")
    encode = cell.stages["encode"]
    store.artefact("encode", encode.key).rename(store.root / "gone")
    write_json(store.attempts("encode", encode.key) / "9" / "exit.json", {"state": "failed", "reason": "x"})
    keys = choose(ended, store, causes_of(None, None)).keys
    assert encode.key in keys
    assert cell.stages["train"].key not in keys


@pytest.mark.slow
def test_another_sweep_with_the_same_training_does_not_try_it_either(
    ended: Plan, plan_of: Planner, store: Store
) -> None:
    other = plan_of(faulty(DIVERGES), "other")
    result = run_plan(other, store)
    assert (result.ran, result.failures, result.diverged) == (0, [], [])
    assert attempts_at(store, trainings(other, "beta=608")[0]) == 1


@pytest.mark.slow
def test_it_is_shown_and_costs_nothing_any_more(ended: Plan, store: Store) -> None:
    overview = status(ended, store)
    assert [(entry["label"], entry["reason"]) for entry in overview["diverged"]] == [("train beta=608 seed 0", REASON)]
    assert [entry["label"] for entry in overview["failures"]] == ["train beta=610 seed 0"]
    assert {cell["name"]: cell["state"] for cell in overview["cells"]} == {
        "beta=100": "done",
        "beta=608": "diverged",
        "beta=610": "failed",
        "base": "done",
    }
    text = "\n".join(status_lines(overview))
    assert f"diverged: train beta=608 seed 0: {REASON}" in text
    assert "'ablate retry a --cause non-finite'" in text
    causes = {group["cause"] for group in failures(ended, store)["groups"]}
    assert causes == {"non-finite", "user-code"}
    left = estimate(ended, store, states(store, ended.nodes), Site("local", 2, lambda _stage: 0))["stages"]
    assert {stage: kind["left"] for stage, kind in left.items() if kind["left"]} == dict.fromkeys(
        ("train", "generate", "evaluate"), 1
    )


def test_followers_and_the_notice(plan_of: Planner) -> None:
    plan = plan_of(faulty(1, 2))
    (train,) = trainings(plan, "beta=1")
    keys = with_followers(plan.nodes, [train])
    assert sorted(plan.label(plan.nodes[key]) for key in keys) == [
        f"{stage} beta=1 seed 0" for stage in ("evaluate", "generate", "train")
    ]
    assert notice("a", [f"cell {number}" for number in range(9)]).endswith(
        "cell 5; and 3 more ('ablate retry a --cause non-finite' runs it again)"
    )
