"""The flat configuration of a tiny world, as planning has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qsd.config.check import schema_fields

if TYPE_CHECKING:
    from tests.qsd.tiny_stages import TinyStages


def flat(world: TinyStages, **settings: Any) -> dict[str, Any]:
    """Dotted name -> value of ``world.config(**settings)``."""
    config = world.config(**settings)
    values: dict[str, Any] = {}
    for name in schema_fields():
        value: Any = config
        for part in name.split("."):
            value = getattr(value, part)
        values[name] = value
    return values
