"""Which differences a planned sweep can detect, and the cheapest sweep that detects a given one, as plain values."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ablations.grid.stated_variances import to_float
from ablations.power.replication import replication
from ablations.power.variance_sources import Source, earlier_families, find_source
from analysis.data.variances import Variances
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ablations.cost.estimate import Site
    from ablations.planning.plan import Plan
    from ablations.power.prices import Prices
    from ablations.store.artefacts import Store
    from analysis.data.variances import Judged

MOST_SEEDS = 20
"""Training seeds that are considered for a wanted difference."""
DETECT = "--detect"


def parse_difference(text: str) -> float:
    """The difference of ``--detect``.

    Raises:
        UserError: it is no number above 0.
    """
    number = to_float(text)
    if number is None or number <= 0:
        raise UserError(
            f"{DETECT} must be a difference above 0 in the primary scorer's unit, such as 0.01, not {text!r}"
        )
    return number


def power_summary(plan: Plan, store: Store, stated: Variances | None, pilot: str | None) -> dict[str, Any]:
    """What a plan can detect.

    Returns:
        "scorer", "split", "seeds", "looks" (fewer seeds may do), "prompts", "prompts_available", "comparisons";
        "unknown": why nothing can be said, or None; else "variances" and "origin"; "alone" and "holm": the smallest
        true difference that is marked with a chance of 80 % as the only comparison, and with Holm's correction at its
        first step (None with one seed); and
        "largest_found": {"cell", "sweep", "difference"}, the largest of earlier sweeps, if "holm" is above it.
    """
    try:
        replicated = replication(plan)
    except UserError as error:
        return {"unknown": f"unknown: {error}"}
    judged = replicated.judged
    summary: dict[str, Any] = {
        "scorer": judged.scorer,
        "split": judged.split,
        "seeds": replicated.seeds,
        "looks": plan.sweep.looks is not None,
        "prompts": replicated.prompts,
        "prompts_available": replicated.prompts_available,
        "comparisons": replicated.comparisons,
    }
    if not replicated.comparisons:
        return summary | {"unknown": "there is no other cell to compare with the baseline"}
    source = find_source(plan, store, replicated, stated, pilot)
    if not isinstance(source, Source):
        return summary | {"unknown": source}
    from analysis.statistics.power import detectable

    settings = (source.variances, replicated.seeds, replicated.prompts, replicated.comparisons)
    alone, holm = detectable(*settings, corrected=False), detectable(*settings)
    summary |= {"unknown": None, "variances": asdict(source.variances), "origin": source.origin}
    largest = _largest_found(plan, store, judged)
    missed = largest is not None and holm is not None and largest["difference"] < holm
    return summary | {"alone": alone, "holm": holm, "largest_found": largest if missed else None}


def _largest_found(plan: Plan, store: Store, judged: Judged) -> dict[str, Any] | None:
    candidates = [
        (family.largest[1], family.largest[0], family.folder)
        for family in earlier_families(plan, store, judged)
        if family.largest is not None
    ]
    if not candidates:
        return None
    difference, cell, sweep = max(candidates)
    return {"cell": cell, "sweep": sweep, "difference": difference}


def detect(
    difference: float, power: Mapping[str, Any], plan_of_seeds: Callable[[], Plan], store: Store, site: Site
) -> dict[str, Any]:
    """The cheapest numbers of seeds and prompts with which a true difference is marked with a chance of 80 %.

    Args:
        difference: above 0.
        power: of :func:`power_summary`.
        plan_of_seeds: gives the plan with two or more training seeds, in which it shows what depends on the seed.
        store: has the records that prices come from.
        site: where the sweep is to run.

    Returns:
        "difference"; "alone" and "holm", as the only comparison and with Holm's correction: "seeds", "prompts",
        "seconds" (kind of stage -> seconds, from nothing) and "gpu_hours", or, where no number of seeds up to
        ``MOST_SEEDS`` suffices, "smallest": what the most seeds and all prompts detect.

    Raises:
        UserError: there are no variances to plan with.
    """
    from ablations.power.prices import Prices

    if power["unknown"]:
        raise UserError(f"{DETECT} needs variances: {power['unknown']}")
    prices = Prices(plan_of_seeds(), store, site)
    return {"difference": difference} | {
        name: _cheapest(difference, power, prices, corrected) for name, corrected in (("alone", False), ("holm", True))
    }


def _cheapest(difference: float, power: Mapping[str, Any], prices: Prices, corrected: bool) -> dict[str, Any]:
    from analysis.statistics.power import detectable, prompts_needed

    variances = Variances(**power["variances"])
    most, family = power["prompts_available"], power["comparisons"]
    options = []
    for seeds in range(2, MOST_SEEDS + 1):
        prompts = prompts_needed(difference, variances, seeds, most, family, corrected)
        if prompts is not None:
            options.append((prices.price(seeds, prompts), seeds, prompts))
    if not options:
        return {"smallest": detectable(variances, MOST_SEEDS, most, family, corrected)}
    price, seeds, prompts = min(options, key=lambda option: (option[0].amount, *option[1:]))
    return {"seeds": seeds, "prompts": prompts, "seconds": price.seconds, "gpu_hours": price.gpu_seconds / 3600}
