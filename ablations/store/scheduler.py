"""Jobs of a cluster in neutral words: what a scheduler says about them, and how it is asked.

The store knows no scheduler. It asks the one module that :data:`_MODULE` names, which is loaded only when a question
comes up: a store without jobs never needs one.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_MODULE = "ablations.slurm.query"
"""The module that answers; a second kind of cluster is another module with these functions."""


class Phase(Enum):
    """How far a job is, as far as it matters here."""

    WAITING = "waiting"
    """No process of it runs; one may start."""
    ACTIVE = "active"
    """Its processes run, are being started or are being ended."""
    ENDED = "ended"
    """None of its processes runs, and none will; also a job that the scheduler does not know (any more)."""
    UNCLEAR = "unclear"
    """The scheduler uses a word that this project does not know: nothing is concluded from it."""


OUT_OF_MEMORY, TIMED_OUT, NODE_FAILURE = "out-of-memory", "timed-out", "node-failure"
PREEMPTED, CANCELLED, FAILED = "preempted", "cancelled", "failed"
"""How a job ended (:attr:`JobState.ending`)."""


@dataclass(frozen=True)
class JobState:
    """What the scheduler says about one job, or about one element of an array.

    Attributes:
        job: its id, ``123`` or ``123_4``.
        state: the scheduler's own word, for people.
        phase: what that word means.
        ending: how it ended badly: one of the constants above; empty if it did not, or if it is unknown.
        reason: why it waits or how it ended, in the scheduler's words; may be empty.
        node: where it runs or ran; may be empty.
        restarts: how often it was requeued and started again; 0 where the scheduler does not say.
    """

    job: str
    state: str
    phase: Phase
    ending: str = ""
    reason: str = ""
    node: str = ""
    restarts: int = 0

    @property
    def alive(self) -> bool:
        """True if the job runs or may still run."""
        return self.phase in (Phase.WAITING, Phase.ACTIVE)

    @property
    def has_no_process(self) -> bool:
        """True if certainly none of its processes runs at the moment."""
        return self.phase in (Phase.WAITING, Phase.ENDED)

    @property
    def would_fail_again(self) -> bool:
        """True if it ended in a way in which it would end again."""
        return self.ending in (FAILED, OUT_OF_MEMORY)


class Scheduler(Protocol):
    """What the store asks. No answer is never taken for an end: None always means that the scheduler did not answer."""

    def available(self) -> bool:
        """True if this machine can ask at all."""

    def cluster(self) -> str | None:
        """The name of the cluster that answers here."""

    def states(self, jobs: Iterable[str], /) -> dict[str, JobState] | None:
        """The state of every job in ``jobs``."""

    def job_state(self, job: str, /) -> JobState | None:
        """The state of one job."""


def scheduler() -> Scheduler:
    """The scheduler that this project submits to."""
    return cast("Scheduler", importlib.import_module(_MODULE))


@dataclass(frozen=True)
class Answers:
    """The scheduler's answers about some jobs, all asked at once (:func:`ask`).

    Attributes:
        states: job -> its state; without jobs of other clusters, which cannot be asked about from here.
        silent: True if it was asked and did not answer.
        cluster: the name of the cluster that was asked; None if no job named one.
    """

    states: Mapping[str, JobState]
    silent: bool = False
    cluster: str | None = None

    def state(self, job: str, cluster: str) -> JobState | None:
        """The state of a job; None without an answer, so also for a job of a cluster that is not seen from here."""
        state = self.states.get(job)
        return state if state is not None and cluster in ("", self.cluster) else None

    def may_be_alive(self, job: str, cluster: str) -> bool:
        """False only if the scheduler says that the job has ended."""
        state = self.state(job, cluster)
        return state is None or state.alive


def ask(jobs: Iterable[tuple[str, str]]) -> Answers:
    """One question about any number of jobs, given as (job, cluster); an empty cluster means the one that is here."""
    wanted = list(dict.fromkeys(jobs))
    if not wanted:
        return Answers({})
    backend = scheduler()
    # Job numbers of another cluster mean other jobs there; a store may be shared by several clusters.
    named = any(cluster for _, cluster in wanted)
    here = backend.cluster() if named and backend.available() else None
    states = backend.states(job for job, cluster in wanted if cluster in ("", here))
    return Answers(states or {}, states is None or (named and here is None), here)
