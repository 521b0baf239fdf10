"""Which losses can have an automatic β, and what a training then reads of it. Light: planning imports this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qsd.losses import Loss
    from qsd.stages.stage_spec import Values

SCHEDULE = "loss.beta_schedule"
AUTOMATIC = "automatic"
"""The value of ``loss.beta_schedule`` for which ``automatic_beta.py`` sets β."""


def takes_schedule(loss: Loss[Any]) -> bool:
    """Whether a loss multiplies β with d: it reads β and compares with a reference."""
    return "beta" in loss.fields and loss.needs_reference


def schedule_fields(loss: Loss[Any], values: Values) -> tuple[str, ...]:
    """Dotted names of the fields of the schedule that have an effect."""
    if not takes_schedule(loss):
        return ()
    automatic = values[SCHEDULE] == AUTOMATIC
    return (SCHEDULE, "loss.beta_decay", "loss.beta_range") if automatic else (SCHEDULE,)
