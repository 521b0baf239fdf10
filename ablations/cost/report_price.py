"""What follows the trials of a sweep that is tuned: the price of its report, before the settings are chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ablations.cost.estimate import estimate
from ablations.store.states import DONE, NEW

if TYPE_CHECKING:
    from ablations.cost.estimate import Site
    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store


def report_price(plan: Plan, store: Store, site: Site) -> dict[str, Any] | None:
    """The estimate of the stages that the report adds to the trials, with the first setting of every cell.

    The chosen settings may need another time: a loss does not, a rank or a number of steps does. Nothing of it counts
    as done, because it is not known which trainings these will be.

    Returns:
        as ``estimate``; None where the settings are known, or where cells are not tuned.
    """
    if not plan.is_undecided:
        return None
    forecast = plan.forecast
    states = {key: DONE if key in plan.nodes else NEW for key in forecast.nodes}
    return estimate(replace(forecast, looks=None), store, states, site)
