"""An attempt that dies before it has a record is not judged by what an earlier attempt wrote."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from ablations.files import write_json
from ablations.running import attempt, local
from ablations.running.display import Lines
from ablations.store.artefacts import Store
from ablations.store.attempts import outcome
from tests.ablations import fake_stages
from tests.ablations.conftest import SMALL, Planner

DIVERGED = {"state": "failed", "reason": "training diverged: x", "error": {"diverged": True}}


class DyingWorkers:
    """Attempts that end at once, without a trace; with ``records`` they leave that as theirs."""

    records: Mapping[str, object] | None = None
    store: Store

    def __init__(self, _preload: Sequence[str], _threads: int) -> None:
        self._running: list[int] = []

    def start(self, identity: int, job: Path, _environment: Mapping[str, str]) -> None:
        self._running.append(identity)
        if self.records is not None:
            folder = self.store.attempts(job.parent.name, job.name.partition(".")[0])
            write_json(folder / "2" / "exit.json", self.records)

    def ended(self, _timeout: float) -> list[tuple[int, int]]:
        running, self._running = self._running, []
        return [(identity, attempt.EXIT_FAILED) for identity in running]

    def close(self) -> None:
        pass


@pytest.mark.parametrize("again", [None, DIVERGED])
def test_a_retry_of_a_diverged_training_that_dies_at_its_start_has_failed(
    again: Mapping[str, object] | None, plan_of: Planner, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the run would end with status 0, as if it had diverged once more."""
    plan = plan_of(SMALL)
    node = next(node for node in plan.nodes.values() if node.stage == "train")
    first = store.attempts("train", node.key) / "1"
    write_json(first / "exit.json", DIVERGED)
    monkeypatch.setattr(DyingWorkers, "records", again)
    monkeypatch.setattr(DyingWorkers, "store", store, raising=False)
    monkeypatch.setattr(local, "Workers", DyingWorkers)
    result = local.run(plan, store, Lines(sys.stdout), 1, table=fake_stages.HERE, only={node.key})
    assert outcome(first) == DIVERGED
    if again is None:
        (failure,) = result.failures
        assert failure.reason == f"exited with status {attempt.EXIT_FAILED} without an artefact or an error record"
        assert (failure.log, result.diverged) == (None, [])
    else:
        assert (len(result.diverged), result.failures) == (1, [])
