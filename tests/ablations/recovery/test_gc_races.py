"""Deletion beside launchers, in folders of other things, and where it cannot be known what is in use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ablations.files import write_json
from ablations.recovery import gc
from ablations.recovery.gc import Item, delete, find_garbage
from ablations.store.artefacts import Store
from ablations.store.owner import Owner
from qsd.errors import UserError
from tests.ablations import fake_stages
from tests.ablations.command import ablate
from tests.ablations.conftest import Planner

KEY = "0" * 32


@pytest.fixture
def item(store: Store) -> Item:
    folder = store.artefact("train", KEY)
    folder.mkdir(parents=True)
    (folder / "result.txt").write_text("x")
    return Item("artefacts", folder, 1, KEY)


def answers(monkeypatch: pytest.MonkeyPatch, *needed: frozenset[str]) -> None:
    """What the launchers need, from one question to the next."""
    following: Iterator[frozenset[str]] = iter(needed)
    monkeypatch.setattr(gc, "needed", lambda _store: next(following))


def test_an_item_that_a_launcher_has_found_meanwhile_is_put_back(
    store: Store, item: Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, frozenset(), frozenset({KEY}))
    assert not delete(store, item)
    assert (item.path / "result.txt").read_text() == "x"
    assert not list((store.root / "trash").iterdir())
    assert store.claims.owner(KEY) is None, "the stage can be claimed"


def test_claims_on_a_stage_that_a_launcher_needs_keep_their_numbers(
    store: Store, item: Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process with an old listing would create a number that another one holds."""
    answers(monkeypatch, frozenset({KEY}))
    assert not delete(store, item)
    claim = store.claims.take(KEY)
    assert claim is not None
    assert claim.path.name == "2"


def test_an_item_that_nothing_needs_is_gone_with_its_claims(
    store: Store, item: Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, frozenset(), frozenset())
    assert delete(store, item)
    assert not item.path.exists()
    assert not (store.claims.folder / KEY).exists()
    assert delete(store, Item("artefacts", item.path, 1)), "what is gone is freed"


def test_a_folder_of_other_things_is_left_alone(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "data" / "shared" / "photos" / "a").mkdir(parents=True)
    assert ablate("gc", "--delete", "--runs", "data") == 2
    assert capsys.readouterr().err == "error: data: no results here; give the folder with --runs (or ABLATE_RUNS)\n"
    assert (world / "data" / "shared" / "photos" / "a").is_dir()


def test_a_damaged_list_of_cells_keeps_all_stages(plan_of: Planner, store: Store, item: Item) -> None:
    plan_of(name="good")
    unwanted = find_garbage(store, Path("sweeps"), fake_stages)
    assert [file.path for file in unwanted.items] == [item.path]
    (store.sweep("good@tiny")).mkdir(parents=True)
    for content in ("{", "{}", '{"sweep": "good", "cells": [{}]}', '{"sweep": "good", "cells": 3}'):
        (store.sweep("good@tiny") / "cells.json").write_text(content)
        unwanted = find_garbage(store, Path("sweeps"), fake_stages)
        assert unwanted.items == ()
        assert unwanted.notes[0].startswith("runs/sweeps/good@tiny/cells.json: damaged: all stages are kept until")


@pytest.mark.parametrize("place", ["launchers/a.json", "launches/a/launch.json"])
def test_nothing_is_freed_where_a_record_may_not_be_read(
    place: str, plan_of: Planner, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another user, whose launcher may need anything."""
    plan_of(name="good")
    write_json(store.root / place, {"owner": Owner.here().fields(), "keys": []})
    find_garbage(store, Path("sweeps"), fake_stages)
    monkeypatch.setattr(os, "access", lambda path, _mode: not str(path).endswith(".json"))
    with pytest.raises(UserError, match=rf"^runs/{place}: may not be read, so it is not known what is in use"):
        find_garbage(store, Path("sweeps"), fake_stages)
