"""Which stage runs next. Knows nothing of processes or files."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ablations.grid.keys import StageNode


class Schedule:
    """The stages that are left, released as their inputs are done: longest chain of followers first, then plan order.

    Args:
        nodes: unique stages by key, inputs before their users; inputs that are not among them are done.
        done: keys of stages that need not run.
        after: key -> nodes that it waits for however they end; :meth:`finished` is called for each.
    """

    def __init__(
        self, nodes: Mapping[str, StageNode], done: Iterable[str], after: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self._nodes = nodes
        self._left = set(nodes) - set(done)
        self._followers: dict[str, list[str]] = {key: [] for key in nodes}
        for key, node in nodes.items():
            for upstream in (*node.inputs.values(), *(after or {}).get(key, ())):
                if upstream in self._followers:
                    self._followers[upstream].append(key)
        self._chain: dict[str, int] = {}
        for key in reversed(list(nodes)):
            self._chain[key] = 1 + max((self._chain[after] for after in self._followers[key]), default=0)
        self._rank = {key: rank for rank, key in enumerate(nodes)}
        waits = {key: (*nodes[key].inputs.values(), *(after or {}).get(key, ())) for key in self._left}
        self._missing = {key: sum(up in self._left for up in ups) for key, ups in waits.items()}
        self._ready: list[tuple[int, int, str]] = []
        for key in self._left:
            if self._missing[key] == 0:
                self.release(key)

    @property
    def left(self) -> int:
        """Stages that are neither done nor given up."""
        return len(self._left)

    def next(self) -> StageNode | None:
        """Take the best ready stage, or None if none is ready now."""
        return self._nodes[heapq.heappop(self._ready)[2]] if self._ready else None

    def release(self, key: str) -> None:
        """Make a stage ready (again)."""
        heapq.heappush(self._ready, (-self._chain[key], self._rank[key], key))

    def finished(self, key: str) -> None:
        """A taken stage is done, or one whose result no stage needs has ended; its followers may become ready."""
        self._left.discard(key)
        for after in self._followers[key]:
            if after in self._left:
                self._missing[after] -= 1
                if self._missing[after] == 0:
                    self.release(after)

    def failed(self, key: str) -> list[str]:
        """A taken stage failed: it and all that depends on it are given up. The keys of the dependants."""
        self._left.discard(key)
        blocked: list[str] = []
        frontier = [key]
        while frontier:
            for after in self._followers[frontier.pop()]:
                if after in self._left:
                    self._left.discard(after)
                    blocked.append(after)
                    frontier.append(after)
        return blocked
