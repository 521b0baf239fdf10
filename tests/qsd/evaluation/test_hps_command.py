"""``qsd benchmark hps`` on a tiny model: pictures, scores, rows, resuming, comparing, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.emoji.build import benchmark
from experiments.emoji.build.world import ASSETS
from qsd import cli
from qsd.data.style_lists import STYLES, read_styles
from qsd.evaluation.hps_benchmark import summarise
from qsd.evaluation.hps_pictures import styles_of
from qsd.evaluation.hps_published import NOTE, PUBLISHED
from qsd.files import read_table, temporary_path
from qsd.generation.images import read_images
from qsd.progress import ShownProgress
from qsd.rewards.opening import open_reward
from qsd.rewards.scorers import REGISTRY, hps_v2_1
from qsd.stages.train import run as train

if TYPE_CHECKING:
    from pathlib import Path

    from tests.qsd.tiny_stages import TinyStages

pytestmark = pytest.mark.slow

EXPERIMENT = """\
data: {{path: {root}/pairs.parquet}}
model: {{path: {root}/model, resolution: 32}}
reward: {{model: clip_emoji, weights: {root}/rewards}}
lora: {{rank: 2}}
training: {{steps: 3, pairs_per_step: 4, learning_rate: 3e-2}}
generation: {{steps: 2, batch_size: 32}}
evaluation: {{prompts: {root}/prompts.csv, scorers: [judge_emoji], batch_size: 24}}
device: cpu
"""
STYLES_HERE = {"noto": 40, "fluent": 50}


@pytest.fixture(scope="module")
def experiment(world: TinyStages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment beside ``benchmark/`` with two styles of 50 and 40 prompts, in two shards of pictures."""
    folder = tmp_path_factory.mktemp("hps")
    (folder / "benchmark").mkdir()
    for style, count in STYLES_HERE.items():
        texts = [f"{style} {number}" for number in range(count)]
        (folder / "benchmark" / f"{style}.json").write_text(json.dumps(texts), encoding="utf-8")
    (folder / "experiment.yaml").write_text(EXPERIMENT.format(root=world.root), encoding="utf-8")
    return folder / "experiment.yaml"


def command(experiment: Path, out: Path, *more: object) -> list[str]:
    prompts = experiment.parent / "benchmark"
    return ["qsd", "benchmark", "hps", *map(str, ("-e", experiment, "--prompts", prompts, "-o", out, *more))]


def hps(monkeypatch: pytest.MonkeyPatch, experiment: Path, out: Path, *more: object) -> int:
    """Exit code of the command, run in this process."""
    monkeypatch.setattr(sys, "argv", command(experiment, out, *more))
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    return int(exit_info.value.code or 0)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def base(experiment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base model's result by judge_emoji."""
    out = tmp_path_factory.mktemp("base") / "out"
    with pytest.MonkeyPatch.context() as patch:
        assert hps(patch, experiment, out, "--scorer", "judge_emoji") == 0
    return out


def test_the_result_is_the_arithmetic_on_the_scores_of_the_pictures(world: TinyStages, base: Path) -> None:
    pictures = list(read_images(base / "images"))
    ids = [f"{style}/{number:05d}" for style in sorted(STYLES_HERE) for number in range(STYLES_HERE[style])]
    assert [picture.prompt_id for picture in pictures] == ids
    table = read_table(base / "judge_emoji" / "scores.parquet")
    assert table["prompt_id"].to_pylist() == ids
    scorer = open_reward("judge_emoji", str(world.root / "rewards"), "cpu")
    scores = scorer.score([item.image for item in pictures], [item.caption for item in pictures])
    np.testing.assert_allclose(table["score"].to_numpy(), scores, atol=1e-6)
    result = json.loads((base / "judge_emoji" / "result.json").read_text(encoding="utf-8"))
    expected = summarise({"fluent": scores[:50].tolist(), "noto": scores[50:].tolist()})
    assert result["overall"] == pytest.approx(expected.overall, abs=1e-4)
    assert result["styles"]["noto"]["std"] == pytest.approx(expected.styles["noto"].std, abs=1e-4)
    assert result["revision"] == scorer.revision
    assert sorted(files(base)) == [
        "images/images-00000.parquet",
        "images/images-00001.parquet",
        "judge_emoji/result.json",
        "judge_emoji/scores.parquet",
        "pictures.json",
    ]


def test_a_second_run_and_a_second_scorer_make_no_picture_again(
    experiment: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(base, tmp_path / "out")
    before = files(out)
    (out / "images" / "images-00000.parquet").unlink()  # a finished result reads no picture
    assert hps(monkeypatch, experiment, out, "--scorer", "judge_emoji") == 0
    row = capsys.readouterr().out.splitlines()[1]
    result = json.loads(before["judge_emoji/result.json"])
    assert row.split()[0] == "model"
    assert row.split()[-1] == f"{result['overall']:.2f}"
    shutil.copy(base / "images" / "images-00000.parquet", out / "images")
    assert hps(monkeypatch, experiment, out, "--scorer", "clip_emoji") == 0
    assert " images in " not in capsys.readouterr().out
    after = files(out)
    assert {name: after[name] for name in before} == before
    assert "clip_emoji/result.json" in after


class StoppedError(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize(("unit", "done"), [("images", 32), ("images", 64), ("scores", 64)])
def test_stopped_and_run_again_it_ends_in_the_same_bytes(
    experiment: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str, done: int
) -> None:
    out = tmp_path / "out"

    def stop(_self: object, now: int, _total: int, what: str) -> None:
        if (what, now) == (unit, done):
            raise StoppedError

    monkeypatch.setattr(sys, "argv", command(experiment, out, "--scorer", "judge_emoji"))
    with monkeypatch.context() as patch:
        patch.setattr(ShownProgress, "__call__", stop)
        with pytest.raises(StoppedError):
            cli.main()
    assert not (out / "judge_emoji" / "result.json").exists()
    kept = {name: (out / name).stat().st_ino for name in files(out)}
    assert hps(monkeypatch, experiment, out, "--scorer", "judge_emoji") == 0
    assert files(out) == files(base)
    for name, inode in kept.items():
        if name.startswith("images/"):
            assert (out / name).stat().st_ino == inode, "made again"


SLOW = """\
import sys, time, qsd.files
kept, pattern = qsd.files.write_table, sys.argv.pop(1)
def write(path, table):
    kept(path, table)
    if path.match(pattern):
        time.sleep(120)
qsd.files.write_table = write
from qsd import cli
cli.main()
"""


def test_killed_and_run_again_it_ends_in_the_same_bytes(
    experiment: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    """SIGKILL with the first shard of scores there and the second not."""
    out, shard = tmp_path / "out", "judge_emoji/.state/*/0000000000.parquet"
    line = [sys.executable, "-c", SLOW, shard, *command(experiment, out, "--scorer", "judge_emoji")[1:]]
    process = subprocess.Popen(line, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not list(out.glob(shard)):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not (out / "judge_emoji" / "result.json").exists()
    assert hps(monkeypatch, experiment, out, "--scorer", "judge_emoji") == 0
    assert files(out) == files(base)


def test_what_a_kill_leaves_at_either_end_is_cleared(
    experiment: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = shutil.copytree(base, tmp_path / "ended")
    (ended / "judge_emoji" / ".state").mkdir()
    assert hps(monkeypatch, experiment, ended, "--scorer", "judge_emoji") == 0
    assert not (ended / "judge_emoji" / ".state").exists()
    begun = tmp_path / "begun"
    begun.mkdir()
    temporary_path(begun / "pictures.json").write_text("{")
    assert hps(monkeypatch, experiment, begun, "--scorer", "judge_emoji") == 0
    assert files(begun) == files(base)


def test_an_adapter_changes_the_result_and_is_compared_prompt_by_prompt(
    world: TinyStages,
    experiment: Path,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained = world.run(train, tmp_path / "trained", training__steps=3, training__learning_rate=0.03)
    asked = ("--scorer", "judge_emoji", "--baseline", base)
    assert hps(monkeypatch, experiment, tmp_path / "one", "--adapter", trained, *asked) == 0
    shown = capsys.readouterr().out.splitlines()
    assert any(line.startswith("trained  ") for line in shown)
    own, other = (read_table(folder / "judge_emoji" / "scores.parquet") for folder in (tmp_path / "one", base))
    change = 100 * (own["score"].to_numpy().astype(np.float64) - other["score"].to_numpy())
    assert np.abs(change).max() > 0.01
    half = stats.t.ppf(0.975, 89) * stats.sem(change)
    mean = change.mean()
    expected = f"  overall       {mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]   90 pictures"
    assert expected in shown
    adapter = trained / "adapter"  # its own folder is as good
    assert hps(monkeypatch, experiment, tmp_path / "two", "--adapter", adapter, *asked) == 0
    assert files(tmp_path / "two") == files(tmp_path / "one")
    assert hps(monkeypatch, experiment, base, "--adapter", trained, "--scorer", "judge_emoji") == 2
    assert "holds pictures made with another adapter, adapter.digest" in capsys.readouterr().err


def test_pictures_that_are_there_are_scored_as_published_ones_are(
    experiment: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    for picture in read_images(base / "images"):
        path = folder / f"{picture.prompt_id}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.image.save(path, "PNG")  # lossless, whatever the name says
    asked = ("--scorer", "judge_emoji", "--images", folder)
    assert hps(monkeypatch, experiment, tmp_path / "out", *asked) == 0
    own, other = (read_table(place / "judge_emoji" / "scores.parquet") for place in (tmp_path / "out", base))
    np.testing.assert_allclose(own["score"].to_numpy(), other["score"].to_numpy(), atol=1e-6)
    assert not (tmp_path / "out" / "images").exists()
    (folder / "noto" / "00007.jpg").write_bytes(b"no image")
    assert hps(monkeypatch, experiment, tmp_path / "damaged", *asked) == 2
    assert "noto/00007.jpg: not a readable image" in capsys.readouterr().err
    (folder / "noto" / "00007.jpg").unlink()
    assert hps(monkeypatch, experiment, tmp_path / "missing", *asked) == 2
    shown = capsys.readouterr().err
    assert "1 of 90 images are missing (noto/00007.jpg); an image left out would shift the groups" in shown
    assert not (tmp_path / "missing").exists()


def test_published_styles_get_the_published_rows_and_the_note(
    world: TinyStages,
    experiment: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The whole command with the published names; the reward model's weights are random."""
    monkeypatch.setattr(hps_v2_1, "SCORER", replace(REGISTRY.get("judge_emoji"), folder="judge_emoji"))
    (tmp_path / "benchmark").mkdir()
    for style in (*STYLES, "drawbench"):
        texts = [f"{style} {number}" for number in range(10)]
        (tmp_path / "benchmark" / f"{style}.json").write_text(json.dumps(texts), encoding="utf-8")
    shutil.copytree(world.root / "rewards" / "judge_emoji", tmp_path / "rewards" / "judge_emoji")
    weights = f"reward.weights={tmp_path / 'rewards'}"
    line = ["-e", experiment, "--prompts", tmp_path / "benchmark", "-o", tmp_path / "out", "--version", "v2.1"]
    line += ["-s", weights]
    monkeypatch.setattr(sys, "argv", ["qsd", "benchmark", "hps", *map(str, line)])
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    assert not exit_info.value.code
    shown = capsys.readouterr().out.splitlines()
    shown = shown[shown.index(next(line for line in shown if line.split() == [*STYLES, "overall"])) :]
    assert [text[:24].strip() for text in shown[1:-2]] == ["model", *PUBLISHED["v2.1"]]
    assert shown[-2] == NOTE
    assert len(list(read_images(tmp_path / "out" / "images"))) == 40


def test_mistakes_are_one_line_and_exit_code_two(
    world: TinyStages,
    experiment: Path,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    judge = ("--scorer", "judge_emoji")
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "anime.json").write_text(json.dumps(["a"] * 10))
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "noto.json").write_text(json.dumps(["a"] * 15))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    mistakes: list[tuple[tuple[object, ...], str]] = [
        (("--version", "v2"), "--version v2: it must be v2.0 or v2.1"),
        (("--version", "v2.1", *judge), "give only one of the two"),
        ((), f"fetch them: qsd fetch hps_v2.1 --weights {world.root}/rewards"),
        (("--scorer", "judge"), "did you mean 'judge_emoji'?"),
        (("--scorer", "aesthetic_emoji"), "its unit is aesthetic; the benchmark is in hundredths of cosine"),
        ((*judge, "--adapter", tmp_path), "pytorch_lora_weights.safetensors: the adapter is missing"),
        ((*judge, "--adapter", tmp_path, "--images", tmp_path), "give only one of the two"),
        ((*judge, "--prompts", tmp_path / "few"), "no prompts of style 'concept-art'; it has anime"),
        ((*judge, "--prompts", tmp_path / "odd"), "noto: 15 images make no 10 equal groups"),
        ((*judge, "--prompts", tmp_path / "nowhere"), "no folder of prompts"),
        ((*judge, "-s", "evaluation.splits=[noto]"), "--set evaluation.splits: the benchmark sets it itself"),
        ((*judge, "-o", tmp_path / "full"), "exists and is not empty"),
        ((*judge, "-o", base, "-s", "generation.seed=1"), "made with another generation.seed"),
        ((*judge, "-o", base, "--baseline", tmp_path), "no judge_emoji/result.json"),
    ]
    before = files(base)
    for arguments, message in mistakes:
        assert hps(monkeypatch, experiment, tmp_path / "out", *arguments) == 2, arguments
        shown = capsys.readouterr().err
        assert shown.startswith("error: "), shown
        assert shown.count("\n") == 1, shown
        assert message in shown
        assert not (tmp_path / "out").exists(), arguments
    assert files(base) == before


def test_a_baseline_of_other_noise_is_refused(
    experiment: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(base, tmp_path / "other")
    known = json.loads((other / "pictures.json").read_text(encoding="utf-8"))
    (other / "pictures.json").write_text(json.dumps({**known, "generation.seed": 1}), encoding="utf-8")
    assert hps(monkeypatch, experiment, base, "--scorer", "judge_emoji", "--baseline", other) == 2
    assert "its pictures were made with another generation.seed" in capsys.readouterr().err


def test_the_emoji_worlds_lists_are_its_held_out_prompts_by_style() -> None:
    prompts = pd.read_csv(ASSETS / "prompts.csv")
    shipped = read_styles(ASSETS / "benchmark", styles_of(ASSETS / "benchmark"))
    assert shipped == benchmark.lists(prompts)
    assert {style: len(texts) for style, texts in shipped.items()} == {"fluent": 90, "noto": 90, "twemoji": 90}
    held = set(prompts.loc[prompts["split"] == "evaluation", "caption"])
    for style, texts in shipped.items():
        assert set(texts) <= held
        assert all(text.endswith(f", {style} style") for text in texts)


def test_help_imports_nothing_heavy(root: Path) -> None:
    code = (
        "import sys, qsd.cli\n"
        "try: qsd.cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pandas', 'pyarrow', 'omegaconf', 'yaml', 'PIL', 'transformers', 'rich', 'scipy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    line = [sys.executable, "-c", code, "benchmark", "hps", "--help"]
    shown = subprocess.run(line, cwd=root, check=True, capture_output=True, text=True).stdout
    assert "--adapter" in shown
    assert "--version" in shown
