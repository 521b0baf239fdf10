"""Triage: real faults in real attempts get their cause, and equal ones one group."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ablations.files import write_json
from ablations.planning.plan import Plan
from ablations.recovery.causes import CAUSES, cause_of, names
from ablations.recovery.failures import failure_lines, failures
from ablations.slurm.query import described
from ablations.store.artefacts import Store
from ablations.store.owner import Owner
from qsd.errors import UserError
from tests.ablations.conftest import SMALL, Planner
from tests.ablations.faults import EXPECTED, FAULTS, faulty
from tests.ablations.local_run import run_plan


@pytest.mark.slow
def test_every_real_fault_gets_its_cause(plan_of: Planner, store: Store, fake_log: Path) -> None:
    plan = plan_of(faulty(*FAULTS))
    run_plan(plan, store, jobs=4)
    report = json.loads(json.dumps(failures(plan, store)))
    causes = {stage["label"]: group["cause"] for group in report["groups"] for stage in group["stages"]}
    assert causes == {f"train beta={beta:g} seed 0": cause for beta, cause in EXPECTED.items()}
    assert report["cells"] == len(FAULTS)
    group = next(group for group in report["groups"] if group["cause"] == "user-code" and group["error"])
    assert group["error"] == "IndexError"
    assert group["example"]["tail"][-1] == "IndexError: list index out of range"
    assert group["place"] == "tests/ablations/faults.py:bug"


@pytest.mark.slow
def test_equal_failures_are_one_group(plan_of: Planner, store: Store, fake_log: Path) -> None:
    plan = plan_of(faulty(605, 610, seeds="[0, 1, 2]"))
    run_plan(plan, store)
    report = failures(plan, store)
    assert [(group["cause"], len(group["cells"])) for group in report["groups"]] == [("disk-full", 3), ("user-code", 3)]
    text = "\n".join(failure_lines(report))
    assert text.startswith("6 cells, 2 causes\n\n3 cells: disk full or over quota [disk-full ")
    assert "OSError: [Errno 28] No space left on device" in text
    assert "  | IndexError: list index out of range" in text
    assert "remedy: free space ('ablate gc'), then retry --cause disk-full" in text


def test_nothing_failed(plan_of: Planner, store: Store) -> None:
    assert list(failure_lines(failures(plan_of(SMALL), store))) == ["a@tiny: nothing has failed"]


STOPPED = {"state": "interrupted", "reason": "stopped by SIGUSR2", "signal": "SIGUSR2", "error": None}


@pytest.mark.parametrize(
    ("ending", "word", "expected"),
    [
        (None, "OUT_OF_MEMORY", "host-oom"),
        (None, "TIMEOUT", "timed-out"),
        (None, "NODE_FAIL", "node-failure"),
        (None, "PREEMPTED", "preempted"),
        (None, "CANCELLED", "cancelled"),
        (None, "GONE", "lost"),
        (None, None, "lost"),
        (STOPPED, None, "preempted"),
        (STOPPED, "TIMEOUT", "timed-out"),
        (STOPPED | {"signal": "SIGTERM"}, None, "cancelled"),
        (STOPPED | {"signal": "SIGTERM"}, "PREEMPTED", "preempted"),
        ({"state": "failed", "reason": "killed by SIGKILL"}, "OUT_OF_MEMORY", "host-oom"),
        ({"state": "failed", "reason": "killed by SIGKILL"}, "NODE_FAIL", "node-failure"),
        ({"state": "failed", "reason": "no progress: stopped at 3 of 9 steps again"}, None, "no-progress"),
        ({"state": "failed", "reason": "ended with status 3 and no artefact"}, None, "user-code"),
    ],
)
def test_what_the_scheduler_knows(ending: dict[str, object] | None, word: str | None, expected: str) -> None:
    assert cause_of(ending, described("12_0", word) if word else None) == expected


def lose(plan: Plan, store: Store, **owner: object) -> None:
    node = next(node for node in plan.nodes.values() if node.stage == "train")
    fields = Owner.here().fields() | owner
    write_json(store.attempts("train", node.key) / "1" / "attempt.json", {"owner": fields, "slurm": None})
    write_json(store.claims.folder / node.key / "1", {"owner": fields})


def test_a_restarted_machine_is_told_from_a_silent_death(plan_of: Planner, store: Store) -> None:
    plan = plan_of(SMALL)
    lose(plan, store, pid=2**22 + 1)
    (group,) = failures(plan, store)["groups"]
    assert (group["cause"], group["example"]["reason"]) == ("lost", "it ended without a record")
    lose(plan, store, boot="before")
    (group,) = failures(plan, store)["groups"]
    assert (group["cause"], group["example"]["reason"]) == ("node-failure", "the machine was restarted")


def test_causes_by_name_and_by_group() -> None:
    assert names(None) == tuple(CAUSES)
    assert names("oom") == ("cuda-oom", "host-oom")
    assert names("disk-full") == ("disk-full",)
    with pytest.raises(UserError, match=r"unknown cause 'disk-ful' \(did you mean 'disk-full'\?\); known: oom, "):
        names("disk-ful")
