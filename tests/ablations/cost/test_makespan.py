"""List scheduling: by hand where the answer is known, and within the bounds that hold for any graph."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ablations.cost.makespan import makespan
from ablations.grid.keys import StageNode


def graph(*edges: tuple[str, tuple[str, ...]]) -> dict[str, StageNode]:
    return {key: StageNode("train", key, 1, {}, {name: name for name in inputs}, {}) for key, inputs in edges}


def test_by_hand() -> None:
    nodes = graph(("a", ()), ("b", ("a",)), ("c", ("a",)), ("d", ("b", "c")), ("e", ()))
    seconds = {"a": 2.0, "b": 3.0, "c": 5.0, "d": 1.0, "e": 4.0}
    assert makespan(nodes, [], seconds, 1) == 15
    assert makespan(nodes, [], seconds, 2) == 10, "e delays b by the time that c leaves no room for"
    assert makespan(nodes, [], seconds, 3) == 8
    assert makespan(nodes, ["a", "e"], seconds, 2) == 6
    assert makespan(nodes, list(nodes), {}, 2) == 0


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, StageNode], dict[str, float]]:
    count = draw(st.integers(1, 12))
    edges = []
    for number in range(count):
        before = st.lists(st.integers(0, number - 1), max_size=3, unique=True) if number else st.just([])
        edges.append((str(number), tuple(str(other) for other in draw(before))))
    times = draw(st.lists(st.integers(0, 20), min_size=count, max_size=count))
    return graph(*edges), {str(number): float(time) for number, time in enumerate(times)}


@settings(max_examples=150, deadline=None)
@given(graphs(), st.integers(1, 5))
def test_between_the_bounds_of_any_list_schedule(
    made: tuple[dict[str, StageNode], dict[str, float]], slots: int
) -> None:
    nodes, seconds = made
    end: dict[str, float] = {}
    for key, node in nodes.items():
        end[key] = seconds[key] + max((end[up] for up in node.inputs), default=0.0)
    longest, total = max(end.values()), sum(seconds.values())
    duration = makespan(nodes, [], seconds, slots)
    assert max(longest, total / slots) <= duration + 1e-9
    assert duration <= total / slots + longest * (1 - 1 / slots) + 1e-9
    assert makespan(nodes, [], seconds, 1) == total
    assert makespan(nodes, [], seconds, len(nodes)) == longest
