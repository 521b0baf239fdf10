"""The command qsd: a stage by hand, errors in one line, a light help."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from qsd import cli
from tests.qsd.tiny_world import good_rows, write_rewards, write_rows

if TYPE_CHECKING:
    from pathlib import Path

EXPERIMENT = """\
data: {{path: {folder}/pairs.parquet}}
model: {{path: {folder}/model}}
reward: {{model: clip_emoji, weights: {folder}/rewards}}
quality: {{normalization: percentile_rank}}
selection: {{fraction: 20}}
training: {{steps: 1, pairs_per_step: 1, learning_rate: 1e-3}}
evaluation: {{prompts: {folder}/prompts.csv, scorers: [judge_emoji]}}
device: cpu
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pairs.parquet, rewards/, experiment.yaml."""
    folder = tmp_path_factory.mktemp("cli")
    write_rows(folder / "pairs.parquet", good_rows(20))
    write_rewards(folder / "rewards")
    (folder / "experiment.yaml").write_text(EXPERIMENT.format(folder=folder))
    return folder


def qsd(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Exit code of the command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["qsd", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    return int(exit_info.value.code or 0)


def test_the_first_stages_by_hand(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = ("--experiment", folder / "experiment.yaml")
    data, score, select = (tmp_path / name for name in ("data", "score", "select"))
    assert qsd(monkeypatch, "data", *experiment, "--out", data) == 0
    assert qsd(monkeypatch, "score", *experiment, "--input", f"data={data}", "--out", score) == 0
    inputs = ("--input", f"data={data}", "--input", f"score={score}")
    settings = ("--set", "quality.metric=difference", "--set", "selection.fraction=50")
    assert qsd(monkeypatch, "select", *experiment, *settings, *inputs, "--out", select) == 0
    assert pq.read_table(select / "selected.parquet").num_rows == 10
    assert sorted(path.name for path in score.iterdir()) == [".qsd.json", "problems.json", "scores.parquet"]
    shown = capsys.readouterr()
    assert f"select: {select}" in shown.out
    assert "data: 20 of 20 rows" in shown.err
    again = ("select", *experiment, *settings[2:], *inputs, "--out", select)
    assert qsd(monkeypatch, *again) == 2
    assert "add --overwrite or choose another --out" in capsys.readouterr().err
    assert qsd(monkeypatch, *again, "--overwrite") == 0
    assert qsd(monkeypatch, "score", *experiment, "--input", f"data={data}", "--out", data, "--overwrite") == 2
    assert "this run reads" in capsys.readouterr().err


def test_mistakes_are_one_line_and_exit_code_two(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = ("--experiment", folder / "experiment.yaml")
    out = ("--out", tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    (tmp_path / "cut" / ".state").mkdir(parents=True)
    (tmp_path / "cut" / ".state" / "meaning.json").write_text("{}")
    mistakes: list[tuple[tuple[object, ...], str]] = [
        (("select", *experiment, "--set", "quality.metric=diference", *out), "did you mean 'difference'?"),
        (("select", *experiment, "--set", "quality.metrik=product", *out), "did you mean 'quality.metric'?"),
        (("select", *experiment, "--set", "quality.metric", *out), "write it as dotted.name=value"),
        (("select", *experiment, "--set", "selection.fraction=200", *out), "at most 100"),
        (("select", *experiment, *2 * ("--set", "seed=1"), *out), "--set seed is given twice"),
        (("select", *experiment, "--set", "seed=1\nother: 2", *out), "--set seed: several lines"),
        (
            ("score", *experiment, *2 * ("--input", f"data={tmp_path / 'full'}"), *out),
            "--input data is given twice",
        ),
        (("score", *experiment, *out), "stage score needs --input data=FOLDER"),
        (("score", *experiment, "--input", "date=x", *out), "no input 'date' (did you mean 'data'?)"),
        (("score", *experiment, "--input", f"data={tmp_path}/x", *out), "is not a folder"),
        (("score", *experiment, "--input", f"data={tmp_path / 'full'}", *out), "pairs.parquet: no such file"),
        (("data", "--experiment", folder / "nothing.yaml", *out), "nothing.yaml"),
        (("data", *experiment, "--out", tmp_path / "full"), "not empty"),
        (("data", *experiment, "--out", tmp_path / "cut"), "other settings"),
        (("data", "describe", tmp_path / "nowhere"), "no such file or folder"),
        (("data",), "needs --experiment and --out"),
        (("data", "-e", folder / "experiment.yaml"), "needs --experiment and --out"),
        (("data", *experiment, "describe", folder), "do not apply here"),
        (("data", "describe", folder, "--reader", "pickapick"), "did you mean 'pickapic'?"),
    ]
    for arguments, message in mistakes:
        assert qsd(monkeypatch, *arguments) == 2, arguments
        shown = capsys.readouterr().err
        assert shown.startswith("error: "), shown
        assert shown.count("\n") == 1, shown
        assert message in shown
    assert (tmp_path / "full" / "note.txt").read_text() == "mine"
    assert not (tmp_path / "out").exists(), "a mistake leaves no interrupted run behind"


def test_listing_and_description(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert qsd(monkeypatch, "rewards", "--weights", folder / "rewards") == 0
    shown = capsys.readouterr().out
    assert "clip_emoji          cosine      32 px   selects" in shown
    assert "judge_emoji         cosine      32 px   judges" in shown
    assert "texture             share       any     symptom" in shown
    assert qsd(monkeypatch, "data", "describe", folder / "pairs.parquet") == 0
    assert "pairs             20" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "score --help",
        "rewards --help",
        "data --help",
        "data describe --help",
        "train-reward --help",
        "accuracy --help",
    ],
)
def test_help_imports_nothing_heavy(arguments: str, root: Path) -> None:
    code = (
        "import sys, qsd.cli\n"
        "try: qsd.cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pandas', 'pyarrow', 'omegaconf', 'yaml', 'PIL', 'transformers', 'rich'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, *arguments.split()], cwd=root, check=True, stdout=subprocess.DEVNULL)
