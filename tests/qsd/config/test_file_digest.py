"""Digests of files: every byte counts, also of files above 256 MB, and what is remembered is never believed blindly."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from qsd.config import digest as digests
from qsd.config import file_digest as files

LARGE = files.REMEMBERED_BYTES + 4_000_000
MIDDLE = LARGE // 2


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of remembered digests of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    digests.digest.cache_clear()
    return tmp_path / "cache" / "qsd" / "digests"


def large(path: Path, middle: bytes) -> Path:
    """A sparse file whose size, first MB and last MB are those of every other."""
    with path.open("wb") as stream:
        stream.write(b"begin")
        stream.seek(MIDDLE)
        stream.write(middle)
        stream.seek(LARGE - 3)
        stream.write(b"end")
    return path


def settle(path: Path) -> None:
    """Let a file look as if it was written an hour ago; the time of its last change of state stays."""
    hour_ago = time.time() - 3600
    os.utime(path, (hour_ago, hour_ago))


@pytest.mark.slow
def test_the_middle_of_a_large_file_counts(tmp_path: Path) -> None:
    one, other = large(tmp_path / "one.bin", b"3.0"), large(tmp_path / "other.bin", b"-9.")
    assert one.stat().st_size == other.stat().st_size
    assert digests.digest(one) != digests.digest(other)
    with one.open("rb") as stream:
        assert digests.digest(one) == hashlib.file_digest(stream, "sha256").hexdigest()[:32]


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests of small files are remembered too, and at once."""
    monkeypatch.setattr(files, "REMEMBERED_BYTES", 2)
    monkeypatch.setattr(files, "_SETTLED_S", -1.0)


@pytest.mark.usefixtures("small_files")
def test_a_remembered_file_is_not_read_again_until_it_changes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"weights")
    reads: list[Path] = []
    whole = files._read
    monkeypatch.setattr(files, "_read", lambda file: (reads.append(file), whole(file))[1])
    first = files.file_digest(path)
    assert files.file_digest(path) == first == hashlib.sha256(b"weights").hexdigest()[:32]
    assert len(reads) == 1
    assert [note.read_text() for note in cache.iterdir()] == [first]
    before = path.stat()
    path.write_bytes(b"WEIGHTS")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as rsync and cp -p do: the same size and time
    assert files.file_digest(path) != first
    path.write_bytes(b"weights")
    assert files.file_digest(path) == first


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("content", ["", "damaged"])
def test_a_damaged_note_and_a_cache_that_cannot_be_written_only_cost_time(
    content: str, tmp_path: Path, cache: Path
) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"weights")
    first = files.file_digest(path)
    next(iter(cache.iterdir())).write_text(content)
    assert files.file_digest(path) == first
    for note in cache.iterdir():
        note.unlink()
    cache.rmdir()
    cache.write_text("a file where the folder should be")
    assert files.file_digest(path) == first


def test_a_file_that_was_just_written_is_not_remembered(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be written again within the same tick of the disk's clock."""
    monkeypatch.setattr(files, "REMEMBERED_BYTES", 2)
    path = tmp_path / "weights.bin"
    path.write_bytes(b"weights")
    settle(path)
    files.file_digest(path)
    assert not cache.exists()
