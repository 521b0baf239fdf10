"""Selection strategies: which pairs are trained on, and with which weight. One file per strategy.

A strategy's file defines ``STRATEGY``: its function, and the dataclass of the settings that it reads
(``qsd.selection.order.KeptAmount``, or a ``Settings`` of its own with fields made by ``qsd.config.fields.meaning``).
These settings are then fields of the section ``selection`` of every experiment.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from qsd.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

S = TypeVar("S")
"""The class of a strategy's settings."""


@dataclass(frozen=True)
class Candidates:
    """N pairs to choose from. What a strategy does not declare that it uses is NaN, or 0 for strata.

    Attributes:
        quality: Q [N].
        pair_ids: [N], all different.
        uniform: [N] in [0, 1), a pure function of (pair id, seed).
        stratum: [N] number of the stratum that the pair is in.
    """

    quality: NDArray[np.float64]
    pair_ids: Sequence[str]
    uniform: NDArray[np.float64]
    stratum: NDArray[np.int64]


@dataclass(frozen=True)
class Chosen:
    """K of N pairs, best first.

    Attributes:
        rows: places [K] among the candidates, each once.
        weights: [K] > 0; of a pair's term in the loss, relative to the others.
        available_from: [K] in [0, 1], ascending: share of the training from which on a pair takes part; None: all do
            from the start.
    """

    rows: NDArray[np.int64]
    weights: NDArray[np.float64]
    available_from: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Strategy(Generic[S]):
    """A selection strategy.

    Attributes:
        function: (candidates, settings) -> chosen; the order of the candidates does not matter.
        settings: dataclass of the settings that the function reads; others of the section do not enter its key. Of
            ``fraction`` and ``count`` only the one that says how many to keep does.
        uses_quality: False for a strategy that ignores Q; its selection depends on no scores.
        uses_strata: True when the strata matter.
        stochastic: True when the uniforms matter; the seed then enters the key of the selection.
        version: raised whenever the same inputs give another selection.
    """

    function: Callable[[Candidates, S], Chosen]
    settings: type[S]
    uses_quality: bool = True
    uses_strata: bool = False
    stochastic: bool = False
    version: int = 1

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the settings."""
        return tuple(item.name for item in dataclasses.fields(self.settings))  # type: ignore[arg-type]


REGISTRY: Registry[Strategy[Any]] = Registry("selection strategy", "qsd.selection.strategies", "STRATEGY")
