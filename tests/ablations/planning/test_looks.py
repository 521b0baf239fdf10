"""Plans limited to the seeds that are needed: a pure function of what is finished."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from ablations.commands.plan_display import print_plan
from ablations.grid.expand import BASE
from ablations.planning import cells as listing
from ablations.planning.look_lines import look_lines, seed_line
from ablations.planning.looks import limited
from ablations.recovery.gc import find_garbage
from ablations.running import finalize
from ablations.store.artefacts import Store
from qsd.errors import UserError
from tests.ablations import scoring_stages
from tests.ablations.looked_at import SWEEP, diverge, finish, plan_now, reasons, seeds, whole_plan

OPEN3 = {"rank=4": 3, "rank=8": 3, "rank=16": 3, "rank=32": 3}


def test_without_looks_a_plan_stays_what_it_is(world: Path, store: Store) -> None:
    fixed = whole_plan(SWEEP.replace("{looks: [3, 4, 6], margin: 0.1}", "[0, 1, 2]"))
    assert limited(fixed, store) is fixed


def test_the_stages_are_those_of_a_fixed_list_of_seeds(world: Path) -> None:
    fixed = whole_plan(SWEEP.replace("{looks: [3, 4, 6], margin: 0.1}", "[0, 1, 2, 3, 4, 5]"), "fixed")
    assert list(whole_plan().nodes) == list(fixed.nodes)


def test_cells_get_seeds_while_they_are_open(world: Path, store: Store) -> None:
    first = plan_now(store)
    assert seeds(first) == OPEN3
    assert first.looks is not None
    assert first.looks.record.taken == 0

    finish(store, first, but=["rank=32 seed 1"])
    assert seeds(plan_now(store)) == OPEN3, "a look is taken when it is complete"

    finish(store, first)
    second = plan_now(store)
    assert reasons(second) == {"rank=8": "different", "rank=16": "equivalent", "rank=32": "open"}
    assert seeds(second) == {"rank=4": 4, "rank=8": 3, "rank=16": 3, "rank=32": 4}
    assert sum(cell.role == BASE for cell in second.cells) == 1

    finish(store, second)
    third = plan_now(store)
    assert seeds(third) == {"rank=4": 6, "rank=8": 3, "rank=16": 3, "rank=32": 6}
    finish(store, third)
    last = plan_now(store)
    assert seeds(last) == seeds(third)
    assert reasons(last) == {"rank=8": "different", "rank=16": "equivalent", "rank=32": "undecided"}
    assert last.looks is not None
    assert (last.looks.record.needed, last.looks.record.most) == (18, 24)


@pytest.mark.slow
def test_the_order_in_which_seeds_finish_changes_nothing(world: Path, store: Store) -> None:
    """All seeds are there, as from a sweep with a fixed list: the same is decided, and no more is needed."""
    plan = whole_plan()
    labels = [cell.label for cell in plan.cells]
    random.Random(3).shuffle(labels)
    for label in labels:
        finish(store, plan, but=[other for other in labels if other != label])
    all_there = plan_now(store)
    other = Store(world / "other", scoring_stages.key_of)
    for _ in range(3):
        finish(other, plan_now(other))
    assert plan_now(other).looks == all_there.looks
    assert seeds(all_there) == {"rank=4": 6, "rank=8": 3, "rank=16": 3, "rank=32": 6}


def test_a_diverged_training_stops_its_cell(world: Path, store: Store) -> None:
    first = plan_now(store)
    finish(store, first, but=["rank=32 seed 2"])
    diverge(store, listing.find_cell(first, "rank=32 seed 2"))
    after = plan_now(store)
    assert reasons(after) == {"rank=8": "different", "rank=16": "equivalent", "rank=32": "diverged"}
    assert seeds(after) == OPEN3


def test_a_diverged_baseline_stops_all(world: Path, store: Store) -> None:
    first = plan_now(store)
    finish(store, first, but=["rank=4 seed 0"])
    diverge(store, listing.find_cell(first, "rank=4 seed 0"))
    assert set(reasons(plan_now(store)).values()) == {"baseline diverged"}


def test_a_baseline_that_diverges_later_ends_the_comparisons_of_before(world: Path, store: Store) -> None:
    """Tables compare nothing with it, so no line may say that a cell is different or equivalent."""
    finish(store, plan_now(store))
    second = plan_now(store)
    finish(store, second, but=["rank=4 seed 3"])
    diverge(store, listing.find_cell(second, "rank=4 seed 3"))
    after = plan_now(store)
    assert set(reasons(after).values()) == {"baseline diverged"}
    assert seeds(after) == seeds(second), "no training more, and none less"
    assert after.looks is not None
    cells = after.looks.record.cells
    assert [cell.look for cell in cells.values()] == [1, 1, 2]
    assert all(cell.estimate is None and cell.difference is None for cell in cells.values())


def test_only_the_baseline(world: Path, store: Store) -> None:
    text = SWEEP.replace("[4, 8, 16, 32]", "[4]")
    assert seeds(plan_now(store, text)) == {"rank=4": 3}
    finish(store, plan_now(store, text))
    assert seeds(plan_now(store, text)) == {"rank=4": 3}


def test_damaged_scores_are_named(world: Path, store: Store) -> None:
    first = plan_now(store)
    finish(store, first)
    key = listing.find_cell(first, "rank=8 seed 1").stages["evaluate"].key
    path = store.artefact("evaluate", key) / "scores.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=f"{key}.*is not"):
        plan_now(store)


def test_seeds_that_are_not_needed_are_garbage(world: Path, store: Store) -> None:
    plan = whole_plan()
    finish(store, plan)
    needed = {cell.label for cell in plan_now(store).cells}
    unneeded = {cell.stages["evaluate"].key for cell in plan.cells if cell.label not in needed}
    items = find_garbage(store, Path("sweeps"), scoring_stages).items
    assert {item.key for item in items if item.kind == "artefacts"} == unneeded
    assert len(unneeded) == 6


def test_what_every_seed_is_for(world: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    finish(store, plan_now(store))
    plan = plan_now(store)
    assert plan.looks is not None
    lines = {cell.label: seed_line(plan.looks, cell) for cell in plan.looks.grid.cells}
    assert lines["rank=8 seed 2"] == "stopped at look 1 of 3 (3 seeds): different from the baseline"
    assert lines["rank=8 seed 3"] == "not needed: stopped at look 1 of 3 (3 seeds): different from the baseline"
    assert lines["rank=16 seed 5"].endswith("within 0.1 of the baseline")
    assert lines["rank=32 seed 3"] == "open: look 2 of 3"
    assert lines["rank=32 seed 4"] == lines["rank=4 seed 5"] == "later: only if it is still open after look 2"
    assert lines["rank=4 seed 3"].startswith("baseline")
    assert len(listing.as_csv(plan).splitlines()) == 1 + 4 * 6 + 1
    assert "not needed" in "\n".join(listing.as_table(plan))
    assert json.dumps(listing.listed(plan)).count("not needed") == 6
    assert look_lines(plan.looks) == [
        "seeds in looks of 3, 4, 6: look 2 (4 seeds) is under way, 1 comparison is open; at most 4 trainings after it",
        "  rank=8: stopped at look 1 of 3 (3 seeds): different from the baseline",
        "  rank=16: stopped at look 1 of 3 (3 seeds): within 0.1 of the baseline",
    ]
    assert listing.find_cell(plan, "rank=8 seed 5").seed == 5
    from ablations.cost.estimate import estimate, find_site
    from ablations.planning.plan import summary
    from ablations.store.states import states

    state_of = states(store, plan.nodes)
    costs = estimate(plan, store, state_of, find_site("local", None, "cpu"))
    print_plan(
        plan, summary(plan, state_of) | {"estimate": costs | {"assumed": []}, "ahead": [], "power": {"unknown": "no"}}
    )
    assert "look 2 (4 seeds) is under way" in capsys.readouterr().out


@pytest.mark.slow
def test_what_was_decided_is_written_down_and_the_table_stays_where_it_is(
    world: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(store, plan_now(store))
    folder = finalize.write_cells(plan_now(store), store, "c0ffee")
    table = finalize.table_text(store, folder)
    assert "rank=8: stopped at look 1 of 3 (3 seeds): different from the baseline" in table
    assert "14 of 24 trainings are needed so far" in table
    verdict = " ".join(table.split())
    assert "1 of 3 compared cells differs from the baseline rank=4 (intervals of the looks, together 95 %, p" in verdict
    assert "rank=16 is within 0.1 of the baseline rank=4; rank=32 is still open and gets further seeds." in verdict
    finish(store, plan_now(store))
    finish(store, plan_now(store))
    finalize.write_cells(plan_now(store), store, "c0ffee")
    assert not (folder / "earlier").exists(), "more seeds of the same sweep are no other sweep"
    content = json.loads((folder / "cells.json").read_text())
    assert content["looks"]["cells"]["rank=32"]["reason"] == "undecided"
    text = finalize.table_text(store, folder)
    assert "rank=32: stopped at look 3 of 3 (6 seeds): the last look; neither different nor within 0.1" in text
    assert "18 of 24 trainings were needed: 25 % saved by stopping" in text
    assert "rank=32 cannot be distinguished from the baseline rank=4: a true difference of" in " ".join(text.split())
    markdown = (folder / "table.md").read_text()
    assert "| 1 of 3: different |" in markdown
    assert "**the interval of the look at which the cell stopped**" in markdown
    capsys.readouterr()
    finalize.write_cells(plan_now(store, SWEEP.replace("0.1}", "0.2}")), store, "c0ffee")
    assert (folder / "earlier").exists(), "another margin decides otherwise"
