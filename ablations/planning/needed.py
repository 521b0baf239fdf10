"""What of a sweep is needed by now: its trials first, then the report's cells, with looks only the seeds they need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ablations.planning.look_lines import look_lines
from ablations.planning.looks import limited
from ablations.planning.tuning import tuned
from ablations.planning.tuning_lines import tuning_lines

if TYPE_CHECKING:
    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store


def needed(plan: Plan, store: Store) -> Plan:
    """The plan of the stages that are needed by what is finished in ``store``; the plan itself if that is all of them.

    It is a plan like any other, so what runs, submits, or shows stages need not know why they are needed. Who runs them
    asks again when they have ended, since finished trials and looks can make more stages known.

    Raises:
        UserError: finished scores are damaged or cannot be compared.
    """
    return limited(tuned(plan.whole, store), store)


def progress_lines(plan: Plan) -> list[str]:
    """How far tuning and looks are, in a few lines; none for a plan without them."""
    return [*tuning_lines(plan.tuning), *look_lines(plan.looks)]
