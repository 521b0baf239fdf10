"""Where the variances that a sweep is planned with come from: what is stated, a pilot, or an earlier sweep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.formatting import format_count
from ablations.grid.settings import MARK
from analysis.data.variances import Variances, finished_family
from qsd.errors import UserError
from qsd.registry import suggest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ablations.planning.plan import Plan
    from ablations.power.replication import Replication
    from ablations.store.artefacts import Store
    from analysis.data.variances import FinishedFamily, Judged


@dataclass(frozen=True)
class Source:
    """Variances, and in words where they come from."""

    variances: Variances
    origin: str


def earlier_families(plan: Plan, store: Store, judged: Judged) -> list[FinishedFamily]:
    """The finished comparisons of every sweep of the store with the same experiment, by name."""
    folders = sorted(store.sweep(plan.name).parent.glob(f"*@{plan.experiment}"))
    families = (finished_family(folder, judged) for folder in folders)
    return [family for family in families if family is not None]


def find_source(
    plan: Plan, store: Store, replicated: Replication, stated: Variances | None, pilot: str | None
) -> Source | str:
    """The variances to plan with, or a line that says why there are none and what would give some.

    What the user states goes before a pilot, this before the sweep's file, and this before earlier sweeps. Of several
    earlier sweeps, the one whose seeds say most is taken.

    Raises:
        UserError: there is no such pilot, or it has no finished comparison under this judge.
    """
    if stated is not None:
        return Source(stated, "stated on the command line")
    if pilot is not None:
        return _of_pilot(plan, store, replicated, pilot)
    if plan.sweep.variances is not None:
        return Source(plan.sweep.variances, f"stated in {plan.sweep.shown}")
    families = earlier_families(plan, store, replicated.judged)
    usable = [family for family in families if family.observed]
    if not usable:
        return _none(plan, families, replicated.judged)
    best = max(usable, key=lambda family: family.degrees_of_freedom)
    return _source(best, replicated, upper=False)


def _of_pilot(plan: Plan, store: Store, replicated: Replication, pilot: str) -> Source:
    folder, judged = _pilot_folder(plan, store, pilot), replicated.judged
    family = finished_family(folder, judged)
    if family is None:
        raise UserError(
            f"--pilot {pilot}: {folder} has no comparison with its baseline of two or more finished training seeds "
            f"under {_described(judged)}; 'ablate show' says what a sweep has"
        )
    if family.outdated:
        raise UserError(f"--pilot {pilot}: {_rewrite(family)}")
    return _source(family, replicated, upper=True)


def _pilot_folder(plan: Plan, store: Store, pilot: str) -> Path:
    """The folder of a sweep by its path, by ``SWEEP@EXPERIMENT``, or by its name with the plan's experiment."""
    sweeps = store.sweep(plan.name).parent
    for folder in (sweeps / pilot, sweeps / f"{pilot}@{plan.experiment}", Path(pilot)):
        if folder.is_dir():
            return folder
    known = sorted(folder.name for folder in sweeps.glob("*@*"))
    raise UserError(
        f"--pilot: no results of {pilot!r} in {sweeps}{suggest(pilot, known)}; known: {', '.join(known) or 'none'}"
    )


def _source(family: FinishedFamily, replicated: Replication, upper: bool) -> Source:
    """The variances of a family, for the planned number of images.

    With fewer images than the family's, the parts that prompts and images have in are multiplied by the ratio, which
    is the most that they can grow by; with more images they can only shrink, and stay.
    """
    # Loads scipy, which a plan without any source does not need.
    from analysis.statistics.power import variances

    components = variances(family.observed, upper)
    limits = "upper 80 % limits from " if upper else ""
    origin = f"{limits}{format_count(len(family.observed), 'comparison')} of {family.folder}"
    own, planned = family.images_per_prompt, replicated.images_per_prompt
    if own != planned:
        growth = max(1.0, own / planned)
        components = Variances(components.seeds, components.prompts * growth, components.both * growth)
        origin += f" (with {format_count(own, 'image')} per prompt instead of {planned}: an upper bound)"
    return Source(components, origin)


def _none(plan: Plan, families: Sequence[FinishedFamily], judged: Judged) -> str:
    if families:
        return f"unknown: {_rewrite(families[0])}"
    return (
        f"unknown: no sweep of {plan.experiment} in this store has finished comparisons under {_described(judged)}; "
        "run one with two or more seeds, or give --pilot, --variances or 'variances' in the sweep's file"
    )


def _rewrite(family: FinishedFamily) -> str:
    sweep, _, variant = family.folder.rpartition("@")
    experiment, mark, _ = variant.partition(MARK)
    return (
        f"the table of {family.folder} is of an earlier version of this project; "
        f"'ablate table {sweep} --experiment {experiment}{' -s ...' if mark else ''}' writes it again"
    )


def _described(judged: Judged) -> str:
    return f"{judged.scorer} on split {judged.split}"
