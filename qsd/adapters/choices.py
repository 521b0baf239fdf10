"""Settings of an adapter that exclude one another. Light: planning checks them, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping


def check_choices(values: Mapping[str, Any]) -> None:
    """Refuse settings of an adapter that cannot be meant together.

    Args:
        values: ``lora.scaling``, ``lora.rslora``, ``lora.dora`` and ``training.precision`` by their dotted names.

    Raises:
        UserError: two scales at once, or norms of rows in a type that cannot hold their changes.
    """
    if values["lora.rslora"] and values["lora.scaling"] != "plain":
        raise UserError(
            f"lora.rslora is true and lora.scaling is {values['lora.scaling']!r}: two rules for the same scale; leave "
            "one of them out"
        )
    if values["lora.dora"] and values["training.precision"] == "bf16_norms":
        raise UserError(
            "lora.dora divides by the norms of weights, and training.precision bf16_norms would round them to three "
            "digits; use training.precision: bf16 or fp32"
        )
