"""Garbage: what no sweep needs is listed and freed; what somebody needs, works on or may work on stays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ablations.files import write_json
from ablations.planning.plan import Plan
from ablations.recovery.deletion import as_json, free, lines
from ablations.recovery.gc import Garbage, find_garbage
from ablations.running.finalize import write_cells
from ablations.slurm import query
from ablations.slurm.query import described
from ablations.store import launches
from ablations.store.artefacts import Store
from ablations.store.launchers import announced
from ablations.store.owner import Owner
from ablations.store.scheduler import JobState
from ablations.store.states import states
from tests.ablations import fake_stages
from tests.ablations.command import ablate
from tests.ablations.conftest import EXPERIMENT, SMALL, Planner, plan_text, set_log, write_assets, write_world
from tests.ablations.kill import tree
from tests.ablations.local_run import command, run_plan

OTHER = SMALL.replace("quality.metric: [product, difference]", "lora.rank: [4, 16]").replace(
    "baseline: {quality.metric: product}", "baseline: {lora.rank: 4}"
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where two sweeps were run."""
    folder = tmp_path_factory.mktemp("ran")
    write_world(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        set_log(patch, folder / "events")
        store = Store(Path("runs"), fake_stages.key_of)
        for plan in (plan_text(SMALL, "kept"), plan_text(OTHER, "gone")):
            run_plan(plan, store)
            write_cells(plan, store, None)
    return folder


@pytest.fixture
def finished(ran: Path, plan_of: Planner, store: Store, world: Path) -> tuple[Plan, Plan]:
    """Two sweeps that were run; the file of the second is gone."""
    (world / "sweeps" / "good.yaml").unlink()
    kept, gone = plan_of(SMALL, "kept"), plan_of(OTHER, "gone")
    shutil.copytree(ran / "runs", store.root)
    Path("sweeps/gone.yaml").unlink()
    return kept, gone


def garbage(store: Store) -> Garbage:
    return find_garbage(store, Path("sweeps"), fake_stages)


def by_kind(unwanted: Garbage) -> dict[str, set[str]]:
    kinds: dict[str, set[str]] = {}
    for item in unwanted.items:
        kinds.setdefault(item.kind, set()).add(item.key or item.path.name)
    return kinds


def test_what_no_sweep_refers_to_is_freed(finished: tuple[Plan, Plan], store: Store) -> None:
    kept, gone = finished
    before = tree(store.root)
    unwanted = garbage(store)
    only = set(gone.nodes) - set(kept.nodes)
    assert only
    assert by_kind(unwanted) == {"artefacts": only, "attempts": only, "records": only}
    assert unwanted.notes == ()
    assert tree(store.root) == before, "looking changes nothing"
    text = list(lines(unwanted))
    assert text[-1].split()[:2] == ["all", f"{3 * len(only):,}"]
    assert as_json(unwanted)["bytes"] == sum(item.bytes for item in unwanted.items) > 1000 * len(only)
    assert free(store, unwanted).startswith("freed ")
    assert set(states(store, kept.nodes).values()) == {"done"}
    assert {states(store, gone.nodes)[key] for key in only} == {"new"}
    assert garbage(store).items == ()
    assert list(lines(garbage(store))) == ["nothing to free"]
    assert not list((store.root / "claims").iterdir())


def test_the_last_run_counts_too(finished: tuple[Plan, Plan], store: Store) -> None:
    """A sweep that was run over another experiment, or that was edited since, keeps what its tables are made of."""
    _, gone = finished
    Path("sweeps/gone.yaml").write_text(OTHER.replace("lora.rank: [4, 16]", "lora.rank: [4, 32]"))
    assert "artefacts" not in by_kind(garbage(store))
    (store.root / "sweeps" / gone.name / "cells.json").unlink()
    assert by_kind(garbage(store))["artefacts"]


def test_an_unreadable_sweep_keeps_everything(finished: tuple[Plan, Plan], store: Store) -> None:
    Path("sweeps/broken.yaml").write_text("question: [")
    unwanted = garbage(store)
    assert by_kind(unwanted) == {}
    assert "sweeps/broken.yaml:1:" in unwanted.notes[0]
    assert "all stages are kept" in next(lines(unwanted))


def test_another_folder_frees_nothing(finished: tuple[Plan, Plan], store: Store, tmp_path: Path) -> None:
    unwanted = find_garbage(store, tmp_path / "elsewhere", fake_stages)
    assert unwanted.items == ()
    assert "no sweep here: all stages are kept" in unwanted.notes[0]


def test_left_overs_but_no_checkpoint_that_is_needed(finished: tuple[Plan, Plan], store: Store) -> None:
    kept, gone = finished
    trains = [node for node in kept.nodes.values() if node.stage == "train"]
    done, open_ = trains[0], trains[1]
    lost = next(node for key, node in gone.nodes.items() if node.stage == "train" and key not in kept.nodes)
    store.artefact("train", open_.key).rename(store.root / "away")
    for node in (done, open_, lost):
        write_json(store.partial("train", node.key) / ".state" / "step.json", {})
    for number in (2, 3):
        write_json(store.attempts("train", done.key) / str(number) / "exit.json", {"state": "failed", "reason": "x"})
    write_json(store.root / "damaged" / "train" / f"{done.key}-ab" / "x.json", {})
    unwanted = garbage(store)
    kinds = by_kind(unwanted)
    assert kinds["work"] == {done.key, lost.key}, "the open stage of a sweep goes on from its checkpoint"
    assert kinds["damaged"] == {f"{done.key}-ab"}
    old = [item.path.name for item in unwanted.items if item.kind == "attempts" and item.key == done.key]
    assert old == ["1", "2"]
    free(store, unwanted)
    assert [path.name for path in store.attempts("train", done.key).iterdir()] == ["3"]
    assert store.partial("train", open_.key).is_dir()
    assert not (store.root / "damaged" / "train" / f"{done.key}-ab").exists()


def test_reference_errors_go_when_no_training_is_left(finished: tuple[Plan, Plan], store: Store) -> None:
    """They serve trainings of any sweep, so one that was launched and is not done keeps them all."""
    kept, _ = finished
    folder = store.reference_errors / "0123"
    folder.mkdir(parents=True)
    (folder / "some.npy").write_bytes(b"errors")
    assert by_kind(garbage(store))["reference errors"] == {"0123"}
    train = next(node for node in kept.nodes.values() if node.stage == "train")
    done, aside = store.artefact("train", train.key), store.root / "aside"
    done.rename(aside)
    assert (store.root / "jobs" / "train" / f"{train.key}.json").exists()
    assert "reference errors" not in by_kind(garbage(store))
    aside.rename(done)
    free(store, garbage(store))
    assert not folder.exists()


def test_a_claim_left_on_a_finished_stage_goes(finished: tuple[Plan, Plan], store: Store) -> None:
    kept, _ = finished
    key = next(iter(kept.nodes))
    gone = {"owner": Owner.here().fields() | {"pid": 2**22 + 1}}
    write_json(store.claims.folder / key / "1", gone)
    write_json(store.claims.folder / "open" / "1", gone)
    unwanted = garbage(store)
    assert store.claims.folder / key in {item.path for item in unwanted.items}
    free(store, unwanted)
    assert [path.name for path in store.claims.folder.iterdir()] == ["open"], "a claim on an open stage is history"
    assert store.is_done(kept.nodes[key].stage, key)


def test_what_somebody_works_on_or_reads_stays(finished: tuple[Plan, Plan], store: Store) -> None:
    kept, gone = finished
    only = {key: node for key, node in gone.nodes.items() if key not in kept.nodes}
    evaluate = next(node for node in only.values() if node.stage == "evaluate")
    (read,) = evaluate.inputs.values()
    claim = store.claims.take(evaluate.key)
    assert claim is not None
    kinds = by_kind(garbage(store))
    assert kinds["artefacts"] == set(only) - {evaluate.key, read}
    assert evaluate.key not in kinds["attempts"]
    claim.release()
    unwanted = garbage(store)
    assert by_kind(unwanted)["artefacts"] == set(only)
    claim = store.claims.take(evaluate.key)
    assert claim is not None
    assert free(store, unwanted).endswith("4 kept, since another process works there now")
    assert store.is_done("evaluate", evaluate.key)


def submit(store: Store, job: str, keys: list[str], snapshot: str) -> launches.Launch:
    """A submission as the launcher records it, with its last job."""
    launch = launches.begin(store, "kept", "tiny", {}, "generic", "", snapshot)
    launch.record(launches.Array(job, False, "train", "small", keys))
    launch.record(launches.Array(f"{job}9", True, "finish", "small", []))
    for place in (store.root / "submitit" / launch.id, store.root / "snapshots" / snapshot):
        write_json(place / "file.json", {})
    return launch


def test_submissions(finished: tuple[Plan, Plan], store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, gone = finished
    key = next(key for key, node in gone.nodes.items() if node.stage == "train" and key not in kept.nodes)
    old, new = submit(store, "1", [key], "aaaa"), submit(store, "2", [key], "bbbb")
    answers: dict[str, str] | None = None

    def states_of(jobs: Any) -> dict[str, JobState] | None:
        return None if answers is None else {job: described(job, answers.get(job, "GONE")) for job in jobs}

    monkeypatch.setattr(query, "states", states_of)
    monkeypatch.setattr(query, "cluster", lambda: "one")
    unwanted = garbage(store)
    assert not {"launches", "snapshots"} & set(by_kind(unwanted))
    assert key not in by_kind(unwanted)["artefacts"], "no answer is no end"
    assert unwanted.notes == ("the scheduler does not answer: what it may hold is kept",)

    answers = {"2_0": "PENDING"}
    kinds = by_kind(garbage(store))
    assert kinds["launches"] == {old.id}
    assert kinds["snapshots"] == {"aaaa"}
    assert key not in kinds["artefacts"]

    answers = {"29": "PENDING"}
    assert by_kind(garbage(store))["snapshots"] == {"aaaa"}, "the last job runs from the snapshot, too"

    answers = {}
    unwanted = garbage(store)
    paths = {item.path for item in unwanted.items if item.kind == "launches"}
    assert paths == {store.root / "submitit" / old.id, store.root / "submitit" / new.id, old.folder}
    assert by_kind(unwanted)["snapshots"] == {"aaaa", "bbbb"}
    free(store, unwanted)
    last = launches.latest_launch(store, "kept")
    assert last is not None
    assert last.id == new.id, "resume still knows where the sweep was launched"


def test_a_rehearsal_goes_unless_it_is_under_way(finished: tuple[Plan, Plan], store: Store) -> None:
    rehearsal = Store(store.root / "dryrun", fake_stages.key_of)
    write_json(rehearsal.root / "artefacts" / "x.json", {})
    assert by_kind(garbage(store))["rehearsals"] == {"dryrun"}
    claim = rehearsal.claims.take("k")
    assert claim is not None
    assert "rehearsals" not in by_kind(garbage(store))


def test_a_killed_deletion_is_finished_later(finished: tuple[Plan, Plan], store: Store) -> None:
    write_json(store.root / "trash" / "0123" / "x.json", {})
    unwanted = garbage(store)
    assert by_kind(unwanted)["trash"] == {"0123"}
    free(store, unwanted)
    assert os.listdir(store.root / "trash") == []  # noqa: PTH208


def test_the_command_is_dry_by_default(
    world: Path, capsys: pytest.CaptureFixture[str], finished: tuple[Plan, Plan]
) -> None:
    before = tree(Path("runs"))
    write_assets(world)
    Path("sweeps/kept.yaml").rename("sweeps/else.yaml")
    Path("experiments/tiny.yaml").write_text(EXPERIMENT.replace("steps: 3", "steps: 4"))
    assert ablate("gc") == 0
    assert "'ablate gc --delete' frees it" in capsys.readouterr().out
    assert tree(Path("runs")) == before
    assert ablate("gc", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert {item["kind"] for item in listed["items"]} == {"artefacts", "attempts", "records"}
    assert ablate("gc", "--delete") == 0
    assert "freed " in capsys.readouterr().out
    assert not list(Path("runs/artefacts").glob("*/*"))


def test_what_a_living_launcher_needs_stays(plan_of: Planner, store: Store, world: Path, fake_log: Path) -> None:
    """Its sweep is none of ``sweeps/``; some stages are done, one runs, the others have not begun."""
    nothing_shared = "overrides: {model.resolution: 128, reward.model: aesthetic_emoji, selection.fraction: 30}\n"
    (world / "sweeps" / "good.yaml").write_text(f"{OTHER}{nothing_shared}")
    (world / "elsewhere.yaml").write_text(SMALL)
    gate = world / "gate"
    environment = {**os.environ, "FAKE_GATE": f"select:{gate}"}
    launcher = subprocess.Popen(command("elsewhere.yaml"), env=environment, stdout=subprocess.PIPE, text=True)
    try:
        fake_stages.wait_until(lambda: bool(store.present("encode")) and "run select" in fake_log.read_text(), "select")
        unwanted = garbage(store)
        assert not {item.kind for item in unwanted.items} - {"attempts"}
        free(store, unwanted)
    finally:
        gate.touch()
        output, _ = launcher.communicate(timeout=120)
    assert launcher.returncode == 0, output
    assert by_kind(garbage(store))["artefacts"], "now it is gone"
    assert not list((store.root / "launchers").iterdir())


def test_a_launcher_that_began_after_the_listing_keeps_its_stages(
    finished: tuple[Plan, Plan], store: Store, world: Path
) -> None:
    _, gone = finished
    unwanted = garbage(store)
    with announced(store, gone.nodes, gone.name):
        assert "kept, since another process works there now" in free(store, unwanted)
        assert set(states(store, gone.nodes).values()) == {"done"}
    owner = Owner.here().fields() | {"pid": 2**22 + 1}
    write_json(store.root / "launchers" / "killed.json", {"owner": owner, "keys": list(gone.nodes)})
    assert by_kind(garbage(store))["artefacts"], "a killed launcher needs nothing"
    with announced(store, [], ""):
        assert not (store.root / "launchers" / "killed.json").exists()
