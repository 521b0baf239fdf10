"""The list of checks that ``ablate doctor`` runs for a sweep and a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ablations.checks import machine_checks
from ablations.checks.doctor import FAIL, OK, WARN, Check, Finding
from ablations.checks.required_files import loads_libraries, required_files, verify
from qsd.config.digest import hub_note, may_change
from qsd.config.find import find_experiment
from qsd.config.load import load_flat, override
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ablations.grid.spec import Sweep


class PlanningOutcome(NamedTuple):
    """What planning says of a sweep or an experiment.

    Attributes:
        needed: bytes that it is estimated to write, or None if that is unknown.
        mistake: why it cannot be planned; empty if it can.
    """

    needed: float | None = None
    mistake: str = ""


@dataclass(frozen=True)
class Subject:
    """The sweep or experiment that is checked in addition to the machine.

    Attributes:
        values: flat configuration of the sweep's experiment, overrides included.
        also: additional values of fields that the sweep varies.
        plan: plans it, which reads all data; called once, after the checks that need no plan.
    """

    values: Mapping[str, Any]
    also: Mapping[str, list[Any]]
    plan: Callable[[], PlanningOutcome]

    @cached_property
    def outcome(self) -> PlanningOutcome:
        """What planning says of it."""
        return self.plan()


def subject_of(sweep: Sweep, experiment: str | None, plan: Callable[[], PlanningOutcome]) -> Subject:
    """The part of a sweep that the checks need; the sweep does not have to be plannable.

    Raises:
        UserError: the experiment is missing or damaged.
    """
    values = override(load_flat(find_experiment(experiment or sweep.experiment)), sweep.fixed)
    varied: dict[str, list[Any]] = {}
    for choice in (sweep.varies, *sweep.include):
        for name, values_tried in choice.items():
            varied.setdefault(name, []).extend(values_tried)
    for control in sweep.controls:
        for name, value in control.items():
            varied.setdefault(name, []).append(value)
    return Subject(values, varied, plan)


def experiment_subject(values: Mapping[str, Any]) -> Subject:
    """An experiment without a sweep, with the first mistake that its stages find in their settings and files."""

    def plan() -> PlanningOutcome:
        from qsd.stages import spec

        try:
            for stage in spec.stages_of(values):
                spec.stage_meaning(stage, values)
        except UserError as error:
            return PlanningOutcome(mistake=str(error))
        return PlanningOutcome()

    return Subject(values, {}, plan)


def checks(
    runs: Path, subject: Subject | None, cluster: str | None, with_torch: bool, say: Callable[[str], None]
) -> Iterator[tuple[str, Check]]:
    """The name of each check and the check, in the order of the report, the slow ones last.

    Args:
        runs: the store.
        subject: a sweep or an experiment to check too.
        cluster: name of a profile; None checks this machine.
        with_torch: ask PyTorch for GPUs.
        say: is given what is about to be done, where that may take long.
    """
    yield "python", machine_checks.python
    yield "packages", machine_checks.packages
    yield "members", machine_checks.members
    if cluster is None:
        yield "gpu", partial(machine_checks.gpu, with_torch)
    else:
        yield from _of_cluster(cluster)
    if subject is None:
        yield "disk", partial(machine_checks.disk, runs, None)
        return
    yield "wandb", partial(machine_checks.wandb, subject.values["tracking.wandb"])
    say("planning: reads the data and the weights")
    yield "disk", partial(machine_checks.disk, runs, subject.outcome.needed)
    yield "required files", partial(_required_files, subject, say)


def _required_files(subject: Subject, say: Callable[[str], None]) -> Iterator[Finding]:
    """Every file; and what else makes a plan impossible, such as a mistake inside of one that is there."""
    failed: list[str] = []
    for required in sorted(required_files(subject.values, subject.also), key=loads_libraries):
        if loads_libraries(required):
            say(f"{required.place}: compares its weights with its networks; loading PyTorch and diffusers takes long")
        try:
            text = f"{required.place}: {verify(required)}"
            if may_change(required.place) and required.on_hub:
                yield Finding(WARN, required.what, text, hub_note(required.field, required.place))
            else:
                yield Finding(OK, required.what, text)
        except UserError as error:
            failed.append(str(required.place))
            yield Finding(FAIL, required.what, str(error))
    mistake = subject.outcome.mistake
    if mistake and not any(place in mistake for place in failed):
        yield Finding(FAIL, "plan", mistake)


def _of_cluster(name: str) -> Iterator[tuple[str, Check]]:
    from ablations.checks import cluster_checks
    from ablations.slurm.profile import find_profile, read_profile

    yield "slurm", cluster_checks.binaries
    try:
        profile = read_profile(find_profile(name))
    except UserError as error:
        yield "profile", partial(_mistake, "profile", str(error))
        return
    yield "controller", partial(cluster_checks.controller, profile)
    yield "partitions", partial(cluster_checks.partitions, profile)
    yield "idle GPUs", partial(cluster_checks.idle_gpus, profile)


def _mistake(check: str, text: str) -> Iterator[Finding]:
    yield Finding(FAIL, check, text)
