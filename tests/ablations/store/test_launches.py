"""Records of submissions, and the tickets made from them."""

from __future__ import annotations

from typing import Any

import pytest

from ablations.files import read_json, write_json
from ablations.store import launches
from ablations.store.artefacts import Store
from ablations.store.launches import Array, LatestJob


def begin(store: Store, sweep: str = "a") -> launches.Launch:
    return launches.begin(store, sweep, "tiny", {"name": sweep}, "one.yaml", "one", "abc")


def test_a_launch_reads_back(store: Store) -> None:
    launch = begin(store)
    launch.record(Array("7", False, "train", "1 GPU", ["k1", "k2"]))
    launch.record(Array("8", True, "evaluate", "1 GPU", ["k3"]))
    (read,) = launches.launches(store)
    assert read == launch
    assert [(array.job, array.single, list(array.keys)) for array in read.arrays()] == [
        ("7", False, ["k1", "k2"]),
        ("8", True, ["k3"]),
    ]


def test_tickets_name_the_newest_job(store: Store) -> None:
    first, second = begin(store), begin(store, "b")
    for number in range(12):  # more than nine: in the order of numbers, not of names
        first.record(Array(str(number), False, "train", "", ["k1", f"only-{number}"]))
    assert launches.latest_jobs(store)["k1"] == LatestJob("11_0", first.id, "one")
    second.record(Array("50", True, "train", "", ["k1"]))
    jobs = launches.latest_jobs(store)
    assert jobs["k1"] == LatestJob("50", second.id, "one")
    assert jobs["only-3"] == LatestJob("3_1", first.id, "one")


def test_the_latest_launch_of_a_sweep(store: Store) -> None:
    assert launches.latest_launch(store, "a") is None
    begin(store)
    newest = begin(store)
    begin(store, "b")
    assert launches.latest_launch(store, "a") == newest
    assert launches.latest_launch(store, "a@tiny") == newest
    assert launches.latest_launch(store, "a@other") is None


def test_a_half_written_launch_is_no_launch(store: Store) -> None:
    launch = begin(store)
    (launch.folder / "launch.json").write_text('{"sweep": "a"')
    assert launches.launches(store) == []
    assert launches.latest_jobs(store) == {}


def test_a_launch_follows_those_before_it_though_the_clock_was_set_back(store: Store) -> None:
    first = begin(store)
    ahead = launches._folder(store) / "29990101-000000-999999-abcd"
    first.folder.rename(ahead)
    second = begin(store)
    third = begin(store)
    assert [launch.id for launch in launches.launches(store)] == [ahead.name, second.id, third.id]
    assert second.id.startswith("29990101-000001-000000-")


@pytest.mark.parametrize("damage", [{"keys": 3}, {"keys": [1]}, {"job": None}, {"held": "no"}])
def test_a_damaged_array_is_passed_over(store: Store, damage: dict[str, Any]) -> None:
    launch = begin(store)
    number = launch.record(Array("7", False, "train", "1 GPU", ["k1"]))
    path = launch.folder / "arrays" / f"{number}.json"
    write_json(path, read_json(path) | damage)  # type: ignore[operator]
    (path.parent / "1 (copy).json").touch()
    assert list(launches.all_jobs(store)) == []
    assert launch.record(Array("8", False, "train", "1 GPU", ["k1"])) == number + 1
