"""Files that are complete or absent: kills, several writers, leftovers, JSON."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from qsd import files
from qsd.files import (
    atomic,
    atomic_folder,
    create_bytes,
    is_temporary,
    json_bytes,
    read_json,
    remove_leftovers,
    temporary_path,
    write_bytes,
    write_json,
)

if TYPE_CHECKING:
    from pathlib import Path

KILLED = """
import os, signal, sys
from pathlib import Path
from qsd.files import atomic
with atomic(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_bytes(path, b"old")
    with atomic(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_bytes(path, b"old")

    def write() -> None:
        with atomic(path) as temporary:
            temporary.write_bytes(b"ne")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_leaves_a_temporary_file_which_is_recognised_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "inner" / "a.json"
    path.parent.mkdir()
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False).returncode == -9
    (left,) = path.parent.iterdir()
    assert left.name.startswith("."), "hidden: sealing a stage removes it"
    assert is_temporary(left)
    remove_leftovers(tmp_path, older_than_s=3600)
    assert left.exists(), "its writer may still live"
    os.utime(left, (0, 0))
    remove_leftovers(tmp_path, older_than_s=3600)
    assert not left.exists()


def test_two_writers_never_share_a_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with atomic(path) as first, atomic(path) as second:
        assert first != second
        first.write_bytes(b"1")
        second.write_bytes(b"2")
    assert path.read_bytes() == b"1"


def test_content_is_on_disk_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, flushed = tmp_path / "a", []
    monkeypatch.setattr(files.os, "fsync", lambda number: flushed.append((os.fstat(number).st_size, path.exists())))
    write_bytes(path, b"abc")
    assert flushed == [(3, False)]
    flushed.clear()
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "b").write_bytes(b"abcd")
    assert flushed == [(4, True)]


def test_only_temporary_files_are_leftovers(tmp_path: Path) -> None:
    kept = [tmp_path / name for name in ("a.tmp", ".hidden", ".a.tmp", ".a.123.tmp", "a.0123456789abcdef.tmp")]
    for path in [*kept, temporary_path(tmp_path / "a")]:
        path.touch()
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "folder"):
        raise KeyboardInterrupt
    temporary_path(tmp_path / "folder").mkdir()
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    remove_leftovers(tmp_path / "absent")


def test_of_two_folders_the_first_one_stays(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "a") as second:
        (second / "name").write_text("second")
        with atomic_folder(tmp_path / "a") as first:
            (first / "name").write_text("first")
    assert (tmp_path / "a" / "name").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_is_created_once(tmp_path: Path) -> None:
    assert create_bytes(tmp_path / "1", b"mine")
    assert not create_bytes(tmp_path / "1", b"yours")
    assert (tmp_path / "1").read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_json_keeps_its_order_and_refuses_what_it_cannot_say(tmp_path: Path) -> None:
    assert json_bytes({"b": "é", "a": [1]}, 1) == '{\n "b": "é",\n "a": [\n  1\n ]\n}\n'.encode()
    write_json(tmp_path / "a.json", {"b": 1.5})
    assert (tmp_path / "a.json").read_text() == '{\n  "b": 1.5\n}\n'
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"b": float("nan")})
    assert read_json(tmp_path / "a.json") == {"b": 1.5}
    (tmp_path / "b.json").write_text("{")
    assert read_json(tmp_path / "b.json") is None
    assert read_json(tmp_path / "c.json") is None


WRITER = """
import sys
from pathlib import Path
from qsd.files import write_bytes
for _ in range(200):
    write_bytes(Path(sys.argv[1]), sys.argv[2].encode() * 10_000)
"""


@pytest.mark.slow
def test_two_processes_write_one_file_and_a_reader_sees_one_of_both(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), letter]) for letter in "ab"]
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            assert path.read_bytes() in (b"a" * 10_000, b"b" * 10_000)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_json_file_is_none_and_never_waited_for(tmp_path: Path) -> None:
    """Brackets without end exceed Python's stack; a pipe would be waited for."""
    (tmp_path / "deep").write_text("[" * 100_000)
    (tmp_path / "latin").write_bytes(b'"\xe9"')
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    for name in ("deep", "latin", "pipe", "loop", "folder", "absent"):
        assert read_json(tmp_path / name) is None, name
