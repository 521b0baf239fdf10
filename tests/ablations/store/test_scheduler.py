"""Jobs in neutral words: which answers count, and that the store needs no scheduler of its own."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import ablations.store
from ablations.slurm import query
from ablations.slurm.query import described
from ablations.store.scheduler import FAILED, OUT_OF_MEMORY, Answers, JobState, Phase, Scheduler, ask, scheduler


@pytest.mark.parametrize(
    ("word", "phase", "alive", "has_no_process", "would_fail_again"),
    [
        ("PENDING", Phase.WAITING, True, True, False),
        ("RUNNING", Phase.ACTIVE, True, False, False),
        ("COMPLETING", Phase.ACTIVE, True, False, False),
        ("COMPLETED", Phase.ENDED, False, True, False),
        ("TIMEOUT", Phase.ENDED, False, True, False),
        ("FAILED", Phase.ENDED, False, True, True),
        ("OUT_OF_MEMORY", Phase.ENDED, False, True, True),
        (query.GONE, Phase.ENDED, False, True, False),
        ("A_NEW_WORD", Phase.UNCLEAR, False, False, False),
    ],
)
def test_what_a_word_of_slurm_means(
    word: str, phase: Phase, alive: bool, has_no_process: bool, would_fail_again: bool
) -> None:
    job = described("1", word)
    assert job.phase is phase
    assert (job.alive, job.has_no_process, job.would_fail_again) == (alive, has_no_process, would_fail_again)
    assert (job.ending in (FAILED, OUT_OF_MEMORY)) == would_fail_again


def test_slurm_is_the_scheduler_that_the_store_asks() -> None:
    answers: Scheduler = query  # the type checker compares the functions
    assert scheduler() is answers


def test_the_store_imports_no_scheduler() -> None:
    folder = Path(ablations.store.__file__).parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
                assert not any((name or "").startswith("ablations.slurm") for name in names), path


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A scheduler of the cluster "one" in which every job runs; the questions that it was asked."""
    asked: list[list[str]] = []

    def states(jobs: Any) -> dict[str, JobState]:
        asked.append(list(jobs))
        return {job: described(job, "RUNNING") for job in asked[-1]}

    monkeypatch.setattr(query, "states", states)
    monkeypatch.setattr(query, "available", lambda: True)
    monkeypatch.setattr(query, "cluster", lambda: "one")
    return asked


def test_jobs_of_another_cluster_are_not_asked_about(cluster: list[list[str]]) -> None:
    answers = ask([("1", "one"), ("2", ""), ("1", "two"), ("3", "two"), ("1", "one")])
    assert cluster == [["1", "2"]]
    assert answers.state("1", "one") is not None
    assert answers.state("2", "") is not None
    assert answers.state("1", "two") is None, "the same number means another job there"
    assert answers.may_be_alive("3", "two")
    assert not answers.silent


def test_no_job_is_no_question(cluster: list[list[str]]) -> None:
    assert ask([]) == Answers({})
    assert cluster == []


def test_no_answer_is_no_end(cluster: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "states", lambda _jobs: None)
    answers = ask([("1", "one")])
    assert answers.silent
    assert answers.may_be_alive("1", "one")
    monkeypatch.setattr(query, "available", lambda: False)
    monkeypatch.setattr(query, "states", lambda _jobs: {})
    assert ask([("1", "one")]).silent, "which cluster is here is not known"
    ended = Answers({"1": described("1", "COMPLETED")}, cluster="one")
    assert not ended.may_be_alive("1", "one")
