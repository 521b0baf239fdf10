"""The order of stages: inputs first, longest chains first, failures contained."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ablations.grid.keys import StageNode
from ablations.running.schedule import Schedule


def node(key: str, *inputs: str) -> StageNode:
    return StageNode("s", key, 1, {}, {name: name for name in inputs}, {})


def graph(*nodes: StageNode) -> dict[str, StageNode]:
    return {each.key: each for each in nodes}


def test_longest_chain_first_then_order_of_the_plan() -> None:
    nodes = graph(node("short"), node("a"), node("b", "a"), node("c", "b"), node("other"))
    schedule = Schedule(nodes, [])
    taken = [schedule.next(), schedule.next(), schedule.next(), schedule.next()]
    assert [each and each.key for each in taken] == ["a", "short", "other", None]
    schedule.finished("a")
    following = schedule.next()
    assert following is not None
    assert following.key == "b"


def test_what_is_done_is_neither_run_nor_waited_for() -> None:
    schedule = Schedule(graph(node("a"), node("b", "a"), node("c", "b")), ["a", "b"])
    assert schedule.left == 1
    ready = schedule.next()
    assert ready is not None
    assert ready.key == "c"


def test_a_failure_gives_up_its_dependants_only() -> None:
    nodes = graph(node("a"), node("b", "a"), node("c", "b"), node("x"), node("y", "x", "b"), node("z", "x"))
    schedule = Schedule(nodes, [])
    assert {schedule.next().key for _ in range(2)} == {"a", "x"}  # type: ignore[union-attr]
    assert sorted(schedule.failed("a")) == ["b", "c", "y"]
    schedule.finished("x")
    last = schedule.next()
    assert last is not None
    assert last.key == "z"
    schedule.finished("z")
    assert schedule.left == 0


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, StageNode]:
    count = draw(st.integers(1, 12))
    nodes = []
    for number in range(count):
        inputs = draw(st.lists(st.integers(0, number - 1), max_size=3, unique=True)) if number else []
        nodes.append(node(str(number), *map(str, inputs)))
    return graph(*nodes)


@given(graphs(), st.sets(st.integers(0, 11)))
def test_everything_that_can_run_runs_once_after_its_inputs(nodes: dict[str, StageNode], broken: set[int]) -> None:
    schedule = Schedule(nodes, [])
    finished: list[str] = []
    given_up: set[str] = set()
    while schedule.left:
        ready = schedule.next()
        assert ready is not None, "a stage is left and none is ready"
        assert set(ready.inputs) <= set(finished)
        if int(ready.key) in broken:
            given_up |= {ready.key, *schedule.failed(ready.key)}
        else:
            finished.append(ready.key)
            schedule.finished(ready.key)
    assert len(finished) == len(set(finished))
    assert set(finished) | given_up == set(nodes)
    assert not set(finished) & given_up
