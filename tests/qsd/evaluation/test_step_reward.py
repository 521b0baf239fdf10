"""``qsd validate step-reward``: a process whose expectation is known, the table by hand values, resuming, refusals."""

from __future__ import annotations

import csv
import io
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from qsd import cli
from qsd.data.prompts import Prompt
from qsd.evaluation import step_reward
from qsd.evaluation.step_reward import PAGE, STATES, TABLE, Extent
from qsd.evaluation.step_reward_states import measure, passes
from qsd.evaluation.step_reward_table import Summary, summarise
from qsd.files import read_table
from qsd.models.process import DdpmProcess
from qsd.progress import ShownProgress
from qsd.runtime import STATE, Interrupted, silent
from qsd.training.onpolicy.rewards import LatentReward
from qsd.training.onpolicy.sampler import Sampler
from tests.qsd import tiny_pipeline
from tests.qsd.training.onpolicy.onpolicy_world import engine_for, state_files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.qsd.tiny_stages import TinyStages

MEAN, STD, STEPS, SHAPE = 0.7, 1.5, 10, (2, 4, 4)


class GaussianWorld:
    """Clean latents are N(MEAN, STD²), and the network is the exact expectation of their noise, linear in the latents.

    So E[x_0 | x_t] = x̂_0(x_t), and sampling with any number of steps keeps it: means of steps are linear in x̂_0.
    """

    def __init__(self) -> None:
        make: Any = DDPMScheduler
        self.process = DdpmProcess(make(**tiny_pipeline.NOISE))

    def predict(self, latents: Tensor, times: Tensor, _conditioning: Any) -> Tensor:
        alpha = self.process.schedule.alphas_cumprod[times][:, None, None, None]
        return (1 - alpha).sqrt() * (latents - alpha.sqrt() * MEAN) / (alpha * STD**2 + 1 - alpha)


class OfLatents:
    """A reward that is a function of the clean latents."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function

    def score(self, latents: Tensor, captions: Sequence[str]) -> Tensor:
        assert len(latents) == len(captions)
        return self._function(latents)


def sampler_of(denoiser: Any, **settings: Any) -> Sampler:
    usual = {"sampler_steps": STEPS, "guidance_scale": 1.0, "eta": 1.0, "sampling_batch": 64, **settings}
    sampler = Sampler(denoiser, SimpleNamespace(**usual), "fp32", SHAPE, 0, torch.device("cpu"))
    text: Any = SimpleNamespace(conditioning=lambda captions: {"text": torch.zeros(len(captions), 1)})
    sampler.begin_with(text, zero_negative=False)
    return sampler


def prompts(sampler: Sampler, count: int, first: int = 0) -> Any:
    chosen = [Prompt(f"p{number}", f"caption {number}", "training") for number in range(first, first + count)]
    return sampler.prompts(chosen, [0] * count)


def table(left: int, estimates: Any, rewards: Any) -> pa.Table:
    """States [2, P] and their rollouts [2, P, R] as the command writes them."""
    estimate = np.asarray(estimates, dtype=np.float32).T.flatten()
    of_rollouts = np.asarray(rewards, dtype=np.float32).swapaxes(0, 1).reshape(len(estimate), -1)
    columns: dict[str, Any] = {
        "steps_left": pa.array([left] * len(estimate), pa.int32()),
        "estimate": estimate,
        "rewards": list(of_rollouts),
    }
    return pa.table(columns)


def summary_of(function: Callable[[Tensor], Tensor], left: int, count: int = 16, rollouts: int = 40) -> Summary:
    sampler = sampler_of(GaussianWorld())
    (summary,) = summarise(table(left, *measure(sampler, OfLatents(function), prompts(sampler, count), left, rollouts)))
    return summary


def left_variance(left: int) -> float:
    """Variance of an element of x_0 given x_t in the sampling of the Gaussian world, by the recursion of its steps."""
    world = GaussianWorld()
    variance = 0.0
    for begin, end in world.process.sampling_times(STEPS)[STEPS - left :]:
        time, following = torch.tensor([int(begin)]), torch.tensor([int(end)])
        ends = []
        for value in (0.0, 1.0):
            latents = torch.full((1, 1, 1, 1), value)
            ends.append(world.process.step(world.predict(latents, time, None), latents, time, following, 1.0))
        slope = float(ends[1][0] - ends[0][0])
        variance = slope**2 * variance + float(ends[0][1]) ** 2
    return variance


@pytest.mark.parametrize("left", [9, 5, 2])
def test_a_linear_reward_of_a_linear_process_is_estimated_exactly(left: int) -> None:
    summary = summary_of(lambda latents: 20 + latents.mean(dim=(1, 2, 3)), left)
    low, high = summary.bias.low, summary.bias.high
    assert low < 0 < high, "no bias beyond the error of the truth"
    assert summary.relative_error.value == pytest.approx(summary.relative_noise, rel=0.3), "no error beyond its noise"
    # The halves have less than all rollouts, and their agreement says how much of the order is noise.
    assert summary.order.high > summary.halves


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_curved_reward_is_misjudged_by_the_variance_that_is_left(sign: float) -> None:
    """r = ± mean x²: the estimate misses the variance of x_0 given x_t, more of it the more steps are left."""
    biases = []
    for left in (8, 3):
        summary = summary_of(lambda latents: sign * latents.square().mean(dim=(1, 2, 3)), left)
        expected = -sign * left_variance(left)
        half = (summary.bias.high - summary.bias.low) / 2
        assert half < 0.25 * abs(expected), "the interval can tell"
        assert summary.bias.value == pytest.approx(expected, abs=1.5 * half)
        biases.append(summary.bias.value)
    assert abs(biases[0]) > 1.5 * abs(biases[1])


def test_states_are_pairs_and_rollouts_have_noise_of_their_own() -> None:
    """Draws depend on the prompt and the candidate: neither on the batch nor on how many rollouts there are."""
    sampler = sampler_of(GaussianWorld())
    reward = OfLatents(lambda latents: latents.mean(dim=(1, 2, 3)))
    estimates, rewards = measure(sampler, reward, prompts(sampler, 3), 4, 6)
    assert sampler.passes == passes(sampler, 3, 4, 6)
    # In this world a rollout's distance from the estimate is its own noise, whatever the state.
    distances = (rewards - estimates[..., None]).flatten().tolist()
    assert len({round(value, 5) for value in distances}) == 2 * 3 * 6
    alone_estimates, alone = measure(sampler, reward, prompts(sampler, 1, first=2), 4, 3)
    torch.testing.assert_close(alone_estimates[:, 0], estimates[:, 2])
    torch.testing.assert_close(alone[:, 0], rewards[:, 2, :3])
    # Candidates of one state are nearer to each other than to those of other prompts, late in the sampling.
    late, _ = measure(sampler, reward, prompts(sampler, 8), 1, 2)
    assert float((late[0] - late[1]).abs().mean()) < 0.5 * float(late.std(dim=1).mean())


def test_a_deterministic_last_step_needs_one_rollout() -> None:
    scored: list[int] = []

    def function(latents: Tensor) -> Tensor:
        scored.append(len(latents))
        return latents.mean(dim=(1, 2, 3))

    summary = summary_of(function, 1, count=4, rollouts=10)
    assert scored == [8, 8]
    assert summary.order.value == summary.halves == 1
    assert summary.relative_noise == 0
    assert summary.relative_error.value < 1e-5


# ── The table ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_by_hand() -> None:
    """Three groups of two states, two rollouts each; one state of the third has no finite rollout."""
    truth = np.array([[[1.0, 3.0], [4.0, 4.0], [math.nan, math.inf]], [[5.0, 7.0], [2.0, 2.0], [8.0, 8.0]]])
    (summary,) = summarise(table(3, [[3.0, 3.0, 1.0], [5.0, 3.0, 8.0]], truth))
    assert (summary.steps_left, summary.states, summary.left_out, summary.not_finite) == (3, 5, 1, 2)
    # Truths 2, 6, 4, 2 and 8; estimates 3, 5, 3, 3 and 8.
    assert summary.reward == pytest.approx(4.4)
    assert summary.spread == pytest.approx(np.std([2, 6, 4, 2, 8]))
    assert summary.error.value == pytest.approx(4 / 5)
    assert summary.bias.value == pytest.approx(0.0)
    assert summary.relative_error.value == pytest.approx((1 / 2 + 1 / 6 + 1 / 4 + 1 / 2 + 0) / 5)
    assert summary.relative_noise == pytest.approx(math.sqrt(2 / math.pi) * (1 / 2 + 1 / 6) / 5)
    # Ranks of the truths 1.5, 4, 3, 1.5, 5; of the estimates 2, 4, 2, 2, 5.
    assert summary.rank.value == pytest.approx(np.corrcoef([1.5, 4, 3, 1.5, 5], [2, 4, 2, 2, 5])[0, 1])
    assert summary.pairs == 2
    assert summary.order.value == 0.75, "one pair in order, one tie"
    assert summary.halves == 1.0
    assert (summary.clear_pairs, summary.clear.value) == (2, 0.75)


def test_intervals_hold_the_numbers_they_should() -> None:
    """Wilson's interval by its published values, and a bootstrap beside the formula for a mean."""
    assert step_reward_wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    generator = np.random.default_rng(1)
    change = generator.normal(size=200)
    estimate = np.repeat(change[None], 2, axis=0)
    (summary,) = summarise(table(3, estimate + 5, np.full((2, 200, 2), 5.0)))
    expected = 1.96 * change.std() / math.sqrt(200)
    half = (summary.bias.high - summary.bias.low) / 2
    assert half == pytest.approx(expected, rel=0.1), "groups are resampled, not their states as if they were apart"


def step_reward_wilson(successes: int, pairs: int) -> tuple[float, float]:
    """The interval of a share through the table: pairs whose estimate is in order, or reversed."""
    truth = np.repeat(np.array([[0.0], [1.0]]), pairs, axis=1)
    estimate = truth.copy()
    estimate[:, successes:] = estimate[::-1, successes:]
    (summary,) = summarise(table(3, estimate, np.repeat(truth[..., None], 2, axis=-1)))
    return summary.order.low, summary.order.high


# ── The command ──────────────────────────────────────────────────────────────────────────────────────────────────────

EXPERIMENT = """\
data: {{path: {root}/pairs.parquet}}
model: {{path: {root}/model, resolution: 32}}
reward: {{model: {reward}, members: [clip_emoji, aesthetic_emoji], weights: {root}/rewards}}
method: {{prompts: {folder}/training_prompts.csv, sampler_steps: 4, guidance_scale: 2}}
training: {{steps: 1, pairs_per_step: 1, learning_rate: 1e-3}}
evaluation: {{prompts: {root}/prompts.csv, scorers: [judge_emoji]}}
device: cpu
"""


def experiment(world: TinyStages, folder: Path, reward: str) -> Path:
    lines = ["prompt_id,caption,split", *(f"t{number},training prompt {number},training" for number in range(3))]
    (folder / "training_prompts.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = folder / "experiment.yaml"
    path.write_text(EXPERIMENT.format(root=world.root, folder=folder, reward=reward), encoding="utf-8")
    return path


def validate(monkeypatch: pytest.MonkeyPatch, experiment: Path, out: Path, *more: object) -> int:
    """Exit code of the command, run in this process."""
    words = ("validate", "step-reward", "-e", experiment, "-o", out, *more)
    monkeypatch.setattr(sys, "argv", ["qsd", *map(str, words)])
    with pytest.raises(SystemExit) as ending:
        cli.main()
    return int(ending.value.code or 0)


SMALL = ("--states", 8, "--rollouts", 3, "--steps-left", "1,3")


@pytest.mark.slow
@pytest.mark.parametrize("reward", ["clip_emoji", "jpeg_size", "ensemble"])
def test_the_command(
    world: TinyStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reward: str
) -> None:
    out = tmp_path / "out"
    assert validate(monkeypatch, experiment(world, tmp_path, reward), out, *SMALL) == 0
    assert sorted(path.name for path in out.iterdir()) == [".qsd.json", "settings.json", STATES, TABLE, PAGE]
    states = read_table(out / STATES)
    assert states.num_rows == 2 * 8
    assert states["steps_left"].to_pylist() == [3] * 8 + [1] * 8
    assert states["candidate"].to_pylist() == [0, 1] * 8
    # Three prompts serve four groups: the first of the second round comes with another visit and other noise.
    assert states["visit"].to_pylist()[:8] == [0] * 6 + [1] * 2
    assert len(set(states["estimate"].to_pylist())) > 8
    rows = list(csv.DictReader(io.StringIO((out / TABLE).read_text(encoding="utf-8"))))
    assert [(row["steps_left"], row["states"], row["pairs"]) for row in rows] == [("3", "8", "4"), ("1", "8", "4")]
    shown = capsys.readouterr()
    assert (out / PAGE).read_text(encoding="utf-8") in shown.out
    assert "mean z-score" in shown.out if reward == "ensemble" else reward in shown.out
    assert "passes, " in shown.err
    assert "/s" in shown.err


@pytest.mark.slow
def test_the_base_model_is_measured_on_the_scale_of_a_training(
    world: TinyStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ensemble's members have the scale that the method gives them before its first step."""
    settings: dict[str, Any] = {"reward__model": "ensemble", "reward__members": ["clip_emoji", "aesthetic_emoji"]}
    engine = engine_for(world, "tailorpo", **settings)
    with engine.method.session():
        expected = engine.method.reward.tensors()
    scales: list[dict[str, Tensor]] = []
    measured = step_reward._Measurement.states

    def seen(self: Any, folder: Path) -> pa.Table:
        scales.append(self.reward.tensors())
        return measured(self, folder)

    monkeypatch.setattr(step_reward._Measurement, "states", seen)
    step_reward.run(engine.method.config, Extent(2, 2, (1,)), tmp_path / "out", silent)
    assert set(expected) == set(scales[0]) == {"mean", "inverse_std"}
    for name, tensor in expected.items():
        torch.testing.assert_close(scales[0][name], tensor)


@pytest.mark.slow
def test_an_interrupted_run_ends_in_the_same_bytes(
    world: TinyStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the second part of two numbers of steps left; what was finished is not measured again."""
    path = experiment(world, tmp_path, "clip_emoji")
    monkeypatch.setattr(step_reward, "_ROWS", 12)  # two groups in a part, four parts
    scored, score = list[int](), LatentReward.score

    def counted(self: LatentReward, latents: Tensor, captions: Sequence[str]) -> Tensor:
        scored.append(len(captions))
        return score(self, latents, captions)

    def stop(_progress: ShownProgress, done: int, total: int, _unit: str) -> None:
        if done > 0.9 * total:
            raise Interrupted

    monkeypatch.setattr(LatentReward, "score", counted)
    assert validate(monkeypatch, path, tmp_path / "whole", *SMALL) == 0
    whole = len(scored)
    assert whole == 4 * 2
    with monkeypatch.context() as patch:
        patch.setattr(ShownProgress, "__call__", stop)
        words = ("validate", "step-reward", "-e", path, "-o", tmp_path / "out", *SMALL)
        patch.setattr(sys, "argv", ["qsd", *map(str, words)])
        with pytest.raises(Interrupted):
            cli.main()
    assert not (tmp_path / "out" / TABLE).exists()
    finished = len(list((tmp_path / "out" / STATE).rglob("*.parquet")))
    assert finished >= 2, "the stop was meant to come late"
    scored.clear()
    assert validate(monkeypatch, path, tmp_path / "out", *SMALL) == 0
    assert len(scored) == whole - 2 * finished, "finished parts are not measured again"
    assert state_files(tmp_path / "out") == state_files(tmp_path / "whole")


@pytest.mark.slow
def test_other_settings_do_not_continue(
    world: TinyStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = experiment(world, tmp_path, "clip_emoji")
    assert validate(monkeypatch, path, tmp_path / "out", *SMALL) == 0
    assert validate(monkeypatch, path, tmp_path / "out", *SMALL, "--set", "seed=1") == 2
    assert "choose another --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--states", 7), "--states 7: states are measured in pairs"),
        (("--states", 0), "--states 0"),
        (("--rollouts", 1), "--rollouts 1"),
        (("--steps-left", "4,1"), "--steps-left 4: it must be from 1 to 3, because method.sampler_steps is 4"),
        (("--steps-left", "0"), "--steps-left 0"),
        (("--steps-left", "2,2"), "give different numbers"),
        (("--steps-left", "two"), "--steps-left two: give whole numbers"),
        (("--steps-left", "1", "--set", "reward.weights=nowhere"), "no weights of reward model 'clip_emoji'"),
    ],
)
def test_what_is_refused(
    world: TinyStages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[object, ...],
    message: str,
) -> None:
    assert validate(monkeypatch, experiment(world, tmp_path, "clip_emoji"), tmp_path / "out", *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_it_needs_training_prompts(
    world: TinyStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = experiment(world, tmp_path, "clip_emoji")
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("method")), encoding="utf-8")
    assert validate(monkeypatch, path, tmp_path / "out") == 2
    assert "method.prompts is missing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_ensemble_that_ranks_a_data_set_is_refused(
    world: TinyStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, words = experiment(world, tmp_path, "ensemble"), ("--steps-left", 1, "--set", "reward.combine=majority_vote")
    assert validate(monkeypatch, path, tmp_path / "out", *words) == 2
    assert "reward.combine is 'majority_vote'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
