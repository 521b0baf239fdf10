"""The frame: the lock, the set-up, the console commands, and what must not be in tracked files."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from ablations.commands.launching import resume


def requirements(lock: str) -> list[str]:
    """The entries of a lock, each with its continuation lines and without comments."""
    lines = [line for line in lock.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture
def project(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text())


@pytest.fixture
def lock(root: Path) -> list[str]:
    return requirements((root / "requirements.lock").read_text())


def test_every_locked_package_is_pinned_and_hashed(lock: list[str]) -> None:
    assert len(lock) > 50
    loose = [entry for entry in lock if not re.match(r"[a-z0-9-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", entry)]
    assert loose == []


def test_the_lock_names_no_address_and_no_path(root: Path) -> None:
    text = (root / "requirements.lock").read_text()
    assert re.findall(r"https?:|file:|@ |^--|^-[a-z]|/(?:home|root|tmp|work)/", text, re.MULTILINE) == []


def test_the_lock_satisfies_the_project(project: dict, lock: list[str]) -> None:
    versions: dict[str, list[str]] = {}
    for entry in lock:
        name, version = re.match(r"([a-z0-9-]+)==([^ ;]+)", entry).groups()
        versions.setdefault(name, []).append(version)
    extras = project["project"]["optional-dependencies"].values()
    wanted = [project["project"]["dependencies"], *extras, *project["dependency-groups"].values()]
    for requirement in (Requirement(text) for group in wanted for text in group):
        locked = versions.get(canonical(requirement.name), [])
        assert locked, f"{requirement} is not in requirements.lock; run make lock"
        assert all(requirement.specifier.contains(version, prereleases=True) for version in locked), requirement


def test_console_commands_exist(project: dict) -> None:
    for entry in project["project"]["scripts"].values():
        module, _, function = entry.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_the_folders_that_the_pages_tell_users_to_fill_are_not_tracked(root: Path) -> None:
    ignored = (root / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"/runs/", "/data/", "/weights/", "/out/"} <= set(ignored)


def test_make_and_ablate_say_the_same_of_resume(root: Path) -> None:
    said = re.search(r"^resume: ## (.*): NAME=", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert said
    assert said[1] == str(resume.__doc__)[0].lower() + str(resume.__doc__)[1:].rstrip(".")


def test_tracked_files_hold_no_path_of_a_machine(root: Path) -> None:
    command = [
        "git",
        "grep",
        "-nIE",
        r"(^|[^A-Za-z0-9_.}])/(home|root|work|Users)/[a-z]",
        "--",
        ".",
        ":!tests/test_project.py",
    ]
    search = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if search.returncode > 1:
        pytest.skip("waits for a git checkout: an unpacked archive has no list of tracked files")
    assert search.stdout == ""


def test_network_is_refused() -> None:
    with socket.socket() as connection, pytest.raises(OSError, match=r"tests are offline.*192\.0\.2\.1:80"):
        connection.connect(("192.0.2.1", 80))


# ── scripts/setup.sh ─────────────────────────────────────────────────────────────────────────────────────────────────

FAKE_UV = """\
#!/bin/sh
echo "$*" >> "$UV_CALLS"
case "$1 $2" in
    "venv "*) mkdir -p .venv/bin && ln -s "$REAL_PYTHON" .venv/bin/python ;;
    "pip sync") [ -z "${UV_BREAKS:-}" ] || { touch .venv/half; exit 1; } ;;
esac
"""


class SetUp:
    """A project's folder with the real set-up script and a ``uv`` that only notes how it is called."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder / "project"
        (self.folder / "scripts").mkdir(parents=True)
        shutil.copy(root / "scripts/setup.sh", self.folder / "scripts")
        for name in ("pyproject.toml", "requirements.lock"):
            (self.folder / name).write_text(f"contents of {name}\n")
        self.tools = folder / "tools"
        self.tools.mkdir()
        self.calls = folder / "calls"
        (self.tools / "uv").write_text(FAKE_UV)
        (self.tools / "uv").chmod(0o755)

    def run(self, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        """Run the script; its result and the commands that it gave to uv."""
        self.calls.write_text("")
        given = {
            "PATH": f"{self.tools}:{os.environ['PATH']}",
            "UV_CALLS": str(self.calls),
            "REAL_PYTHON": sys.executable,
            "PYTHON": sys.executable,
            **environment,
        }
        done = subprocess.run(
            ["scripts/setup.sh"], cwd=self.folder, env=given, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        return done, [" ".join(call.split()[:2]) for call in self.calls.read_text().splitlines()]


@pytest.fixture
def set_up(tmp_path: Path, root: Path) -> SetUp:
    return SetUp(tmp_path, root)


EVERYTHING = ["venv --quiet", "pip sync", "pip install"]


def test_set_up_runs_once(set_up: SetUp) -> None:
    done, calls = set_up.run()
    assert done.returncode == 0, done.stderr
    assert calls == EVERYTHING
    assert len(done.stdout.splitlines()) <= 5
    assert set_up.run()[1] == []


def test_a_changed_lock_updates_in_place(set_up: SetUp) -> None:
    set_up.run()
    (set_up.folder / ".venv/kept").touch()
    (set_up.folder / "requirements.lock").write_text("another\n")
    assert set_up.run()[1] == ["pip sync", "pip install"]
    assert (set_up.folder / ".venv/kept").exists()


def test_an_interrupted_set_up_is_made_anew(set_up: SetUp) -> None:
    done, _ = set_up.run(UV_BREAKS="1")
    assert done.returncode == 2
    assert "run the same command again" in done.stderr
    done, calls = set_up.run()
    assert calls == EVERYTHING
    assert not (set_up.folder / ".venv/half").exists()


def test_a_moved_folder_is_set_up_anew(set_up: SetUp) -> None:
    set_up.run()
    set_up.folder = set_up.folder.rename(set_up.folder.with_name("moved"))
    assert set_up.run()[1] == EVERYTHING


def test_an_unsuitable_python_is_refused(set_up: SetUp, tmp_path: Path) -> None:
    old = tmp_path / "python2"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done, calls = set_up.run(PYTHON=str(old))
    assert (done.returncode, calls) == (2, [])
    assert done.stderr == f"error: PYTHON={old} does not run, or is not Python 3.11, 3.12 or 3.13\n"


# ── .ci/run ──────────────────────────────────────────────────────────────────────────────────────────────────────────

FAKE_MAKE = """\
#!/bin/sh
case "$1" in
    demo) folder="runs/sweeps/demo@emoji+evaluation.prompts_per_split=24,training.steps=10"
          [ -n "$NO_DEMO" ] || for name in cells.json report.html table.csv table.md effects.png gallery.png; do
              mkdir -p "$folder" && echo x > "$folder/$name"; done ;;
    test) echo "$SUMMARY"; exit "$RESULT" ;;
esac
"""


@pytest.mark.parametrize(
    "summary, result, no_demo, last, returncode",
    [
        ("=== 12 passed, 1 warning in 3.21s ===", "0", "", "16 passed, 0 failed", 0),
        ("=== 2 failed, 10 passed in 63.2s (0:01:03) ===", "1", "", "14 passed, 2 failed", 1),
        ("=== 3 passed, 1 error in 0.30s ===", "1", "", "7 passed, 1 failed", 1),
        ("killed before the summary", "1", "", "4 passed, 1 failed", 1),
        ("=== 12 passed in 3.21s ===", "0", "1", "15 passed, 1 failed", 1),
    ],
)
def test_the_checks_end_with_their_count(
    tmp_path: Path, root: Path, summary: str, result: str, no_demo: str, last: str, returncode: int
) -> None:
    for name, content in (("tools/make", FAKE_MAKE), ("scripts/setup.sh", "#!/bin/sh"), (".ci/run", "")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(content or (root / name).read_text())
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}/tools:{os.environ['PATH']}", "SUMMARY": summary, "RESULT": result}
    done = subprocess.run(
        [tmp_path / ".ci/run"], env={**environment, "NO_DEMO": no_demo}, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == last, done.stdout + done.stderr
    assert done.returncode == returncode


# ── what the project says about itself ───────────────────────────────────────────────────────────────────────────────


def test_the_citation_names_the_version_and_the_authors(root: Path, project: dict) -> None:
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation), "required by the format"
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == project["project"]["version"]
    assert citation["license"] == project["project"]["license"]
    assert citation["authors"] == [{"name": "QSD Ablations developers"}]
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= set(reference)


def test_the_issue_template_asks_for_the_checks_of_the_machine(root: Path) -> None:
    template = (root / ".github" / "ISSUE_TEMPLATE" / "bug_report.md").read_text(encoding="utf-8")
    header = yaml.safe_load(template.split("---\n")[1])
    assert {"name", "about"} <= set(header)
    assert "`ablate doctor --json`" in template


@pytest.mark.parametrize("folder", ["scripts", "benchmarks"])
def test_a_folder_lists_its_files(root: Path, folder: str) -> None:
    """A file that the folder's README does not name has been forgotten, and a name without a file is out of date."""
    listed = set(re.findall(r"`([\w/]+\.(?:py|sh|md|csv))`", (root / folder / "README.md").read_text(encoding="utf-8")))
    kinds = {".py", ".sh", ".md", ".csv"}
    files = {str(path.relative_to(root / folder)) for path in (root / folder).rglob("*") if path.suffix in kinds}
    expected = {name for name in files if not name.endswith(("README.md", "__init__.py", "__main__.py"))}
    assert {name for name in listed if not name.startswith("docs/")} == expected


def test_the_quick_checks_are_all_tests_but_the_slow_ones(root: Path) -> None:
    recipe = re.search(r"^check: .*\n((?:\t.*\n)+)", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert recipe is not None
    assert "ruff check" in recipe[1]
    assert "ruff format --check" in recipe[1]
    assert "mypy" in recipe[1]
    assert '-m "not slow"' in recipe[1]


SHARED_NAMES = {
    "Settings": "every loss, strategy and method has its own",
    "Counts": "the protocol of the stages, and what the planner implements it with",
    "Candidates": "of a sampler step, and of a selection; both are part of keys by their members' source",
}
"""Names of several classes -> why they stay."""


def test_one_name_is_one_class(root: Path) -> None:
    """A reader who meets a class again has met the same one."""
    places: dict[str, list[str]] = {}
    for path in (path for package in ("qsd", "ablations", "analysis") for path in (root / package).rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(root)))
    assert {name for name, files in places.items() if len(files) > 1} == SHARED_NAMES.keys(), places


@pytest.mark.parametrize("package", ["evaluation", "reward_training", "selection"])
def test_what_stages_use_imports_no_stage_at_the_top(root: Path, package: str) -> None:
    """Stages import these packages; a reader can follow the imports one way."""
    for path in (root / "qsd" / package).rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom):
                modules = {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
            else:
                modules = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            assert not any(f"{module}.".startswith("qsd.stages.") for module in modules), path
