"""The time left of a run: the planner's schedule over what is left, corrected by what this run's stages took.

The rate of stages per minute is no guide: stages of one kind come after another, and a training takes a hundred times
as long as a selection. Here every stage has its own estimate (``ablations.cost.estimate``), and the schedule is played
through with the slots of the run.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from ablations.cost.estimate import Estimator, Site, find_site
from ablations.cost.makespan import makespan
from ablations.slurm.profile import LOCAL
from ablations.store.divergence import with_followers, without_result
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store

_EVERY_S = 5.0
_PER_STAGE_S = 0.002
"""The schedule of ten thousand stages is played through every twenty seconds, not every five."""


class Outlook:
    """The time left of one run.

    Args:
        plan: what is run.
        store: has earlier records of stages.
        site: where it runs, with the number of stages at a time.
        only: keys of the stages that are run, if not all.
    """

    def __init__(self, plan: Plan, store: Store, site: Site, only: Container[str] | None = None) -> None:
        estimator = Estimator(plan, store, site)
        self._nodes = plan.nodes
        self._seconds = {key: estimator.cost(node).seconds for key, node in plan.nodes.items()}
        self._slots = site.parallel
        self._done = {key for key, node in plan.nodes.items() if store.is_done(node.stage, key)}
        if only is None:
            self._lost = set(without_result(store, plan.nodes, self._done))
        else:
            self._lost = {key for key in plan.nodes if key not in only} - self._done
        self._began: dict[str, float] = {}
        self._ratios: dict[str, list[float]] = {}
        self._left: float | None = None
        self._counted = 0.0

    def started(self, key: str, now: float) -> None:
        """A stage's attempt was started at ``now``, in seconds of any clock."""
        self._began[key] = now

    def finished(self, key: str, now: float) -> None:
        """A stage is done; what it took corrects the estimates of its kind."""
        began = self._began.pop(key, None)
        if key not in self._nodes:  # common work of several stages, which has no estimate of its own
            return
        if began is not None:
            ratios = self._ratios.setdefault(self._nodes[key].stage, [])
            ratios.append((now - began) / self._seconds[key])
        self._done.add(key)

    def failed(self, key: str) -> None:
        """A stage failed or diverged: it and what needs it will not run."""
        self._began.pop(key, None)
        self._lost |= with_followers(self._nodes, {key}) if key in self._nodes else set()

    def stopped(self, key: str) -> None:
        """An attempt ended without a result; the stage is still to run."""
        self._began.pop(key, None)

    def seconds_left(self, reports: Mapping[str, Mapping[str, Any] | None], now: float) -> float:
        """Seconds until the last stage ends; computed again every few seconds, and counted down between.

        Args:
            reports: the latest report of each running stage, as the displays get it.
            now: of the clock of :meth:`started`.
        """
        every = max(_EVERY_S, _PER_STAGE_S * len(self._nodes))
        if self._left is None or now - self._counted >= every:
            self._left, self._counted = self._play(reports, now), now
        return max(0.0, self._left - (now - self._counted))

    def _play(self, reports: Mapping[str, Mapping[str, Any] | None], now: float) -> float:
        settled = self._done | self._lost
        left = {key: self._corrected(key) for key in self._nodes if key not in settled}
        for key in self._began.keys() & left.keys():
            left[key] = self._rest(key, left[key], reports.get(key), now)
        return makespan(self._nodes, settled, left, self._slots)

    def _corrected(self, key: str) -> float:
        """The estimate times the median of what stages of this kind took in this run, relative to their estimates."""
        ratios = self._ratios.get(self._nodes[key].stage)
        return self._seconds[key] * (median(ratios) if ratios else 1.0)

    def _rest(self, key: str, whole: float, report: Mapping[str, Any] | None, now: float) -> float:
        """What a running stage still takes: by its own rate where it reports one, else by its estimate."""
        if report and report["per_second"] > 0:
            return float((report["total"] - report["done"]) / report["per_second"])
        return max(0.0, whole - (now - self._began[key]))


def outlook_of(
    plan: Plan, store: Store, jobs: int | None, gpus: tuple[str, ...], only: Container[str] | None
) -> Outlook | None:
    """The outlook of ``ablate run`` on this machine, by its options; None where the work cannot be estimated."""
    parallel = len(gpus) * (jobs or 1) if gpus else jobs
    try:
        return Outlook(plan, store, find_site(LOCAL, parallel, str(plan.cells[0].values["device"])), only)
    except UserError:  # a run does not stop for its estimate; the stage that meets the mistake will report it
        return None
