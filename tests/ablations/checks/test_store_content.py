"""A byte that flips inside a finished artefact: no stage and no table uses it, and ``ablate verify`` names the file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ablations.planning.plan import Plan
from ablations.running import attempt
from ablations.store import attempts
from ablations.store.artefacts import Store
from ablations.store.jobs import Job
from analysis.data.sweep import check_content
from qsd.errors import UserError
from qsd.run_store import Record, key_of
from qsd.stages.run_single import input_folders
from tests.ablations import fake_stages
from tests.ablations.command import ablate
from tests.ablations.conftest import SMALL, Planner
from tests.conftest import ROOT


def seal(store: Store, stage: str, **files: str) -> Path:
    """A finished stage with these files; its folder."""
    meaning = {"content": sorted(files.values())}
    key = key_of(stage, 1, meaning, {})
    folder = store.partial(stage, key)
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    store.seal(Record(stage, 1, key, meaning, {}, {}))
    return store.artefact(stage, key)


def flip(path: Path) -> None:
    """Flip one bit and keep size and time, as a bad disk does."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def run(job: Path) -> int:
    command = [sys.executable, "-m", "ablations.running.attempt", str(job)]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, timeout=120).returncode


def job_of(plan: Plan, stage: str, store: Store) -> Path:
    return Job.of(plan.cells[0].stages[stage], fake_stages.HERE, store.root, Path.cwd()).write().resolve()


@pytest.mark.slow
def test_a_stage_refuses_a_damaged_input_and_uses_it_again_when_it_is_whole(plan_of: Planner, store: Store) -> None:
    plan = plan_of(SMALL)
    score, select = plan.cells[0].stages["score"], plan.cells[0].stages["select"]
    assert run(job_of(plan, "score", store)) == attempt.EXIT_DONE
    damaged = store.artefact("score", score.key) / "inner" / "part.bin"
    flip(damaged)
    assert store.is_done("score", score.key), "its size is as before"
    assert run(job_of(plan, "select", store)) == attempt.EXIT_FAILED
    folder = attempts.latest(store, "select", select.key)
    ending = attempts.outcome(folder) if folder else None
    assert ending is not None
    assert ending["reason"] == (
        f"input score/{score.key}: its file inner/part.bin is damaged: its content is not what was written; "
        f"remove it (rm -r {damaged.parents[1].resolve()}) and run the sweep again to recompute it"
    )
    assert not store.is_done("select", select.key)
    flip(damaged)
    assert run(job_of(plan, "select", store)) == attempt.EXIT_DONE


def test_verify_names_every_damaged_file_and_changes_nothing(
    store: Store, assets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = seal(store, "train", adapter="weights", log="steps")
    bad, worse = seal(store, "select", rows="pairs", summary="text"), seal(store, "evaluate", scores="numbers")
    assert ablate("verify") == 0
    assert capsys.readouterr().out == "3 finished stages, 28 B: every file is as it was written\n"
    flip(bad / "rows")
    (bad / "summary").unlink()
    flip(worse / "scores")
    (seal(store, "data", pairs="p") / "record.json").write_text("{")
    assert ablate("verify") == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("damaged")] == [
        f"damaged: {next((store.root / 'artefacts' / 'data').iterdir())}: its record is missing or not readable",
        f"damaged: {worse}: its file scores is damaged: its content is not what was written",
        f"damaged: {bad}: its file rows is damaged: its content is not what was written",
        f"damaged: {bad}: its file summary is missing",
    ]
    assert lines[4].endswith("3 damaged. Remove the folders, and 'ablate run NAME' computes them again:")
    assert f"  rm -r {bad}" in lines
    assert not [line for line in lines if str(whole) in line]
    assert whole.is_dir()
    assert bad.is_dir()
    assert ablate("verify", "good") == 0, "none of these is a stage of this sweep"


def test_verify_of_no_store_says_so(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate("verify", "--runs", "elsewhere") == 2
    assert capsys.readouterr().err == "error: elsewhere: no results here; give the folder with --runs\n"


def test_a_file_is_read_once_per_process_and_again_when_it_changes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qsd import run_store

    reads: list[Path] = []
    whole = run_store.file_digest
    monkeypatch.setattr(run_store, "file_digest", lambda path: (reads.append(path), whole(path))[1])
    folder = seal(store, "train", adapter="weights")
    for _ in range(3):
        assert store.damage("train", folder.name) is None
    assert reads == [folder / "adapter"]
    flip(folder / "adapter")
    assert "is damaged" in (store.damage("train", folder.name) or "")


def test_tables_and_single_stages_refuse_damaged_content(store: Store) -> None:
    folder = seal(store, "evaluate", scores="numbers")
    check_content(store.root, "evaluate", folder.name)
    assert input_folders("select", [f"score={folder}"], ["score"]) == {"score": folder}
    flip(folder / "scores")
    with pytest.raises(UserError, match=f"{folder}: its file scores is damaged.*'ablate run' computes it again"):
        check_content(store.root, "evaluate", folder.name)
    with pytest.raises(UserError, match=f"--input score={folder}: its file scores is damaged.*; compute it again"):
        input_folders("select", [f"score={folder}"], ["score"])
