"""The revision of a reward model: a digest of its weights and its code."""

from __future__ import annotations

from pathlib import Path

from qsd.config.digest import digest, hash_of
from qsd.config.once_per_process import OncePerProcess
from qsd.errors import UserError
from qsd.rewards.scorers import ENSEMBLE, REGISTRY


@OncePerProcess
def revision(name: str, weights: str) -> str:
    """12 hex digits that change with the weights, the code or the version of reward model ``name``.

    Raises:
        UserError: no such reward model, or its weights are not below the folder ``weights``.
    """
    if name == ENSEMBLE:
        raise UserError(
            "reward model 'ensemble' is relative to a data set of pairs: it ranks them (reward.model), and evaluates "
            "no images; name its members in evaluation.scorers instead"
        )
    spec = REGISTRY.get(name)
    digests = {}
    for folder in spec.folders:
        place = Path(weights) / folder
        if not place.is_dir():
            remedy = f", or fetch them: qsd fetch {name} --weights {weights}" if spec.files else ""
            raise UserError(
                f"{place}: no weights of reward model '{name}'; set reward.weights to the folder that has them{remedy}"
            )
        digests[folder] = digest(place)
    return hash_of({"weights": digests, "source": REGISTRY.source(name), "version": spec.version})[:12]
