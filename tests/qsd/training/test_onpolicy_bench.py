"""What the bench of on-policy training compares with makes the same updates, and the parts of an update add up."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch

from qsd.config.schema import ExperimentConfig
from scripts.bench import on_policy, on_policy_device, on_policy_subject
from scripts.bench.on_policy import LOOP, METHOD, PlainLoop, minimum, report, same_results
from scripts.bench.on_policy_device import GUIDANCE, PARTS, RANKING, REST, SCORING, TRAINING, PartTimer
from scripts.bench.on_policy_subject import Counts, counted, load_line, open_method
from scripts.bench.score_subjects import architecture
from tests.qsd.models.smallest import RESOLUTION, smallest
from tests.qsd.tiny_stages import TinyStages
from tests.qsd.training.onpolicy.onpolicy_world import columns, settings_for

pytestmark = pytest.mark.slow


def config(world: TinyStages, **settings: Any) -> ExperimentConfig:
    """TailorPO on the tiny world."""
    made: ExperimentConfig = world.config(**settings_for(world, "tailorpo", **settings))
    return made


@pytest.mark.parametrize(("guidance", "candidates"), [(1.0, 2), (2.0, 3)])
def test_the_loop_makes_the_same_update_with_more_calls(world: TinyStages, guidance: float, candidates: int) -> None:
    settings = {"method__guidance_scale": guidance, "method__candidates": candidates, "training__micro_batch": 8}
    method = open_method(config(world, **settings))
    loop = PlainLoop(method)
    winners, gradients = same_results(method, loop, 0)
    assert winners <= 1e-4
    assert gradients <= 1e-4
    slow, fast = counted(method, lambda: loop.update(1)), counted(method, lambda: method.step(1))
    assert (fast.passes, fast.trained_passes) == minimum(method)
    assert slow.calls == slow.passes + slow.trained_passes, "a batch of one in every call"
    assert slow.trained_passes == fast.trained_passes
    # The winner of each ranked step but the last is predicted again.
    ranked = sum(step + 1 < method.sampler.steps for step in method.ranked)
    assert slow.passes - fast.passes == method.settings.prompts_per_step * int(guidance) * ranked
    assert slow.calls > 4 * fast.calls
    logged = columns(method, method.step(2))
    assert (logged["passes"], logged["trained_passes"]) == minimum(method), "the log says the same"


def test_another_update_is_refused(world: TinyStages, monkeypatch: pytest.MonkeyPatch) -> None:
    method = open_method(config(world))
    reward = PlainLoop._reward
    monkeypatch.setattr(PlainLoop, "_reward", lambda *given: -reward(*given))
    with pytest.raises(SystemExit, match="the two ways differ: winners by"):
        same_results(method, PlainLoop(method), 0)


def test_the_ratio_decides(
    world: TinyStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = config(world)
    monkeypatch.setattr(on_policy, "configuration", lambda *_: given)
    monkeypatch.setattr(on_policy, "timed", lambda *_, **__: {LOOP: [3.0, 9.0, 4.0], METHOD: [1.0, 3.0, 4.0]})
    page = tmp_path / "page.md"
    for least, status in (("2.9", 0), ("3.1", 1)):
        monkeypatch.setattr("sys.argv", ["on_policy", "--least", least, "--out", str(page)])
        assert on_policy.main() == status
    assert "the ratio 3.00 is below 3.1" in capsys.readouterr().out
    rows = [line.split("|")[1:-1] for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert [row[0].strip() for row in rows[2:]] == [LOOP, METHOD, "minimum"]
    assert {len(row) for row in rows} == {6}
    assert rows[3][2].strip() == "3.00 [1.00, 3.00]"
    assert rows[3][4:] == rows[4][4:], "passes are the fewest there can be"


def test_both_ways_are_timed(world: TinyStages) -> None:
    method = open_method(config(world))
    seconds = on_policy.timed(method, PlainLoop(method), rounds=2, first=0)
    assert {name: len(each) for name, each in seconds.items()} == {LOOP: 2, METHOD: 2}
    assert min(min(each) for each in seconds.values()) > 0
    assert all(item.grad is None for item in method.parameters.values())
    text, ratio = report(method, seconds, {LOOP: Counts(), METHOD: Counts()}, (0.0, 0.0), (0.1, 0.2))
    assert ratio > 0
    assert "BUSY" not in text


def test_a_busy_machine_is_said() -> None:
    assert "BUSY" in load_line((0.5, 10_000.0))


# ── By part ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_parts_inside_parts_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that ticks a second a reading."""
    ticks = iter(range(100))
    monkeypatch.setattr(on_policy_device, "clock", lambda _device: float(next(ticks)))
    timer = PartTimer(torch.device("cpu"))
    timer.start()
    with timer.part(RANKING), timer.part(SCORING):
        pass
    with timer.part(GUIDANCE), timer.part(SCORING):
        pass
    seconds = timer.stop()
    assert seconds == {**dict.fromkeys(PARTS, 0.0), REST: 3.0, RANKING: 2.0, SCORING: 1.0, GUIDANCE: 3.0}


def test_the_parts_of_random_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The architectures of SD1.5 and of a ViT-H scorer, few and narrow."""
    monkeypatch.setitem(on_policy_subject.ARCHITECTURES, "sd15", smallest("sd15"))
    settings = [f"model.resolution={RESOLUTION}", "method.prompts_per_step=2", "method.sampler_steps=6"]
    given = argparse.Namespace(
        size=("sd15", str(tmp_path)), device="cpu", settings=[*settings, "method.trained_steps=2"], experiment=None
    )
    with architecture(reduced=True):
        configs = {name: on_policy_subject.configuration(given, name) for name in on_policy_device.METHODS}
        lines = list(on_policy_device.report(configs, updates=1))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    assert rows[0] == ["method", "s of an update", *PARTS, "peak memory"]
    by_method = {
        row[0]: dict(zip(PARTS, (float(cell.split()[0]) for cell in row[2:-1]), strict=True)) for row in rows[2:]
    }
    assert list(by_method) == ["tailorpo", "tailorpo_g"]
    for name, parts in by_method.items():
        assert (parts[GUIDANCE] > 0) == (name == "tailorpo_g")
        assert min(parts[part] for part in (RANKING, SCORING, TRAINING)) > 0


def test_a_wrong_size_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["on_policy_device", "--size", "sd3", "somewhere"])
    with pytest.raises(SystemExit, match="known: sd15, sdxl"):
        on_policy_device.main()
