"""Snapshots: what runs is what was launched, and no key gets into them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ablations.running import attempt
from ablations.running.snapshot import CODE, PACKAGES, take
from ablations.secret_scan import named_secret, secret_in
from ablations.store import attempts
from ablations.store.artefacts import Store
from ablations.store.jobs import Job
from ablations.store.provenance import code_state
from qsd.errors import UserError
from tests.ablations import fake_stages
from tests.ablations.conftest import SMALL, Planner
from tests.conftest import ROOT

HEX = "0123456789abcdef" * 2 + "01234567"
KEYS = {
    "a W&B key": f"wandb.login(key='{HEX}')",
    "a Hugging Face token": "token = 'hf_" + "a1B2" * 9 + "'",
    "an AWS key": "AKIA" + "ABCD1234" * 2,
    "a GitHub token": "ghp_" + "x" * 36,
    "an API key": "sk-" + "y" * 40,
    "a private key": "-----BEGIN RSA PRIVATE" + " KEY-----",
    "a URL with a password": "proxy: https://ada:" + "l0velace@proxy.example.org:3128",
}


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A project of three little packages, committed."""
    root = tmp_path / "code"
    for package in PACKAGES:
        (root / package).mkdir(parents=True)
        (root / package / "__init__.py").write_text("")
    (root / "qsd" / "loop.py").write_text("one\n")
    (root / ".gitignore").write_text("*.log\n")
    (root / "README.md").write_text("not a package\n")
    git(root, "init", "-q")
    git(root, "config", "user.email", "a@example.org")
    git(root, "config", "user.name", "a")
    commit(root)
    return root


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "x")


def origin(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((path / "origin.json").read_text())
    return content


def names(path: Path) -> set[str]:
    return {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}


BESIDES = {"origin.json", "diff.patch", "environment.txt"}
USUAL = {*(f"{package}/__init__.py" for package in PACKAGES), "qsd/loop.py", *BESIDES}


def test_a_clean_tree(code: Path, store: Store) -> None:
    made = take(code, store)
    assert made.path == store.root.resolve() / "snapshots" / made.id
    assert names(made.path) == USUAL
    assert origin(made.path) == {"commit": git(code, "rev-parse", "HEAD"), "dirty": False, "untracked": {}}
    assert (made.path / "diff.patch").read_bytes() == b""
    environment = (made.path / "environment.txt").read_text().splitlines()
    assert environment[0] == f"python=={sys.version.split()[0]}"
    assert any(line.startswith("torch==") for line in environment)
    assert made.warnings == ()


def test_the_same_code_is_the_same_snapshot_and_other_code_another(code: Path, store: Store) -> None:
    first = take(code, store)
    assert take(code, store) == first
    (code / "qsd" / "loop.py").write_text("two\n")
    second = take(code, store)
    assert second.id != first.id
    assert (first.path / "qsd" / "loop.py").read_text() == "one\n"
    assert (second.path / "qsd" / "loop.py").read_text() == "two\n"
    assert sorted(path.name for path in first.path.parent.iterdir()) == sorted([first.id, second.id])


def test_changes_and_new_files_are_taken_and_told(code: Path, store: Store) -> None:
    (code / "qsd" / "loop.py").write_text("two\n")
    (code / "qsd" / "new.py").write_text("new\n")
    (code / "qsd" / "run.log").write_text("ignored by git\n")
    (code / "qsd" / "core").write_text("of no kind that code is made of\n")
    (code / "README.md").write_text("changed outside the packages\n")
    (code / "analysis" / "picture.py").symlink_to("/etc/hostname")
    made = take(code, store)
    assert names(made.path) == {*USUAL, "qsd/new.py"}
    assert origin(made.path)["dirty"] is True
    assert origin(made.path)["untracked"] == {"qsd/new.py": hashlib.sha256(b"new\n").hexdigest()[:16]}
    assert made.warnings == ("analysis/picture.py: it is a link out of the project; it is not in the snapshot",)
    patch = (made.path / "diff.patch").read_text()
    assert "+two" in patch
    assert "README" not in patch
    git(code, "checkout", "-q", "--", "qsd")
    git(code, "apply", str(made.path / "diff.patch"))
    assert (code / "qsd" / "loop.py").read_text() == "two\n"


def test_an_untracked_python_file_alone_makes_a_snapshot_dirty(code: Path, store: Store) -> None:
    (code / "qsd" / "table.csv").write_text("a,b\n")
    assert origin(take(code, store).path)["dirty"] is False, "no code"
    (code / "qsd" / "new.py").write_text("new\n")
    made = take(code, store)
    assert origin(made.path)["dirty"] is True
    assert code_state(code, str(made.path)) == {"commit": git(code, "rev-parse", "HEAD")} | {
        name: origin(made.path)[name] for name in ("dirty", "untracked")
    }


def test_notes_of_a_person_are_not_taken(code: Path, store: Store) -> None:
    """They lie in the work tree, git does not know them, and no code has their name: so there may be passwords."""
    (code / "qsd" / "notes.txt").write_text("cluster login: ada / correct horse battery staple\n")
    (code / "qsd" / "sites.yaml").write_text("password: hunter2\n")
    (code / "analysis" / "page.css").write_text("body {}\n")
    (code / "analysis" / "page.py").write_text('STYLE = "page.css"\n')
    made = take(code, store)
    assert names(made.path) == {*USUAL, "analysis/page.css", "analysis/page.py"}
    assert set(origin(made.path)["untracked"]) == {"analysis/page.css", "analysis/page.py"}
    shutil.rmtree(code / ".git")
    assert names(take(code, store).path) == {*USUAL, "analysis/page.css", "analysis/page.py"}


def test_a_deleted_file_is_not_there(code: Path, store: Store) -> None:
    (code / "qsd" / "loop.py").unlink()
    made = take(code, store)
    assert names(made.path) == USUAL - {"qsd/loop.py"}
    assert "deleted file" in (made.path / "diff.patch").read_text()


def test_without_git_all_files_are_taken(code: Path, store: Store) -> None:
    shutil.rmtree(code / ".git")
    (code / "qsd" / "__pycache__").mkdir()
    (code / "qsd" / "__pycache__" / "x.py").write_text("")
    made = take(code, store)
    assert names(made.path) == USUAL
    recorded = origin(made.path)
    assert (recorded["commit"], recorded["dirty"], sorted(recorded["untracked"])) == (
        None,
        False,
        sorted(USUAL - BESIDES),
    )


def test_a_missing_package_is_told(code: Path, store: Store) -> None:
    shutil.rmtree(code / "analysis")
    with pytest.raises(UserError, match="analysis: no such package; run from the project's folder"):
        take(code, store)


@pytest.mark.parametrize(("kind", "text"), KEYS.items())
def test_code_with_a_key_in_it_is_refused(kind: str, text: str, code: Path, store: Store) -> None:
    (code / "qsd" / "new.py").write_text(f"a = 1\n{text}\n")
    with pytest.raises(UserError, match=f"qsd/new.py: seems to hold {kind} on line 2; move it to an environment"):
        take(code, store)
    assert not (store.root / "snapshots").exists()


def test_other_files_with_keys_are_left_out_of_files_and_changes(code: Path, store: Store) -> None:
    (code / "qsd" / "site.json").write_text('{"a": 1}')
    (code / "qsd" / "old.py").write_text(f"api_key = '{HEX}'\n")
    commit(code)
    (code / "qsd" / "site.json").write_text(f'{{"wandb_api_key": "{HEX}"}}')
    (code / "qsd" / "old.py").write_text("")
    for name in (".env", "server.pem", ".netrc"):
        (code / "qsd" / name).write_text("x")
    git(code, "add", "-f", ".")
    made = take(code, store)
    assert names(made.path) == {*USUAL, "qsd/old.py"}
    assert not [path for path in made.path.rglob("*") if path.is_file() and HEX.encode() in path.read_bytes()]
    said = {warning.split(":")[0] for warning in made.warnings}
    assert said == {"qsd/site.json", "qsd/old.py", "qsd/.env", "qsd/server.pem", "qsd/.netrc"}


def test_the_projects_own_code_holds_no_key() -> None:
    for package in PACKAGES:
        for path in (CODE / package).rglob("*.py"):
            assert secret_in(path.read_bytes()) is None, path
            assert not named_secret(path.name), path


def test_two_launchers_at_once_make_one(code: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def overtaken(self: Path, target: Path) -> Path:
        shutil.copytree(self, target)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", overtaken)
    made = take(code, store)
    assert names(made.path) == USUAL
    assert [path.name for path in made.path.parent.iterdir()] == [made.id]


@pytest.mark.slow
def test_an_edit_after_the_launch_does_not_change_what_runs(plan_of: Planner, store: Store, world: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(CODE / package, world / package, ignore=shutil.ignore_patterns("__pycache__"))
    made = take(world, store)
    plan = plan_of(SMALL)
    nodes = [plan.cells[0].stages[name] for name in ("score", "encode")]
    launched, later = (
        Job.of(node, fake_stages.HERE, store.root, world, path).write().resolve()
        for node, path in zip(nodes, (made.path, None), strict=True)
    )
    assert launched.name == f"{nodes[0].key}.{made.id}.json"
    assert later.name == f"{nodes[1].key}.json"
    (world / "qsd" / "config" / "load.py").write_text("raise RuntimeError('edited after the launch')\n")

    def run(job: Path) -> int:
        command = "import sys; from ablations.slurm.entry import run_job; run_job(sys.argv[1])"
        path = os.pathsep.join([str(world), str(ROOT)])
        env = {**os.environ, "PYTHONPATH": path}
        return subprocess.run([sys.executable, "-P", "-c", command, str(job)], env=env, timeout=60).returncode

    assert run(later) == attempt.EXIT_FAILED, "the work tree is broken by now"
    assert run(launched) == attempt.EXIT_DONE
    folder = attempts.latest(store, "score", nodes[0].key)
    assert folder is not None
    record = json.loads((folder / attempts.ATTEMPT).read_text())
    assert record["snapshot"] == made.id
    assert (record["git"]["commit"], record["git"]["dirty"]) == (None, False)
    assert "qsd/config/load.py" in record["git"]["untracked"], "there is no repository: git knows none of the files"


def test_code_that_is_not_the_snapshots_refuses_to_run(plan_of: Planner, store: Store, world: Path) -> None:
    for package in PACKAGES:
        (world / package).mkdir()
        (world / package / "__init__.py").touch()
    node = plan_of(SMALL).cells[0].stages["score"]
    job = Job.of(node, fake_stages.HERE, store.root, world, take(world, store).path).write()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-m", "ablations.running.attempt", str(job)]
    assert subprocess.run(command, env=env, timeout=60).returncode == attempt.EXIT_FAILED
    folder = attempts.latest(store, "score", node.key)
    assert folder is not None
    ending = attempts.outcome(folder)
    assert ending is not None
    assert ending["reason"].startswith(f"this process runs the code in {ROOT}, not the job's snapshot")
