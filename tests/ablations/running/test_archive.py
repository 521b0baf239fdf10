"""The tables that a sweep had before its cells changed are kept, each once, and nothing else is moved."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ablations.files import write_json
from ablations.recovery.gc import find_garbage
from ablations.running import archive
from ablations.running.archive import keep_earlier
from ablations.running.finalize import write_cells
from ablations.store.artefacts import Store
from tests.ablations import fake_stages
from tests.ablations.conftest import SMALL, Planner
from tests.ablations.kill import tree

MOMENT = 1_770_000_000
"""2026-02-02, 02:40:00 UTC."""


def cells(*seeds: int, key: str = "k", state: str = "finished", name: str = "a") -> dict[str, Any]:
    entries = [
        {
            "name": name,
            "role": "grid",
            "is_baseline": True,
            "cell_id": "c1",
            "seed": seed,
            "state": state,
            "stages": {"train": f"{key}{seed}", "evaluate": f"e{key}{seed}"},
        }
        for seed in seeds
    ]
    return {"question": "q", "cells": entries}


def put(folder: Path, content: dict[str, Any], table: str = "numbers") -> dict[str, str]:
    """A sweep's folder as a run leaves it; the digests of what is about its cells."""
    write_json(folder / "cells.json", content)
    (folder / "table.csv").write_text(table)
    os.utime(folder / "table.csv", (MOMENT, MOMENT))
    (folder / "tables.lock.json").write_text("{}")
    (folder / "pictures").mkdir(exist_ok=True)
    (folder / "pictures" / "effects.png").write_bytes(b"png")
    return {name: digest for name, digest in tree(folder).items() if not name.startswith(("earlier", "wandb"))}


def test_other_cells_move_the_earlier_set_aside(tmp_path: Path) -> None:
    before = put(tmp_path, cells(0, 1, 2))
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "run").write_text("stays")
    (tmp_path / "wandb.log").write_text("stays")
    kept = keep_earlier(tmp_path, cells(0))
    assert kept is not None
    assert kept.parent == tmp_path / "earlier"
    assert kept.name.startswith("20260202-024000-")
    assert tree(kept) == before
    assert {path.name for path in tmp_path.iterdir()} == {"earlier", "wandb", "wandb.log"}


def test_another_primary_scorer_marks_another_table(tmp_path: Path) -> None:
    primary = {"scorer": "judge_emoji", "split": "evaluation", "stated": True}
    before = put(tmp_path, cells(0) | {"primary": primary})
    assert keep_earlier(tmp_path, cells(0) | {"primary": dict(primary)}) is None
    kept = keep_earlier(tmp_path, cells(0) | {"primary": primary | {"scorer": "clip_emoji_b"}})
    assert kept is not None
    assert tree(kept) == before


@pytest.mark.parametrize(
    "now",
    [
        cells(0, 1),
        cells(1, 0),
        cells(0, 1, state="diverged"),
        cells(0, 1, name="another label"),
        cells(0, 1) | {"git_commit": "f" * 40, "question": "other words"},
    ],
    ids=["same", "order", "states", "labels", "commit and words"],
)
def test_the_same_cells_are_overwritten(tmp_path: Path, now: dict[str, Any]) -> None:
    put(tmp_path, cells(0, 1))
    before = tree(tmp_path)
    assert keep_earlier(tmp_path, now) is None
    assert tree(tmp_path) == before


def test_changed_code_and_another_baseline_are_other_cells(tmp_path: Path) -> None:
    put(tmp_path, cells(0))
    assert keep_earlier(tmp_path, cells(0, key="other")) is not None
    put(tmp_path, cells(0))
    other = cells(0)
    other["cells"][0]["is_baseline"] = False
    assert keep_earlier(tmp_path, other) is not None


def test_without_a_table_there_is_nothing_to_keep(tmp_path: Path) -> None:
    write_json(tmp_path / "cells.json", cells(0))
    assert keep_earlier(tmp_path, cells(1)) is None
    assert keep_earlier(tmp_path / "absent", cells(1)) is None
    assert [path.name for path in tmp_path.iterdir()] == ["cells.json"]


def test_a_table_without_a_readable_list_of_cells_is_kept(tmp_path: Path) -> None:
    put(tmp_path, cells(0))
    (tmp_path / "cells.json").write_text("{")
    kept = keep_earlier(tmp_path, cells(0))
    assert kept is not None
    assert (kept / "table.csv").read_text() == "numbers"


def test_looking_at_two_lists_of_seeds_in_turns_keeps_each_once(tmp_path: Path) -> None:
    for _ in range(3):
        put(tmp_path, cells(0, 1, 2), "three seeds")
        keep_earlier(tmp_path, cells(0))
        put(tmp_path, cells(0), "one seed")
        keep_earlier(tmp_path, cells(0, 1, 2))
    tables = sorted(path.read_text() for path in tmp_path.glob("earlier/*/table.csv"))
    assert tables == ["one seed", "three seeds"]


def test_a_set_with_other_numbers_is_kept_beside_one_of_the_same_second(tmp_path: Path) -> None:
    for table in ("first", "second", "third"):
        put(tmp_path, cells(0), table)
        keep_earlier(tmp_path, cells(1))
    tables = sorted(path.read_text() for path in tmp_path.glob("earlier/*/table.csv"))
    assert tables == ["first", "second", "third"]


@pytest.mark.parametrize("step", ["_copy", "_remove"])
def test_a_kill_meanwhile_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Killed before the copy has its name, or after the first original was removed."""
    before = put(tmp_path, cells(0))

    def killed(*arguments: Any) -> None:
        if step == "_copy":
            (tmp_path / "earlier" / ".half").mkdir(parents=True)
        else:
            shutil.rmtree(tmp_path / "pictures")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(archive, step, killed)
        with pytest.raises(KeyboardInterrupt):
            keep_earlier(tmp_path, cells(1))
    keep_earlier(tmp_path, cells(1))
    assert any(tree(kept) == before for kept in tmp_path.glob("earlier/[0-9]*"))
    assert not (tmp_path / "table.csv").exists()


def test_a_changed_sweep_says_where_its_earlier_table_is_and_frees_as_before(
    plan_of: Planner, store: Store, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = plan_of(SMALL), plan_of(SMALL.replace("[0]", "[0, 1]"))
    folder = write_cells(first, store, None)
    (folder / "table.csv").write_text("numbers")
    write_cells(first, store, None)
    assert capsys.readouterr().out == ""
    for node in first.nodes.values():
        write_json(store.artefact(node.stage, node.key) / "record.json", {})
    alone = Store(Path("alone"), fake_stages.key_of)
    shutil.copytree(store.root, alone.root)
    for each in (store, alone):
        if each is alone:
            (alone.sweep(first.name) / "table.csv").unlink()
        write_cells(second, each, None)
    output = capsys.readouterr().out
    (kept,) = (folder / "earlier").iterdir()
    assert output == f"note: the sweep's cells or its primary scorer have changed; earlier tables are in {kept}\n"
    for sweep in world.glob("sweeps/good.yaml"):
        sweep.unlink()
    unwanted, expected = (find_garbage(each, Path("sweeps"), fake_stages) for each in (store, alone))
    assert [item.key for item in unwanted.items] == [item.key for item in expected.items]
    assert unwanted.notes == ()


def test_two_launchers_that_keep_the_same_set_do_not_disturb_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one is done between this one's listing and its first look into a file."""
    before = put(tmp_path, cells(0, 1))
    genuine = archive._kept

    def after_the_other(folder: Path, names: list[str], identity: str) -> Path | None:
        monkeypatch.setattr(archive, "_kept", genuine)
        assert keep_earlier(folder, cells(0)) is not None
        return None

    monkeypatch.setattr(archive, "_kept", after_the_other)
    assert keep_earlier(tmp_path, cells(0)) is None
    (kept,) = (tmp_path / "earlier").iterdir()
    assert tree(kept) == before
