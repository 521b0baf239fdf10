"""Keys and plans: what is shared, what changes a key, and how fast ten thousand cells are planned."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ablations.grid.spec import read_sweep
from ablations.planning.cells import find_cell
from ablations.planning.plan import Plan, make_plan, summary
from ablations.store.artefacts import Store
from ablations.store.states import states
from qsd.config.load import load_flat
from qsd.config.recipe import is_recipe
from qsd.data import prompts as prompts_module
from qsd.errors import UserError
from qsd.stages import spec as real_stages
from tests.ablations import fake_stages
from tests.ablations.command import ablate
from tests.ablations.conftest import PROMPTS, SWEEP, Planner, write_model
from tests.conftest import ROOT

ON_POLICY = """\
question: Does it matter?
experiment: tiny
axes: {method.prompts_per_step: [4, 8]}
baseline: {method.prompts_per_step: 4}
seeds: [0]
overrides:
  method: {name: d3po, prompts: world/training.csv, watched_prompts: 0}
"""


def keys_by_stage(plan: Plan) -> dict[str, set[str]]:
    keys: dict[str, set[str]] = {}
    for node in plan.nodes.values():
        keys.setdefault(node.stage, set()).add(node.key)
    return keys


def test_the_demo_shape_shares_score_encode_and_base(assets: Path) -> None:
    text = (assets / "sweeps" / "good.yaml").read_text() + "overrides: {encode.scope: dataset}\n"
    (assets / "sweeps" / "shared.yaml").write_text(text)
    plan = make_plan(read_sweep(Path("sweeps/shared.yaml")), real_stages)
    numbers = summary(plan, dict.fromkeys(plan.nodes, "new"))["stages"]
    assert {stage: row["unique"] for stage, row in numbers.items()} == {
        "data": 1,
        "score": 1,
        "select": 3 + 2,  # a random selection depends on the seed
        "encode": 1,
        "train": 8,
        "generate": 9,
        "evaluate": 9,
    }
    assert {stage: row["naive"] for stage, row in numbers.items()} == {
        "data": 8,
        "score": 6,
        "select": 8,
        "encode": 8,
        "train": 8,
        "generate": 8 + 8,  # each cell's own, and the base model's beside it
        "evaluate": 8 + 8,
    }
    assert numbers["score"]["shared_by_up_to"] == 6


def test_execution_settings_and_an_equal_file_elsewhere_change_no_key(assets: Path) -> None:
    sweep = read_sweep(Path("sweeps/good.yaml"))
    before = set(make_plan(sweep, real_stages).nodes)
    experiment = assets / "experiments" / "tiny.yaml"
    text = experiment.read_text()
    (assets / "moved").write_bytes((assets / "world" / "pairs").read_bytes())
    experiment.write_text(
        text.replace("path: world/pairs", "path: moved").replace("steps: 3", "steps: 3, micro_batch: 2")
        + "threads: 4\ndevice: cpu\n"
    )
    assert set(make_plan(sweep, real_stages).nodes) == before
    experiment.write_text("\n".join(reversed(text.splitlines())) + "\n")
    assert set(make_plan(sweep, real_stages).nodes) == before, "order of the experiment's sections"
    experiment.write_text(text.replace("steps: 3", "steps: 4"))
    changed = keys_by_stage(make_plan(sweep, real_stages))
    unchanged = ("data", "score", "select", "encode")
    same = {stage for stage, keys in changed.items() if keys <= before}
    assert same == set(unchanged)


def test_writing_a_default_out_changes_no_key(plan_of: Planner, world: Path) -> None:
    before = set(plan_of().nodes)
    text = (world / "experiments" / "tiny.yaml").read_text()
    (world / "experiments" / "tiny.yaml").write_text(text + "lora: {rank: 8}\nloss: {beta: 5000}\n")
    assert set(plan_of().nodes) == before


def test_two_sweeps_share_what_means_the_same(plan_of: Planner) -> None:
    ranks = plan_of(
        "question: q\nexperiment: tiny\naxes: {lora.rank: [4, 8]}\nbaseline: {lora.rank: 8}\nseeds: [0]\n", "ranks"
    )
    metrics = plan_of(name="metrics")
    shared = set(ranks.nodes) & set(metrics.nodes)
    assert {ranks.nodes[key].stage for key in shared} == set(fake_stages.STAGES)
    assert sum(ranks.nodes[key].stage == "train" for key in shared) == 1


def test_inputs_come_before_their_users(plan_of: Planner) -> None:
    seen: set[str] = set()
    for key, node in plan_of().nodes.items():
        assert set(node.inputs.values()) <= seen
        seen.add(key)


@pytest.mark.slow
def test_ten_thousand_cells_in_two_seconds(assets: Path, tmp_path: Path, yardstick: float) -> None:
    """Held to three yardsticks, 30 hashes a stage, which were two seconds on the machine where the bound was set."""
    axes = {
        "quality.metric": ["product", "difference", "winner_only", "random"],
        "selection.strategy": ["top_k", "bottom_k", "weighted_sampling", "random"],
        "selection.fraction": [1, 2, 5.33, 10, 25],
        "loss.beta": [100, 300, 1000, 3000, 5000],
        "lora.rank": [2, 4, 8, 16, 32],
    }
    whole: dict[str, Any] = {
        "question": "q",
        "experiment": "tiny",
        "axes": axes,
        "baseline": {name: values[0] for name, values in axes.items()},
        "seeds": [0, 1, 2, 3, 4],
    }
    (assets / "sweeps" / "big.yaml").write_text(json.dumps(whole))
    begin = time.process_time()
    plan = make_plan(read_sweep(Path("sweeps/big.yaml")), real_stages)
    state_of = states(Store(tmp_path / "runs", real_stages.key_of), plan.nodes)
    numbers = summary(plan, state_of)
    seconds = time.process_time() - begin
    merged = 3 * 5**3  # a random selection ignores the metric
    assert numbers["runs"] == (4 * 4 * 5**3 - merged) * 5 + 1
    assert sum(len(notice) > 0 for notice in numbers["notices"]) == 5**3
    assert seconds < 3 * yardstick, f"10,000 cells took {seconds:.2f} s of processor time"


_PROBE = """
import sys, time
from qsd.config.digest import hash_of
begin = time.process_time()
for number in range(300_000):
    hash_of({"selection.fraction": number, "seed": 0})
yardstick = time.process_time() - begin
sys.argv = ["ablate", "plan", "large_grid", "--runs", sys.argv[1]]
from ablations.cli import main
try:
    main()
except SystemExit as exit_:
    assert not exit_.code, exit_.code
from ablations.running.error_record import max_rss_bytes
print("PROBE", time.process_time() - begin - yardstick, yardstick, max_rss_bytes())
"""


@pytest.mark.slow
def test_the_shipped_example_of_ten_thousand_cells(tmp_path: Path) -> None:
    """The whole command with estimates costs less than 60 hashes per stage (the yardstick: 300,000, ten per stage).

    It is 20 to 45 of them by what else the machine does: memory that others use slows the command more than the hashes.
    """
    root = Path(__file__).resolve().parents[3]
    arguments = [sys.executable, "-c", _PROBE, str(tmp_path)]
    ratios: list[float] = []
    while len(ratios) < 3 and (not ratios or ratios[-1] >= 6):  # on a busy machine, one of three is enough
        output = subprocess.run(arguments, cwd=root, capture_output=True, text=True, check=True).stdout
        assert "3,421 cells, 10,261 with all seeds" in output
        _, command, hashes, memory = output.splitlines()[-1].split()  # of one process, one after another
        ratios.append(float(command) / float(hashes))
        assert int(memory) < 500 * 1024**2
    assert ratios[-1] < 6


def test_plan_command_prints_cells_and_stages(assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate("plan", "good") == 0
    output = capsys.readouterr().out
    assert output.startswith("good@tiny: Does it matter?\n5 cells, 9 with all seeds:\n")
    assert "metric=product      baseline  seeds 0, 1\n" in output
    assert "strategy=random     control   seeds 0, 1\n" in output
    assert "stages instead of" in output


def test_plan_as_json(assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate("plan", "sweeps/good.yaml", "--json", "--seeds", "7") == 0
    printed = json.loads(capsys.readouterr().out)
    assert [entry["seed"] for entry in printed["list"]] == [7, 7, 7, 7, None]
    assert printed["states"] == {"new": printed["unique"]}
    assert all(stage["state"] == "new" for entry in printed["list"] for stage in entry["stages"].values())


def test_experiment_may_be_replaced(assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (assets / "experiments" / "tiny.yaml").read_text().replace("steps: 3", "steps: 9")
    (assets / "experiments" / "other.yaml").write_text(text)
    assert ablate("plan", "good", "--experiment", "other") == 0
    assert capsys.readouterr().out.startswith("good@other: ")
    assert ablate("plan", "good", "--experiment", "othr") == 2
    assert "(did you mean 'other'?)" in capsys.readouterr().err


def test_what_decides_is_stated_or_the_first_scorer_that_took_no_part(plan_of: Planner) -> None:
    """clip_emoji selects in the grid; a sweep of random selections leaves it free; the file may say otherwise."""
    assert plan_of().primary == {"scorer": "aesthetic_emoji", "split": "evaluation", "stated": False}
    seen = plan_of(SWEEP + "overrides: {evaluation.splits: [seen, evaluation]}\n")
    assert seen.primary["split"] == "evaluation"  # held-out prompts before those of training
    free = SWEEP.replace("quality.metric: [product, difference, winner_only]", "lora.rank: [4, 8]")
    free = free.replace("quality.metric: product", "lora.rank: 4") + "overrides: {selection.strategy: random}\n"
    assert plan_of(free.replace("controls:\n  - {selection.strategy: random}\n", "")).primary["scorer"] == "clip_emoji"
    stated = plan_of(SWEEP + "primary: {scorer: clip_emoji, split: seen}\n")
    assert stated.primary == {"scorer": "clip_emoji", "split": "seen", "stated": True}


@pytest.mark.parametrize(
    ("prompts", "overrides", "message"),
    [
        (PROMPTS, "{evaluation.splits: [evalution]}", "no prompt of split 'evalution' (did you mean 'evaluation'?)"),
        (PROMPTS.replace("split", "part"), "{}", "world/prompts.csv:1: column 'split' is missing"),
        (f"{PROMPTS}a,again,seen\n", "{}", "world/prompts.csv:5: prompt_id 'a' occurs twice (first in line 2)"),
        (f"{PROMPTS}d,,seen\n", "{}", "world/prompts.csv:5: the caption is empty"),
        (PROMPTS.encode() + b"d,caf\xe9,seen\n", "{}", "world/prompts.csv:5: not UTF-8 (byte 0xe9"),
        (b"\xff\xfe" + PROMPTS.encode("utf-16-le"), "{}", "world/prompts.csv:1: UTF-16; save it as UTF-8"),
    ],
    ids=["split", "header", "duplicate", "empty", "latin-1", "utf-16"],
)
def test_a_mistake_in_the_prompts_stops_the_plan_and_the_doctor(
    assets: Path, capsys: pytest.CaptureFixture[str], prompts: str | bytes, overrides: str, message: str
) -> None:
    (assets / "world" / "prompts.csv").write_bytes(prompts if isinstance(prompts, bytes) else prompts.encode())
    text = f"{SWEEP}overrides: {overrides}\n" if overrides != "{}" else SWEEP
    (assets / "sweeps" / "good.yaml").write_text(text)
    assert ablate("plan", "good") == 2
    assert message in capsys.readouterr().err
    shutil.rmtree(assets / "world" / "model")
    write_model(assets / "world" / "model")
    assert ablate("doctor", "good") == 1
    assert f"fail  plan: {'' if message.startswith('world') else 'world/prompts.csv: '}{message}" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "world/prompts",
            "world/prompt",
            "5:23: evaluation.prompts: world/prompt.csv: no such file or folder (did you",
        ),
        (
            "world/scorers",
            "world/scorer",
            "3:38: world/scorer/clip_emoji: no weights of reward model 'clip_emoji'; set",
        ),
        ("prompts.csv,", "prompts.csv, splits: [sen],", "5:50: world/prompts.csv: no prompt of split 'sen' (did you"),
    ],
    ids=["prompts", "weights", "split"],
)
def test_what_an_experiment_names_and_is_not_there_is_an_error_with_its_line(
    assets: Path, capsys: pytest.CaptureFixture[str], before: str, after: str, message: str
) -> None:
    path = assets / "experiments" / "tiny.yaml"
    path.write_text(path.read_text().replace(before, after))
    (assets / "experiments" / "child.yaml").write_text("extends: tiny\nlora.rank: 4\n")
    for options in ((), ("--experiment", "child")):
        assert ablate("plan", "good", *options) == 2
        assert capsys.readouterr().err.startswith(f"error: experiments/tiny.yaml:{message}")


def test_of_a_value_that_the_sweep_replaces_its_own_line_is_named(
    assets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (assets / "sweeps" / "good.yaml").write_text(SWEEP + "overrides: {evaluation.prompts: world/none.csv}\n")
    assert ablate("plan", "good") == 2
    message = "evaluation.prompts: world/none.csv: no such file or folder"
    line = SWEEP.count("\n") + 1
    assert capsys.readouterr().err.startswith(f"error: sweeps/good.yaml:{line}:33: {message}")
    (assets / "sweeps" / "good.yaml").write_text(SWEEP)
    assert ablate("plan", "good", "-s", "evaluation.prompts=world/none.csv") == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_more_processes_than_share_a_step_are_refused_with_their_line(
    assets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The experiment has four pairs in a step; on-policy methods share prompts."""
    (assets / "world" / "training.csv").write_text("prompt_id,caption,split\nd,a dog,training\n")
    message = "training.processes is 5, but they would share {}, which is 4; use at most 4"
    line = SWEEP.count("\n") + 1
    (assets / "sweeps" / "good.yaml").write_text(SWEEP + "overrides: {training.processes: 5}\n")
    assert ablate("plan", "good") == 2
    pairs = message.format("training.pairs_per_step")
    assert capsys.readouterr().err.startswith(f"error: sweeps/good.yaml:{line}:33: {pairs}")
    (assets / "sweeps" / "good.yaml").write_text(ON_POLICY + "  training.processes: 5\n")
    assert ablate("plan", "good") == 2
    prompts = message.format("method.prompts_per_step")
    assert capsys.readouterr().err.startswith(f"error: sweeps/good.yaml:8:23: {prompts}")


def test_a_placement_that_trains_no_step_with_noise_is_refused_with_its_line(
    assets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model's settings do not say that its sampling ends before clean latents."""
    shutil.rmtree(assets / "world" / "model")
    write_model(assets / "world" / "model")
    schedule = {"num_train_timesteps": 1000, "steps_offset": 1}
    (assets / "world" / "model" / "scheduler" / "scheduler_config.json").write_text(json.dumps(schedule))
    (assets / "world" / "training.csv").write_text("prompt_id,caption,split\nd,a dog,training\n")
    text = ON_POLICY.replace("method.prompts_per_step: [4, 8]", "method.placement: [uniform, last]")
    text = text.replace("method.prompts_per_step: 4", "method.placement: uniform")
    (assets / "sweeps" / "good.yaml").write_text(text + "  method.trained_steps: 1\n")
    assert ablate("plan", "good") == 2
    message = "method.placement is last and method.trained_steps 1, so that the sampler's last step alone is trained"
    assert capsys.readouterr().err.startswith(f"error: sweeps/good.yaml:3:36: {message}")


def test_the_prompts_are_read_once_for_all_cells(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    whole = prompts_module.read_splits

    def counted(path: Path, *arguments: object) -> object:
        read.append(path)
        return whole(path, *arguments)

    monkeypatch.setattr(prompts_module, "read_splits", counted)
    make_plan(read_sweep(Path("sweeps/good.yaml")), real_stages)
    assert read == [Path("world/prompts.csv")]


def test_prompts_with_a_byte_order_mark_are_read(assets: Path) -> None:
    (assets / "world" / "prompts.csv").write_text(PROMPTS, encoding="utf-8-sig")
    assert make_plan(read_sweep(Path("sweeps/good.yaml")), real_stages).cells


def test_a_sweep_of_the_baseline_alone_is_told_that_there_is_nothing_to_compare(plan_of: Planner) -> None:
    notice = "the baseline is the only cell, so it is compared with the base model alone"
    alone = SWEEP.replace("[product, difference, winner_only]", "[product]")
    without_control = alone.replace("controls:\n  - {selection.strategy: random}\n", "")
    assert plan_of(without_control).notices == (notice,)
    assert plan_of(alone, "b").notices == ()
    assert plan_of(SWEEP, "c").notices == ()


def test_a_seed_that_a_cell_does_not_have_is_told_with_those_that_it_has(plan_of: Planner) -> None:
    plan = plan_of()
    with pytest.raises(UserError, match=r"cell 'metric=difference' has no seed 7; its seeds are 0, 1$"):
        find_cell(plan, "metric=difference seed 7")
    with pytest.raises(UserError, match=r"cell 'base' has no seed 0; it is not trained, so it has no seeds$"):
        find_cell(plan, "base seed 0")


def test_a_recipe_is_no_experiment(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "experiments" / "tinny.yaml").write_text("base: {path: x}\nchoices: {path: y}\ntraining: {steps: 2}\n")
    assert ablate("plan", "good", "--experiment", "tinny") == 2
    assert (
        "experiments/tinny.yaml: this is a recipe for 'qsd train-reward', not an experiment" in capsys.readouterr().err
    )
    assert ablate("plan", "good", "--experiment", "tyny") == 2
    assert "(did you mean 'tiny'?); known: tiny\n" in capsys.readouterr().err


def test_every_file_of_experiments_is_an_experiment_or_a_recipe() -> None:
    recipes = {path.stem for path in (ROOT / "experiments").glob("*.yaml") if is_recipe(path)}
    assert recipes == {"hps_emoji", "hps_v2", "image_reward_emoji", "pick_emoji", "pickscore"}


def test_an_experiment_by_path_is_missed_with_a_near_name(world: Path) -> None:
    with pytest.raises(
        UserError, match=r"^experiments/tyny\.yaml: no such file \(did you mean 'experiments/tiny\.yaml'\?\)$"
    ):
        load_flat(Path("experiments/tyny.yaml"))
