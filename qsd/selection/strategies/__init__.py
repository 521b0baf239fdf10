"""Selection strategies: which pairs are trained on, and with which weight. One file per strategy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qsd.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from qsd.config.schema import SelectionConfig

    Chosen = tuple[NDArray[np.int64], NDArray[np.float64]]
    StrategyFunction = Callable[[NDArray[np.float64], Sequence[str], SelectionConfig, NDArray[np.float64]], Chosen]


@dataclass(frozen=True)
class Strategy:
    """A selection strategy.

    Attributes:
        function: (Q [N], pair ids [N], settings, uniforms [N] in [0, 1)) -> (rows [K], best first; weights [K] > 0).
            The uniforms are a pure function of (pair id, seed).
        fields: the fields of ``selection`` that this strategy reads; others do not enter its key.
        uses_quality: False for a strategy that ignores Q; its selection depends on no scores.
        stochastic: True when the uniforms matter; the seed then enters the key of the selection.
        version: raised whenever the same inputs give another selection.
    """

    function: StrategyFunction
    fields: tuple[str, ...] = ("fraction",)
    uses_quality: bool = True
    stochastic: bool = False
    version: int = 1


REGISTRY: Registry[Strategy] = Registry("selection strategy", "qsd.selection.strategies", "STRATEGY")
