"""Which checks a sweep and a cluster call for, put together for ``ablate doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ablations.checks import machine_checks
from ablations.checks.doctor import FAIL, OK, Check, Finding
from ablations.checks.required_files import look, supplies
from ablations.grid.spec import find_experiment
from qsd.config.load import load_flat, override
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ablations.grid.spec import Sweep


@dataclass(frozen=True)
class Subject:
    """What is examined beside the machine.

    Attributes:
        values: flat configuration of the sweep's experiment, overrides included.
        also: further values of fields that the sweep varies.
        needed: bytes that the sweep is estimated to write, or None if that is not known.
    """

    values: Mapping[str, Any]
    also: Mapping[str, list[Any]]
    needed: float | None


def subject_of(sweep: Sweep, experiment: str | None, needed: float | None) -> Subject:
    """A sweep as far as checks look at it; it need not be possible to plan it.

    Raises:
        UserError: the experiment is missing or damaged.
    """
    values = override(load_flat(find_experiment(experiment or sweep.experiment)), sweep.overrides)
    also: dict[str, list[Any]] = {}
    for choice in (sweep.varies, *sweep.include):
        for name, several in choice.items():
            also.setdefault(name, []).extend(several)
    for control in sweep.controls:
        for name, value in control.items():
            also.setdefault(name, []).append(value)
    return Subject(values, also, needed)


def checks(runs: Path, subject: Subject | None, cluster: str | None, with_torch: bool) -> Iterator[tuple[str, Check]]:
    """Name and check, in the order of the report; a cluster is its profile's name."""
    yield "python", machine_checks.python
    yield "packages", machine_checks.packages
    if cluster is None:
        yield "gpu", partial(machine_checks.gpu, with_torch)
    else:
        yield from _of_cluster(cluster)
    yield "disk", partial(machine_checks.disk, runs, subject.needed if subject else None)
    if subject is not None:
        yield "wandb", partial(machine_checks.wandb, subject.values["tracking.wandb"])
        yield "supplies", partial(_supplies, subject)


def _supplies(subject: Subject) -> Iterator[Finding]:
    for supply in supplies(subject.values, subject.also):
        try:
            yield Finding(OK, supply.what, f"{supply.place}: {look(supply)}")
        except UserError as error:
            yield Finding(FAIL, supply.what, str(error))


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
