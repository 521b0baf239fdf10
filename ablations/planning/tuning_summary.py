"""The tuning of a plan for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablations.planning.trials import TuningProgress


def tuning_summary(progress: TuningProgress) -> dict[str, Any]:
    """The tuning for programs: how many trials there are, what is finished, and what was chosen."""
    record = progress.record
    return {
        "budget": record.budget,
        "sampler": record.sampler,
        "judge": record.judge,
        "split": record.split,
        "prompts": record.prompts,
        "seeds": list(record.seeds),
        "trials": len(record.trials),
        "finished": record.finished,
        "decided": record.is_decided,
        "without_choice": record.without_choice,
        "cells": {
            name: {
                "chosen": dict(cell.best.values) if cell.best else None,
                "score": cell.best.score if cell.best else None,
                "edges": [field for field, _ in cell.edges],
            }
            for name, cell in record.cells.items()
        },
    }
