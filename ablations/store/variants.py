"""With which other settings of the command line a sweep was run; each has a folder of its own."""

from __future__ import annotations

import glob
from typing import TYPE_CHECKING, Any

from ablations.grid.settings import MARK, options, typed
from ablations.json_shapes import anything, fields, mapping, read_shaped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store

_SHOWN = 3


def variants(store: Store, plan: Plan) -> list[Mapping[str, Any]]:
    """The settings of each run of the same sweep and experiment that has any, without those of ``plan`` itself."""
    settings = []
    experiment = plan.experiment.partition(MARK)[0]
    own = store.sweep(plan.name)
    for path in sorted(own.parent.glob(f"{glob.escape(f'{plan.sweep.name}@{experiment}{MARK}')}*/cells.json")):
        content = read_shaped(path, fields(settings=mapping(anything)))
        if path.parent != own and content is not None and content["settings"]:
            settings.append(content["settings"])
    return settings


def variants_note(store: Store, plan: Plan) -> str | None:
    """A line for a sweep that is shown without settings although it was run with some; None otherwise."""
    others = [] if plan.sweep.settings else variants(store, plan)
    if not others:
        return None
    listed = "; ".join(options(settings) for settings in others[:_SHOWN]) + ("; ..." if len(others) > _SHOWN else "")
    return f"note: {typed(plan.sweep)} was also run with {listed}; use the same options to see that run"
