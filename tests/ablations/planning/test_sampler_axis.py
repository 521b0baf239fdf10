"""The sampler as an axis: what its cells share, and what is refused at which place."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ablations.grid.spec import read_sweep
from ablations.planning.plan import make_plan
from qsd.errors import UserError
from qsd.stages import spec
from tests.conftest import ROOT
from tests.qsd import tiny_flow

if TYPE_CHECKING:
    from ablations.planning.plan import Plan

pytestmark = pytest.mark.slow

SWEEP = """\
question: Is it refused?
experiment: emoji
axes:
  generation.sampler: [model, {sampler}]
baseline: {{generation.sampler: model}}
seeds: [0]
"""


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def planned(folder: Path, text: str) -> Plan:
    path = folder / "tried.yaml"
    path.write_text(text)
    return make_plan(read_sweep(path), spec)


def keys(plan: Plan, stage: str) -> set[str]:
    return {key for key, node in plan.nodes.items() if node.stage == stage}


def test_samplers_share_their_trainings_with_the_positive_control() -> None:
    plan = make_plan(read_sweep(Path("sweeps/sampler.yaml")), spec)
    control = make_plan(read_sweep(Path("sweeps/positive_control.yaml")), spec)
    assert plan.notices == ()
    assert len(keys(plan, "train")) == 9
    assert len(keys(plan, "train") & keys(control, "train")) == 6
    assert len(keys(plan, "generate")) == (9 + 1) * 4, "the base model's, too"
    assert len(keys(plan, "generate") & keys(control, "generate")) == 6 + 1
    for cell in plan.trained:
        drawing = ("generation.sampler", "generation.steps")
        assert [cell.base["generate"].values[name] for name in drawing] == [cell.values[name] for name in drawing]


def test_the_models_own_sampler_under_both_names_is_one_cell(tmp_path: Path) -> None:
    plan = planned(tmp_path, SWEEP.format(sampler="ddim"))
    assert len({cell.name for cell in plan.trained}) == 1
    assert any("mean the same and run once" in notice for notice in plan.notices)


def test_a_sampler_that_does_not_fit_the_model_is_refused_where_it_is_written(tmp_path: Path) -> None:
    model = tiny_flow.save_sd3(tmp_path / "model")
    changes = f"{{model.path: {model}, lora.targets: [attn.to_q]}}"
    refused = r"generation\.sampler '{}' does not fit model\.path .*, a StableDiffusion3Pipeline; use model"
    for sampler in ("ddim", "dpmpp_2m_karras"):
        with pytest.raises(UserError, match=rf"tried\.yaml:4:31: {refused.format(sampler)}"):
            planned(tmp_path, f"{SWEEP.format(sampler=sampler)}overrides: {changes}\n")
    assert len(keys(planned(tmp_path, f"{SWEEP.format(sampler='dpmpp_2m')}overrides: {changes}\n"), "generate")) == 4
    experiment = tmp_path / "own.yaml"
    shutil.copy("experiments/emoji.yaml", experiment)
    text = experiment.read_text().replace("generation:\n", "generation:\n  sampler: ddim\n")
    experiment.write_text(text)
    line = text.splitlines().index("  sampler: ddim") + 1
    plain = "question: q\nexperiment: {}\naxes: {{lora.rank: [8]}}\nbaseline: {{lora.rank: 8}}\nseeds: [0]\n"
    with pytest.raises(UserError, match=rf"own\.yaml:{line}:12: {refused.format('ddim')}"):
        planned(tmp_path, f"{plain.format(experiment)}overrides: {changes}\n")


def test_a_value_in_a_list_of_overrides_or_of_a_control_has_its_place(tmp_path: Path) -> None:
    plain = "question: q\nexperiment: emoji\naxes: {lora.rank: [8]}\nbaseline: {lora.rank: 8}\nseeds: [0]\n"
    with pytest.raises(UserError, match=r"tried\.yaml:6:31: model\.resolution 66 is not a multiple of 8"):
        planned(tmp_path, f"{plain}overrides: {{model.resolution: 66}}\n")
    with pytest.raises(UserError, match=r"tried\.yaml:7:24: model\.resolution 66 is not a multiple of 8"):
        planned(tmp_path, f"{plain}controls:\n  - {{model.resolution: 66}}\n")
