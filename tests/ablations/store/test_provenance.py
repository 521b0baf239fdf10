"""Where code comes from: what git does not know of it is said and recorded, what is no code is not."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from ablations.running.finalize import commit_of
from ablations.store.provenance import ORIGIN, code_state, git_state


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A committed work tree with the packages' names."""
    root = tmp_path / "tree"
    for name in ("qsd/losses", "ablations", "analysis", "experiments/emoji", "notes", "members/losses"):
        (root / name).mkdir(parents=True)
    (root / "qsd" / "losses" / "dpo.py").write_text("beta = 1\n")
    (root / ".gitignore").write_text("scratch_*.py\n")
    git(root, "init", "-q")
    git(root, "config", "user.email", "a@example.org")
    git(root, "config", "user.name", "a")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "x")
    git_state.cache_clear()
    return root


def state(root: Path) -> dict[str, object]:
    git_state.cache_clear()
    return git_state(root)


def test_a_clean_tree_is_clean(tree: Path) -> None:
    assert state(tree) == {"commit": git(tree, "rev-parse", "HEAD"), "dirty": False, "untracked": {}}


@pytest.mark.parametrize(
    "name",
    ["qsd/losses/own loss.py", "ablations/x.py", "analysis/x.py", "experiments/emoji/x.py", "members/losses/mine.py"],
)
def test_an_untracked_python_file_in_a_package_is_dirty_and_its_digest_recorded(tree: Path, name: str) -> None:
    (tree / name).write_text("beta = 2\n")
    recorded = state(tree)
    assert recorded["dirty"] is True
    assert recorded["untracked"] == {name: hashlib.sha256(b"beta = 2\n").hexdigest()[:16]}
    (tree / name).write_text("beta = 3\n")
    assert state(tree)["untracked"] == {name: hashlib.sha256(b"beta = 3\n").hexdigest()[:16]}


@pytest.mark.parametrize(
    "name",
    ["qsd/scratch_1.py", "notes/plot.py", "plot.py", "qsd/losses/notes.md"],
    ids=["ignored", "2", "3", "no code"],
)
def test_what_is_ignored_or_no_code_of_a_package_is_not_dirty(tree: Path, name: str) -> None:
    (tree / name).write_text("beta = 2\n")
    assert (state(tree)["dirty"], state(tree)["untracked"]) == (False, {})


def test_a_change_of_a_tracked_file_is_dirty(tree: Path) -> None:
    (tree / "qsd" / "losses" / "dpo.py").write_text("beta = 2\n")
    assert (state(tree)["dirty"], state(tree)["untracked"]) == (True, {})


def test_a_link_to_nothing_is_recorded_as_unreadable(tree: Path) -> None:
    (tree / "qsd" / "gone.py").symlink_to("nowhere.py")
    assert state(tree)["untracked"] == {"qsd/gone.py": "unreadable"}


def test_the_commit_of_tables_is_dirty_with_an_untracked_file(tree: Path) -> None:
    commit = git(tree, "rev-parse", "HEAD")
    git_state.cache_clear()
    assert commit_of(tree) == commit
    (tree / "qsd" / "losses" / "own.py").write_text("beta = 2\n")
    git_state.cache_clear()
    assert commit_of(tree) == f"{commit}-dirty"


def test_own_members_count_beside_a_snapshot_which_does_not_have_them(tree: Path, tmp_path: Path) -> None:
    """Other untracked files of the work tree are not what the snapshot runs."""
    origin = {"commit": "c", "dirty": False, "untracked": {}}
    (tmp_path / ORIGIN).write_text(json.dumps(origin))
    (tree / "qsd" / "losses" / "later.py").write_text("beta = 2\n")
    git_state.cache_clear()
    assert code_state(tree, str(tmp_path)) == origin

    (tree / "members" / "losses" / "mine.py").write_text("beta = 2\n")
    git_state.cache_clear()
    mark = hashlib.sha256(b"beta = 2\n").hexdigest()[:16]
    assert code_state(tree, str(tmp_path)) == origin | {"dirty": True, "untracked": {"members/losses/mine.py": mark}}

    git(tree, "add", "members")
    git(tree, "commit", "-q", "-m", "mine")
    git_state.cache_clear()
    assert code_state(tree, str(tmp_path)) == origin
    (tree / "members" / "losses" / "mine.py").write_text("beta = 3\n")
    assert code_state(tree, str(tmp_path)) == origin | {"dirty": True}
