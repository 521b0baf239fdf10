"""``ablate new experiment``: what it finds, what it names as missing, and that the file means what it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ablations.scaffold.experiment import text
from ablations.scaffold.findings import Findings, find
from qsd.config.load import defaults, load_flat
from qsd.config.yaml_nodes import parse
from qsd.errors import UserError
from tests.ablations.command import ablate
from tests.conftest import ROOT

ASSETS = ROOT / "experiments" / "emoji" / "assets"


@pytest.fixture(scope="module")
def findings() -> Findings:
    world = (str(ASSETS / name) for name in ("pairs.parquet", "model", "rewards", "prompts.csv"))
    return find(*world, reader=None)


def test_the_file_is_complete_and_says_what_was_found(findings: Findings, tmp_path: Path) -> None:
    assert findings.missing == {}
    path = tmp_path / "mine.yaml"
    path.write_text(text("mine", findings))
    values = load_flat(path)
    assert (values["data.reader"], values["model.resolution"]) == ("pickapic", 64)
    assert values["lora.targets"] == ["to_q", "to_k", "to_v", "to_out.0"]
    assert values["reward.model"] not in values["evaluation.scorers"]
    assert values["evaluation.scorers"][:2] == ["clip_emoji_b", "judge_emoji"]
    assert "3,000 rows" in path.read_text()


def test_a_comment_without_its_mark_changes_nothing(findings: Findings, tmp_path: Path) -> None:
    """Fields in comments show their defaults: with the marks removed, the file still means the same."""
    shown = text("mine", findings)
    (tmp_path / "shown.yaml").write_text(shown)
    title, *lines = shown.splitlines()
    bare = [re.sub(r"^(\s*)# ([\w.]+:)", r"\1\2", line) for line in lines]
    (tmp_path / "bare.yaml").write_text("\n".join([title, *bare]))
    assert not any(line.lstrip().startswith("#") for line in bare)
    assert load_flat(tmp_path / "bare.yaml") == load_flat(tmp_path / "shown.yaml")
    named = {
        f"{section}.{field}"
        for section, fields in parse("\n".join(bare), "").plain().items()
        if isinstance(fields, dict)
        for field in fields
    }
    other_members = {name for name in defaults() if name.partition(".")[0] in ("loss", "selection", "method")}
    assert set(defaults()) - other_members - {"seed", "adapter", "device", "threads"} <= named


def test_what_is_missing_is_named_once_in_the_file_and_once_on_the_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ablate("new", "experiment", "mine", "--data", "nowhere/pairs", "--model", "absent/nothing") == 0
    shown = capsys.readouterr().out
    written = Path("experiments/mine.yaml").read_text()
    missing = ("reward.weights", "reward.model", "evaluation.scorers", "evaluation.prompts")
    for name in (*missing, "data.reader", "model.resolution"):
        assert f"  missing: {name}: " in shown
    assert written.count(" MISSING: ") == len(missing) + 1
    assert "# resolution: 512" in written
    with pytest.raises(UserError) as error:
        load_flat(Path("experiments/mine.yaml"))
    assert all(f"'{name}' is missing" in str(error.value) for name in missing)
    assert ablate("new", "experiment", "mine", "--data", "nowhere/pairs", "--model", "absent/nothing") == 2
    assert "experiments/mine.yaml: exists" in capsys.readouterr().err
    assert Path("experiments/mine.yaml").read_text() == written


def test_a_path_with_nothing_there_is_named_with_a_near_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("world/assets/model", "experiments"):
        Path(name).mkdir(parents=True)
    Path("prompts.csv").touch()
    options = ("--data", "pairs.csv", "--model", "world/asset/model", "--prompts", "prompt.csv")
    assert ablate("new", "experiment", "mine", *options) == 0
    shown = capsys.readouterr().out
    assert "  note: data.path: pairs.csv: nothing is there yet" in shown
    assert "  note: model.path: world/asset/model: nothing is there yet (did you mean 'world/assets'?)" in shown
    assert "  note: evaluation.prompts: prompt.csv: nothing is there yet (did you mean 'prompts.csv'?)" in shown


@pytest.mark.parametrize(
    ("splits", "written", "missing"),
    [
        (("evaluation",), ["evaluation"], ""),
        (("seen", "evaluation"), ["evaluation", "seen"], ""),
        (("mine",), ["evaluation", "seen"], "it has mine (set evaluation.splits)"),
    ],
)
def test_the_splits_are_those_that_the_prompts_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, splits: tuple[str, ...], written: list[str], missing: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.csv").write_text("prompt_id,caption,split\n" + "".join(f"{name},a cat,{name}\n" for name in splits))
    findings = find("nowhere", "absent/nothing", None, "prompts.csv", None)
    assert findings.values.get("evaluation.splits", defaults()["evaluation.splits"]) == written
    assert findings.missing.get("evaluation.splits", "").endswith(missing)
    assert bool(missing) == ("evaluation.splits" in findings.missing)


def test_data_in_no_known_layout_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    with pytest.raises(UserError, match="in none of the known layouts"):
        find("data", "absent/nothing", None, None, None)
    Path("model").mkdir()
    with pytest.raises(UserError, match=r"--model model: no readable model_index\.json"):
        find("nowhere", "model", None, None, None)
