"""What the README and the pages promise exists: make targets, commands, files, and the metric that the README adds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from ablations import cli as ablate
from ablations.grid.spec import read_sweep
from qsd import cli as qsd
from tests.conftest import ROOT

OTHERS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md", "scripts/README.md"]
PAGES = [*(ROOT / name for name in OTHERS), *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)


def blocks(language: str, page: Path = ROOT / "README.md") -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(app: typer.Typer) -> set[str]:
    return set(typer.main.get_command(app).commands)


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", TEXT, re.MULTILINE))
    assert named >= {"demo", "test", "plan", "sweep", "status", "table", "lint", "types", "emoji-world"}
    assert named <= targets


def test_commands_exist() -> None:
    of_qsd = set(re.findall(r"(?:^    |`)qsd ([a-z][a-z-]*)", TEXT, re.MULTILINE))
    assert of_qsd >= {"data", "score", "select", "encode", "train", "generate", "evaluate"}
    assert of_qsd <= commands(qsd.app)
    listed = re.search(r"ablate (\w+(?: \| \w+)+) NAME", TEXT)
    assert listed is not None
    of_ablate = {*listed[1].split(" | "), *re.findall(r"`ablate ([a-z]+)", TEXT)}
    assert of_ablate <= commands(ablate.app)


def test_linked_and_named_files_exist() -> None:
    for page in PAGES:
        links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text())
        assert [link for link in links if not (page.parent / link).exists()] == [], page
    folders = "qsd|ablations|analysis|experiments|sweeps|docs|tests|scripts|benchmarks"
    named = set(re.findall(rf"`((?:{folders})/[\w/.]+)`", TEXT))
    assert {name for name in named if not (ROOT / name).exists()} == set()


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "tutorial"], ids=lambda page: page.stem)
def test_shown_sweeps_are_right(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for number, shown in enumerate(blocks("yaml", page)):
        path = tmp_path / f"shown_{number}.yaml"
        path.write_text(shown)
        read_sweep(path)


def test_named_sweeps_exist() -> None:
    listed = re.search(r"sweeps are included: (.*?), whose answer", TEXT, re.DOTALL)
    assert listed is not None
    named = set(re.findall(r"`(\w+)`", listed[1]))
    assert named == {path.stem for path in (ROOT / "sweeps").glob("*.yaml")} - {"demo"}


QUAINT = (
    r"reckon|planted flip|turn(s|ed)? round|by heart|in the eyes of|fall(s)? apart|play(s|ed)? the annotators|learnt"
    r"|whoever|nobody|somebody|\bmend|\banew\b|\balike\b|\bafresh\b|beforehand|\baside\b|\bgoes on\b|without a word"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_use_plain_words(page: Path) -> None:
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), start=1)
    assert [f"{page.name}:{number}: {line}" for number, line in lines if re.search(QUAINT, line, re.IGNORECASE)] == []


# ── "Add your own", done word by word in a copy of the project ───────────────────────────────────────────────────────


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A project with the README's metric added."""
    for name in ("qsd", "ablations"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments", ignore=shutil.ignore_patterns("assets", "build"))
    (snippet,) = blocks("python")
    assert len(snippet.splitlines()) < 40
    place = re.match(r"# (qsd/\S+\.py)\n", snippet)
    assert place is not None
    (tmp_path / place[1]).write_text(snippet)
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


QSD = ("-c", "from qsd.cli import main; main()")


def write_scored_pairs(folder: Path) -> None:
    """Three pairs with scores (winner, loser): (0.9, 0.8), (0.6, 0.3), (0.5, 0.1), as the stages leave them."""
    pairs = {
        "pair_id": ["a", "b", "c"],
        "caption": ["one", "two", "three"],
        "winner_uid": ["w1", "w2", "w3"],
        "loser_uid": ["l1", "l2", "l3"],
        "annotator_id": ["x", "x", "y"],
        "source_row": [0, 1, 2],
    }
    scores = {
        "pair_id": pairs["pair_id"],
        "winner_score": pa.array([0.9, 0.6, 0.5], pa.float32()),
        "loser_score": pa.array([0.8, 0.3, 0.1], pa.float32()),
        **{name: pa.array(["x"] * 3).dictionary_encode() for name in ("scorer", "revision", "unit")},
    }
    for stage, name, columns in (("data", "pairs", pairs), ("score", "scores", scores)):
        (folder / stage).mkdir()
        pq.write_table(pa.table(columns), folder / stage / f"{name}.parquet")


@pytest.mark.slow
def test_the_added_metric_selects(copy: Path) -> None:
    write_scored_pairs(copy)
    settings = ("quality.metric=weaker_half", "quality.normalization=raw", "selection.fraction=67")
    given = [part for setting in settings for part in ("-s", setting)]
    inputs = ("-i", "data=data", "-i", "score=score")
    done = run(copy, *QSD, "select", "-e", "experiments/emoji.yaml", "-o", "out", *inputs, *given)
    assert done.returncode == 0, done.stderr
    selected = pq.read_table(copy / "out" / "selected.parquet")
    assert selected["pair_id"].to_pylist() == ["b", "c"]
    assert selected["quality"].to_pylist() == pytest.approx([0.6, 0.5])


def test_the_added_metric_is_an_axis(copy: Path) -> None:
    sweep = blocks("yaml")[0].replace("difference", "weaker_half")
    (copy / "sweeps").mkdir()
    (copy / "sweeps" / "mine.yaml").write_text(sweep)
    read = (
        "from pathlib import Path; from ablations.grid.spec import read_sweep; "
        "print(read_sweep(Path('sweeps/mine.yaml')).axes)"
    )
    done = run(copy, "-c", read)
    assert done.returncode == 0, done.stderr
    assert "weaker_half" in done.stdout


@pytest.mark.slow
def test_a_misspelt_metric_is_told_the_added_one(copy: Path) -> None:
    given = ("-s", "quality.metric=weaker_haf")
    done = run(copy, *QSD, "select", "-e", "experiments/emoji.yaml", "-o", "out", *given)
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'weaker_half'?" in done.stderr
    assert "Traceback" not in done.stderr
