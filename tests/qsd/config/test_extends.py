"""``extends``: an experiment that is another one with some fields changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from qsd.config.assignments import assignments
from qsd.config.extends import chain
from qsd.config.load import load_flat
from qsd.errors import UserError
from tests.qsd.config.test_config import REQUIRED, experiment_text


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    write("base", experiment_text(REQUIRED) + "lora.rank: 16\nlora.targets: [to_q, to_k]\n")
    return tmp_path / "experiments"


def write(name: str, text: str) -> Path:
    path = Path("experiments") / f"{name}.yaml"
    path.write_text(text)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as error:
        load_flat(path)
    return str(error.value)


def test_a_field_is_replaced_and_a_list_is_not_joined(folder: Path) -> None:
    child = write("child", "extends: base\nlora: {targets: [to_v]}\nevaluation.scorers: [judge_emoji]\n")
    changed = {"lora.targets": ["to_v"], "evaluation.scorers": ["judge_emoji"]}
    assert load_flat(child) == {**load_flat(Path("experiments/base.yaml")), **changed}


def test_the_nearest_file_of_a_chain_decides(folder: Path) -> None:
    write("middle", "extends: base\nlora.rank: 4\ntraining.steps: 9\n")
    child = write("child", "lora.rank: 2\nextends: experiments/middle.yaml\n")
    values = load_flat(child)
    assert (values["lora.rank"], values["training.steps"], values["lora.targets"]) == (2, 9, ["to_q", "to_k"])
    names = [path.stem for path, _ in chain(child)]
    assert names == ["base", "middle", "child"]


def test_null_replaces_a_value(folder: Path) -> None:
    write("middle", "extends: base\ndata.max_rows: 10\n")
    assert load_flat(write("child", "extends: middle\ndata.max_rows: null\n"))["data.max_rows"] is None


def test_a_name_is_first_looked_for_beside_the_file(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "mine"
    other.mkdir()
    (other / "child.yaml").write_text("extends: base\n")
    assert load_flat(other / "child.yaml")["lora.rank"] == 16
    (other / "base.yaml").write_text(experiment_text(REQUIRED) + "lora.rank: 3\n")
    assert load_flat(other / "child.yaml")["lora.rank"] == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "extends: bass\n",
            "experiments/child.yaml:1:10: unknown experiment 'bass': there is no exp",
        ),
        ("extends: [base]\n", "experiments/child.yaml:1:10: extends must be the name or the path of one experiment"),
        ("extends:\n", "experiments/child.yaml:1:"),
        ("extends: child\n", "an experiment may not extend itself: experiments/child.yaml -> experiments/child.yaml"),
        ("extends: base\nlora.rankk: 1\n", "experiments/child.yaml:2:1: unknown key 'lora.rankk'"),
        ("extends: broken\n", "experiments/broken.yaml:2:12: lora.rank must be at least 1"),
        ("extends: twice\nextends: base\n", "experiments/child.yaml:2:1: duplicate key 'extends'"),
    ],
)
def test_a_mistake_is_named_in_the_file_that_has_it(text: str, message: str, folder: Path) -> None:
    write("broken", "extends: base\nlora.rank: 0\n")
    assert message in refusal(write("child", text))


def test_a_circle_is_refused_with_its_files(folder: Path) -> None:
    write("b", "extends: c\n")
    write("c", "extends: ../experiments/b.yaml\n".replace("../", "./"))
    message = refusal(write("a", "extends: b\n"))
    assert message.startswith("experiments/c.yaml:1:10: an experiment may not extend itself: ")
    assert message.endswith("experiments/a.yaml -> experiments/b.yaml -> experiments/c.yaml -> experiments/b.yaml")


def test_what_is_missing_is_named_at_once_and_at_the_experiment_itself(folder: Path) -> None:
    write("part", "model.path: model\n")
    message = refusal(write("child", "extends: part\nreward.weights: weights\n"))
    assert message.startswith("experiments/child.yaml:1:1: ")
    for name in set(REQUIRED) - {"model.path", "reward.weights"}:
        assert f"'{name}' is missing (" in message
    assert "'model.path'" not in message


def test_extends_is_no_field_that_a_setting_could_change(folder: Path) -> None:
    with pytest.raises(UserError, match="unknown key 'extends'"):
        assignments(["extends=base"])
