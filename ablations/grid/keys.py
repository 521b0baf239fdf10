"""Keys of a cell's stages, fast: what a stage means is worked out once per combination of the values that it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from qsd.stages.stage_spec import StageSpec

R = TypeVar("R")
Values = Mapping[str, Any]


class StageTable(Protocol):
    """The stages that a plan is made of; the module ``qsd.stages.spec`` is one, a test may bring another."""

    @property
    def STAGES(self) -> Mapping[str, StageSpec]:  # noqa: N802 (the module's constant)
        """All stages, inputs before their users."""

    def stages_of(self, values: Values, /) -> list[str]:
        """The stages that a cell needs, inputs before their users."""

    def stage_inputs(self, stage: str, values: Values, /) -> tuple[str, ...]:
        """Names of the upstream stages."""

    def stage_meaning(self, stage: str, values: Values, /) -> dict[str, Any]:
        """The part of the configuration that decides a stage's result."""

    def key_of(self, stage: str, version: int, meaning: Mapping[str, Any], input_keys: Mapping[str, str], /) -> str:
        """The key of a stage."""


@dataclass(frozen=True)
class StageNode:
    """One unique stage of a sweep.

    Attributes:
        stage: its kind, for example ``train``.
        key: hash of its meaning.
        version: of the stage's code.
        meaning: the part of the configuration that decides its result.
        inputs: upstream stage -> its key.
        values: the flat configuration of the first cell that needs it.
    """

    stage: str
    key: str
    version: int
    meaning: Mapping[str, Any]
    inputs: Mapping[str, str]
    values: Values


class _Recorder(Mapping[str, Any]):
    """Values that remember which of them were read."""

    def __init__(self, values: Values) -> None:
        self.values_ = values
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return self.values_[name]

    def __iter__(self) -> Iterator[str]:
        self.read.update(self.values_)
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)


class Remembered(Generic[R]):
    """A pure function of values, remembered by the varying values that it read.

    If an earlier call read exactly some names and these have the same values now, the function would read the same
    names again and return the same. Which names those are may depend on values (each loss reads its own fields), so
    there is one table per set of names read; there are few. Names in ``plain`` never have a list as value, which is
    quicker.
    """

    def __init__(
        self, function: Callable[[Values], R], varying: Iterable[str], plain: frozenset[str] = frozenset()
    ) -> None:
        self._function = function
        self._varying = frozenset(varying)
        self._plain = plain
        self._tables: dict[tuple[str, ...], tuple[Callable[[Values], Any], dict[Any, R]]] = {}

    def __call__(self, values: Values) -> R:
        """The function's result for ``values``."""
        for point_of, table in self._tables.values():
            point = point_of(values)
            if point in table:
                return table[point]
        recorder = _Recorder(values)
        result = self._function(recorder)
        names = tuple(sorted(recorder.read & self._varying))
        if names not in self._tables:
            self._tables[names] = (_point_of(names, self._plain), {})
        point_of, table = self._tables[names]
        table[point_of(values)] = result
        return result


def _point_of(names: tuple[str, ...], plain: frozenset[str]) -> Callable[[Values], Any]:
    """Takes the values of some names as one hashable object."""
    if names and plain.issuperset(names):
        return itemgetter(*names)
    return lambda values: tuple(_hashable(values[name]) for name in names)


class Keys:
    """The stage nodes of cells whose values differ in ``varying`` only; ``plain`` names never have a list as value."""

    def __init__(self, table: StageTable, varying: Iterable[str], plain: Iterable[str] = ()) -> None:
        self._table = table
        self._varying = frozenset(varying)
        self._plain = frozenset(plain)
        self._stages = Remembered(table.stages_of, self._varying, self._plain)
        self._inputs = {name: self._remembered(table.stage_inputs, name) for name in table.STAGES}
        self._meanings = {name: self._remembered(table.stage_meaning, name) for name in table.STAGES}
        self._nodes: dict[tuple[Any, ...], StageNode] = {}
        self._by_key: dict[str, StageNode] = {}

    def _remembered(self, function: Callable[[str, Values], R], stage: str) -> Remembered[R]:
        return Remembered(lambda values: function(stage, values), self._varying, self._plain)

    def nodes(self, values: Values) -> dict[str, StageNode]:
        """Stage name -> node, inputs before their users. Equal nodes are the same object."""
        nodes: dict[str, StageNode] = {}
        for stage in self._stages(values):
            inputs = {name: nodes[name].key for name in self._inputs[stage](values)}
            meaning = self._meanings[stage](values)
            identity = (stage, id(meaning), *inputs.values())  # meanings live as long as their table: ids are unique
            node = self._nodes.get(identity)
            if node is None:
                version = self._table.STAGES[stage].version
                key = self._table.key_of(stage, version, meaning, inputs)
                node = self._by_key.setdefault(key, StageNode(stage, key, version, meaning, inputs, values))
                self._nodes[identity] = node
            nodes[stage] = node
        return nodes


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
