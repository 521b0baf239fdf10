"""The folder of a single command: what is continued, what is refused, and what ``--overwrite`` deletes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from qsd.errors import UserError
from qsd.output_folder import claimed
from qsd.runtime import STATE


def finish(output: Path, meaning: str = "a", overwrite: bool = False) -> None:
    with claimed(output, meaning, overwrite):
        (output / "inner").mkdir(exist_ok=True)
        (output / "inner" / "table").write_text(meaning)
        (output / STATE / "checkpoint").write_text(meaning)


def interrupt(output: Path, meaning: str = "a") -> None:
    with contextlib.suppress(KeyboardInterrupt), claimed(output, meaning):
        (output / STATE / "checkpoint").write_text(meaning)
        raise KeyboardInterrupt


def test_a_mistake_leaves_nothing_and_the_right_settings_run(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with contextlib.suppress(UserError), claimed(output, "wrong"):
        (output / STATE / "empty").mkdir()
        raise UserError("no weights")
    assert not output.exists()
    finish(output, "right")
    assert (output / "inner" / "table").read_text() == "right"
    assert not (output / STATE).exists()


def test_a_mistake_keeps_a_folder_that_was_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="x"), claimed(tmp_path, "wrong"):
        raise UserError("x")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_is_kept_and_continued_by_the_same_settings_only(tmp_path: Path) -> None:
    output = tmp_path / "out"
    interrupt(output)
    with pytest.raises(UserError, match="other settings; add --overwrite"):
        finish(output, "b")
    assert (output / STATE / "checkpoint").read_text() == "a"
    finish(output, "a")
    assert not (output / STATE).exists()


@pytest.mark.parametrize("begin", [finish, interrupt])
def test_overwriting_deletes_a_result_finished_or_not(begin: Callable[[Path], None], tmp_path: Path) -> None:
    output = tmp_path / "out"
    begin(output)
    with claimed(output, "b", overwrite=True):
        assert [path.name for path in output.iterdir()] == [STATE]
        assert not (output / STATE / "checkpoint").exists()


def test_a_finished_result_is_refused_without_overwriting(tmp_path: Path) -> None:
    finish(tmp_path / "out")
    with pytest.raises(UserError, match="is not empty; add --overwrite or choose another --out"):
        finish(tmp_path / "out")


def test_overwriting_never_deletes_what_qsd_did_not_write(tmp_path: Path) -> None:
    output = tmp_path / "out"
    finish(output)
    (output / "inner" / "note.txt").write_text("mine")
    with pytest.raises(UserError, match=r"inner/note\.txt is not of the run that filled it; delete it yourself"):
        finish(output, "b", overwrite=True)
    assert (output / "inner" / "table").read_text() == "a"
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="it is not known to be a result of qsd"):
        finish(foreign, overwrite=True)
    with pytest.raises(UserError, match="delete it or choose another --out"):
        finish(foreign)
    assert (foreign / "thesis.tex").read_text() == "mine"


def test_overwriting_never_deletes_an_input_of_the_run(tmp_path: Path) -> None:
    output = tmp_path / "out"
    finish(output)
    for read in (output, output / "inner"):
        with pytest.raises(UserError, match="this run reads"), claimed(output, "b", overwrite=True, inputs=[read]):
            pass
    assert (output / "inner" / "table").read_text() == "a"


def test_overwriting_leaves_what_a_link_points_to(tmp_path: Path) -> None:
    output, kept = tmp_path / "out", tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("kept")
    with claimed(output, "a"):
        (output / "link").symlink_to(kept)
    finish(output, "b", overwrite=True)
    assert (kept / "file").read_text() == "kept"
