"""Which reward models are judges: their higher score is a better image. A symptom, such as ``texture``, is no judge."""

from __future__ import annotations

from qsd.errors import UserError
from qsd.rewards.scorers import REGISTRY


def is_judge(name: str) -> bool:
    """Whether a fall of a scorer's scores is a worsening, as its own file says (``ScorerSpec.is_judge``).

    True for one whose file is not there, or broken: tables outlive the members of a project.
    """
    try:
        return REGISTRY.get(name).is_judge
    except UserError:
        return True
