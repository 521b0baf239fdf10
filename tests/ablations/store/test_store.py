"""The store: done means proven, and a kill between writing a record and renaming loses nothing."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from ablations.files import read_json, write_json
from ablations.store.artefacts import Store
from ablations.store.claims import Claims
from ablations.store.owner import Owner
from qsd.run_store import Record
from tests.ablations import fake_stages

MEANING = {"quality.metric": "difference"}
KEY = fake_stages.key_of("select", 1, MEANING, {"score": "ab"})
RECORD = Record("select", 1, KEY, MEANING, {"score": "ab"}, {})


@pytest.fixture
def sealed(store: Store) -> Store:
    fill(store)
    store.seal(RECORD)
    return store


def fill(store: Store) -> Path:
    folder = store.partial("select", KEY)
    (folder / ".state").mkdir(parents=True)
    (folder / ".state" / "step").write_text("5")
    (folder / "inner").mkdir()
    (folder / "inner" / ".part.parquet.tmp").write_text("left by a kill")
    (folder / "inner" / "a.txt").write_text("hello")
    (folder / "b.txt").write_text("")
    return folder


def test_a_sealed_stage_is_done_and_holds_only_its_files(sealed: Store) -> None:
    assert sealed.is_done("select", KEY)
    folder = sealed.artefact("select", KEY)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    assert names == ["b.txt", "inner", "inner/a.txt", "record.json"]
    record = sealed.record("select", KEY)
    assert record is not None
    assert {name: entry["bytes"] for name, entry in record.files.items()} == {"b.txt": 0, "inner/a.txt": 5}
    assert not sealed.partial("select", KEY).exists()


def test_absent_is_not_done(store: Store) -> None:
    assert store.problem("select", KEY) == "absent"


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("meaning", {"quality.metric": "product"}, "its record does not match its key"),
        ("inputs", {"score": "cd"}, "its record does not match its key"),
        ("version", 2, "its record does not match its key"),
        ("stage", "score", "its record is of score/"),
        ("key", "0" * 32, "its record is of select/0000"),
        ("files", {"b.txt": {"bytes": 7, "sha256": ""}}, "its file b.txt has 0 bytes, not 7"),
        ("files", {"c.txt": {"bytes": 7, "sha256": ""}}, "its file c.txt is missing"),
        ("files", None, "its record is missing or not readable"),
        ("meaning", {"x": float("nan")}, "its record does not match its key"),
    ],
)
def test_a_tampered_record_is_not_done(field: str, value: Any, problem: str, sealed: Store) -> None:
    path = sealed.artefact("select", KEY) / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    assert (sealed.problem("select", KEY) or "").startswith(problem)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"stage": "select"}'])
def test_a_broken_record_is_not_done(content: str, sealed: Store) -> None:
    (sealed.artefact("select", KEY) / "record.json").write_text(content)
    assert sealed.problem("select", KEY) == "its record is missing or not readable"


def test_a_missing_or_cut_file_is_not_done(sealed: Store) -> None:
    file = sealed.artefact("select", KEY) / "inner" / "a.txt"
    file.write_text("hell")
    assert sealed.problem("select", KEY) == "its file inner/a.txt has 4 bytes, not 5"
    file.unlink()
    assert sealed.problem("select", KEY) == "its file inner/a.txt is missing"


def test_a_damaged_artefact_is_replaced_and_kept_aside(sealed: Store) -> None:
    (sealed.artefact("select", KEY) / "b.txt").unlink()
    fill(sealed)
    sealed.seal(RECORD)
    assert sealed.is_done("select", KEY)
    (aside,) = (sealed.root / "damaged" / "select").iterdir()
    assert (aside / "inner" / "a.txt").read_text() == "hello"


class KilledError(Exception):
    pass


@pytest.mark.parametrize("call", ["rename", "rmtree"])
def test_a_kill_between_record_and_rename_repeats_nothing(
    call: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)

    def killed(*_arguments: Any, **_named: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.rename" if call == "rename" else "shutil.rmtree", killed)
        with pytest.raises(KilledError):
            store.seal(RECORD)
    assert not store.is_done("select", KEY)
    assert store.finish_interrupted_seal("select", KEY)
    assert store.is_done("select", KEY)
    assert not (store.artefact("select", KEY) / ".state").exists()


def test_a_record_of_other_files_does_not_seal(store: Store) -> None:
    folder = fill(store)
    files = {"b.txt": {"bytes": 0, "sha256": "0" * 64}}
    write_json(folder / "record.json", RECORD.__dict__ | {"files": files})
    assert not store.finish_interrupted_seal("select", KEY)
    assert (folder / ".state" / "step").exists(), "the work goes on from its checkpoint"
    assert not (folder / "record.json").exists()
    assert not store.finish_interrupted_seal("select", "0" * 32), "nothing was begun"


def test_records_are_the_same_bytes_wherever_they_are_made(sealed: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other", fake_stages.key_of)
    fill(other)
    other.seal(RECORD)
    files = [store.artefact("select", KEY) / "record.json" for store in (sealed, other)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_claim_is_exclusive_until_released(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    claim = claims.take("k")
    assert claim is not None
    assert claims.take("k") is None
    assert claims.holder("k") == Owner.here()
    claim.release()
    assert claims.holder("k") is None
    again = claims.take("k")
    assert again is not None
    again.forget()
    assert claims.holder("k") is None
    assert list(tmp_path.iterdir()) == []


def owner(**changes: Any) -> dict[str, Any]:
    return {"owner": Owner.here().fields() | changes}


@pytest.mark.parametrize(
    ("content", "gone"),
    [
        (owner(), False),
        (owner(pid=2**22 + 1), True),
        (owner(started=1), True),
        (owner(boot="another"), Owner.here().machine != ""),
        (owner(boot="another", machine="another"), False),
        (owner(boot="another", machine=""), False),
        (owner(boot=""), False),
        (owner(host="elsewhere", pid=2**22 + 1), False),
        (owner(namespace="pid:[1]", pid=2**22 + 1), False),
        ({"owner": {"host": "x"}}, False),
        ({"released": True}, True),
        ([], False),
    ],
    ids=[
        "alive",
        "gone",
        "reused number",
        "rebooted",
        "another machine of the same name",
        "a machine without an id",
        "a machine without boot ids",
        "other host",
        "other container",
        "unreadable",
        "released",
        "list",
    ],
)
def test_only_a_provably_gone_owner_loses_its_claim(content: Any, gone: bool, tmp_path: Path) -> None:
    write_json(tmp_path / "k" / "3", content)
    claim = Claims(tmp_path).take("k")
    assert (claim is not None) == gone
    if claim is not None:
        assert claim.path.name == "4"


def test_an_old_claim_is_as_good_as_a_new_one(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    claim = claims.take("k")
    assert claim is not None
    os.utime(claim.path, (0, 0))
    assert claims.take("k") is None


def _compete(folder: Path, name: int, rounds: int, barrier: Any) -> None:
    """In each round, claim one key, work, and leave as a success, a failure or a death that leaves the claim behind."""
    claims = Claims(folder / "claims")
    for number in range(rounds):
        barrier.wait()
        key = f"k{number}"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if (folder / f"done{number}").exists():
                break
            claim = claims.take(key)
            if claim is None:
                time.sleep(0.001)
                continue
            if (folder / f"done{number}").exists():
                claim.forget()
                break
            working = folder / f"working{number}"
            descriptor = os.open(working, os.O_CREAT | os.O_EXCL)  # fails if two work at once
            os.close(descriptor)
            time.sleep(0.002)
            with (folder / "log").open("a") as log:
                log.write(f"{number} {name}\n")
            working.unlink()
            if name % 3 == 0 and number % 2 == 0:
                write_json(claim.path, {"owner": Owner.here().fields() | {"started": 1}})  # as if it had died
                continue
            if name % 3 == 1 and number % 3 == 0:
                claim.release()
                continue
            (folder / f"done{number}").touch()
            claim.forget()


@pytest.mark.slow
def test_racing_processes_never_work_on_one_stage_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(6)
    family = [context.Process(target=_compete, args=(tmp_path, name, 20, barrier)) for name in range(6)]
    for process in family:
        process.start()
    for process in family:
        process.join(300)
    assert [process.exitcode for process in family] == [0] * 6
    finished = sum((tmp_path / f"done{number}").exists() for number in range(20))
    assert finished == 20


def test_a_killed_process_is_gone_and_a_zombie_too() -> None:
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    fields = Owner.here().fields() | {"pid": pid}
    started = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    child = Owner.of(fields | {"started": started})
    assert not child.is_dead()
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # until it has ended, but leave it a zombie
    assert child.is_dead(), "a zombie works on nothing"
    os.waitpid(pid, 0)
    assert child.is_dead()


def test_json_files_are_whole_or_absent(tmp_path: Path) -> None:
    assert read_json(tmp_path / "x.json") is None
    (tmp_path / "x.json").write_text("{")
    assert read_json(tmp_path / "x.json") is None
    write_json(tmp_path / "deep" / "x.json", {"a": 1})
    assert read_json(tmp_path / "deep" / "x.json") == {"a": 1}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x.json"]
