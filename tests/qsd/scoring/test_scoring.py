"""One pass for many reward models and processes: the same bytes whoever computes a shard, and whatever befalls it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from qsd.data.distinct import distinct
from qsd.data.images import PairImages, decode
from qsd.data.opening import open_source
from qsd.errors import UserError
from qsd.files import read_table
from qsd.rewards.preprocess import Preprocess
from qsd.rewards.requests import Requests, requests_of
from qsd.runtime import PrecomputeContext, silent
from qsd.scoring import compute, memory_groups, prefetch, scorer_runs
from qsd.scoring.compute import ScoringJob, compute_scores
from qsd.scoring.precision import check_precision, computing
from qsd.scoring.scorer_runs import ScorerRun, column_of
from qsd.scoring.shards import ScoreShards
from qsd.stages.data import run as data
from qsd.stages.score import run as score
from tests.qsd.tiny_world import REQUIRED, SIZE, config, context, good_rows, write_rewards, write_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image

ROWS = 40
BOTH = ["clip_emoji", "aesthetic_emoji"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pairs.parquet, rewards/, data/, and alone/, each reward model scored by a process of its own."""
    folder = tmp_path_factory.mktemp("world")
    path = write_rows(folder / "pairs.parquet", good_rows(ROWS))
    data.run(context(config(path, folder), folder / "data"))
    write_rewards(folder / "rewards")
    for name in BOTH:
        score.run(context(settings(folder, name), folder / "alone" / name, data=folder / "data"))
    return folder


def flat(world: Path, name: str) -> dict[str, Any]:
    """As :func:`settings`, for a process that should not import the tests."""
    places = {"data.path": str(world / "pairs.parquet"), "reward.weights": str(world / "rewards"), "device": "cpu"}
    return {**REQUIRED, **places, "reward.model": name, "reward.batch_size": 2}


def settings(world: Path, name: str, **more: Any) -> Any:
    return config(world / "pairs.parquet", world / "rewards", reward__batch_size=2, reward__model=name, **more)


def work_of(world: Path, root: Path, workers: int = 2) -> ScoringJob:
    given = settings(world, "clip_emoji")
    pairs = read_table(world / "data" / "pairs.parquet")
    requests = requests_of(pairs, distinct(pairs))
    return ScoringJob(PairImages(open_source(given.data)), requests, root, "cpu", workers)


def columns_of(world: Path, *names: str) -> list[ScorerRun]:
    return [column_of(name, settings(world, name).reward) for name in names]


def finished(world: Path, shared: Path, output: Path) -> dict[str, bytes]:
    """The score tables of both reward models, of stages that find a shared folder."""
    tables = {}
    for name in BOTH:
        given = context(settings(world, name), output / name, data=world / "data")
        score.run(replace(given, shared=shared))
        tables[name] = (output / name / "scores.parquet").read_bytes()
    return tables


def alone(world: Path) -> dict[str, bytes]:
    return {name: (world / "alone" / name / "scores.parquet").read_bytes() for name in BOTH}


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every image file that is decoded from here on."""
    files: list[bytes] = []

    def watched(data: bytes) -> Image.Image:
        files.append(data)
        return decode(data)

    monkeypatch.setattr(prefetch, "decode", watched)
    return files


@pytest.mark.slow
def test_each_image_is_decoded_once_for_two_reward_models(world: Path, tmp_path: Path, decoded: list[bytes]) -> None:
    compute_scores(work_of(world, tmp_path / "shared"), columns_of(world, *BOTH), silent)
    assert len(decoded) == len(set(decoded)) == ROWS
    assert finished(world, tmp_path / "shared", tmp_path / "out") == alone(world)
    assert len(decoded) == ROWS, "stages that find all shards read no image"


@pytest.mark.slow
def test_two_processes_share_the_images(world: Path, tmp_path: Path, decoded: list[bytes]) -> None:
    """One after the other here: the first does its half and then helps, so nothing is left for the second."""
    configs = [settings(world, name) for name in BOTH]
    halves: list[int] = []
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(compute._Pass, "_batches", _own_only)
        for number in range(2):
            given = PrecomputeContext(configs, {"data": world / "data"}, tmp_path / "shared", number, 2)
            score.precompute(given)
            halves.append(len(decoded))
    assert 0 < halves[0] < halves[1] == ROWS
    assert finished(world, tmp_path / "shared", tmp_path / "out") == alone(world)
    assert len(decoded) == ROWS


def _own_only(self: Any, share: tuple[int, int]) -> Any:
    """The batches of a process's own pieces, without helping."""
    work = self._work
    pieces = work.pieces(self._shards[0].column)[share[0] :: share[1]]
    for piece in pieces:
        self._lacking[piece[0]] = piece, list(self._shards)
        for first in range(*piece, self._size):
            yield first, min(first + self._size, piece[1])


@pytest.mark.slow
def test_a_process_makes_up_for_those_that_never_came(world: Path, tmp_path: Path) -> None:
    work = work_of(world, tmp_path / "shared")
    (column,) = columns_of(world, "clip_emoji")
    compute_scores(work, [column], silent, share=(2, 3))
    assert work.scores(column) is not None
    assert len(work.pieces(column)) > 3


def test_no_images_requests_are_in_two_pieces(world: Path) -> None:
    """Rows 2k and 2k + 1 have the same images, so each has two requests; pieces of three cannot end at three."""
    requests = work_of(world, world).requests
    for size in (1, 3, 16, 1000):
        pieces = requests.pieces(size)
        assert [start for start, _ in pieces[1:]] == [stop for _, stop in pieces[:-1]]
        assert (pieces[0][0], pieces[-1][1]) == (0, 2 * ROWS)
        seen: set[int] = set()
        for start, stop in pieces:
            images = set(requests.images[start:stop].tolist())
            assert not images & seen
            seen |= images
    assert Requests(*(getattr(requests, name)[:0] for name in ("images", "captions", "item"))).pieces(4) == []


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _flip_a_bit(path: Path) -> None:
    """In the first page."""
    whole = bytearray(path.read_bytes())
    whole[40] ^= 1
    path.write_bytes(bytes(whole))


def _shorten(path: Path) -> None:
    pq.write_table(pq.read_table(path).slice(1), path)


def _rename_the_column(path: Path) -> None:
    pq.write_table(pq.read_table(path).rename_columns(["other"]), path)


@pytest.mark.parametrize("damage", [_cut, _flip_a_bit, _shorten, _rename_the_column])
def test_a_damaged_shard_is_computed_again(
    world: Path, tmp_path: Path, decoded: list[bytes], damage: Callable[[Path], None]
) -> None:
    work = work_of(world, tmp_path)
    (column,) = columns_of(world, "clip_emoji")
    compute_scores(work, [column], silent)
    before = work.scores(column)
    assert before is not None
    piece = work.pieces(column)[1]
    damage(ScoreShards(tmp_path, column).path(piece))
    assert work.scores(column) is None
    decoded.clear()
    compute_scores(work, [column], silent)
    assert len(decoded) == (piece[1] - piece[0]) // 2, "and only that one"
    after = work.scores(column)
    assert after is not None
    np.testing.assert_array_equal(after, before)


WORKERS = """
    import json, os, sys, time
    from pathlib import Path
    import open_clip.model, torch  # once for both; neither starts a thread
    from qsd.config.load import build, defaults, override
    from qsd.stages.score import run as score
    from qsd.runtime import PrecomputeContext

    given, world, shared = json.loads(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    slowly = lambda done, total, unit: time.sleep(0.1)
    configs = [build(override(defaults(), one)) for one in given]
    for number in range(2):
        if os.fork() == 0:
            score.precompute(PrecomputeContext(configs, {"data": world / "data"}, shared, number, 2, slowly))
            os._exit(0)
    os.wait()  # neither ends before it is killed
    os.abort()
"""


@pytest.mark.slow
def test_two_processes_killed_and_started_again_give_the_same_bytes(world: Path, tmp_path: Path, root: Path) -> None:
    shared = tmp_path / "shared"

    def shards() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in shared.glob("*/[0-9]*.parquet")}

    given = json.dumps([flat(world, name) for name in BOTH])
    command = [sys.executable, "-c", textwrap.dedent(WORKERS), given, str(world), str(shared)]
    workers = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(root)}, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(shards()) < 3:
        assert time.monotonic() < deadline
        assert workers.poll() is None, "a process ended before it could be killed"
        time.sleep(0.01)
    os.killpg(workers.pid, signal.SIGKILL)
    workers.wait()
    kept = shards()
    assert 3 <= len(kept) < 10, "some are left to do"
    configs = [settings(world, name) for name in BOTH]
    for number in range(2):
        score.precompute(PrecomputeContext(configs, {"data": world / "data"}, shared, number, 2))
    assert shards().items() > kept.items(), "finished shards are not computed again"
    assert finished(world, shared, tmp_path / "out") == alone(world)


@pytest.mark.slow
def test_models_that_do_not_fit_together_get_a_pass_each(
    world: Path, tmp_path: Path, decoded: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_groups, "free_bytes", lambda _device: 1000)
    reports: list[tuple[int, int, str]] = []
    compute_scores(work_of(world, tmp_path), columns_of(world, *BOTH), lambda *report: reports.append(report))
    assert len(decoded) == 2 * ROWS
    assert reports[-1] == (4 * ROWS, 4 * ROWS, "images")
    assert [done for done, _, _ in reports] == sorted(done for done, _, _ in reports)


def test_one_model_in_two_precisions_is_loaded_once(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_groups, "free_bytes", lambda _device: 1)
    (column,) = columns_of(world, "clip_emoji")
    assert len(memory_groups.group_by_memory([column, replace(column, precision="bf16")], "cpu")) == 1


def test_images_are_loaded_a_bounded_way_ahead_and_in_order(world: Path, decoded: list[bytes]) -> None:
    work = work_of(world, world)
    asked: list[int] = []

    def batches() -> Any:
        for first in range(0, 2 * ROWS, 4):
            asked.append(first)
            yield first, first + 4

    loading = prefetch.prefetch(work.images, work.requests, batches(), [Preprocess(SIZE)], 3)
    first = next(loading)
    assert (first.first, first.last) == (0, 4)
    assert len(asked) == prefetch.AHEAD + 1
    assert [loaded.first for loaded in loading] == list(range(4, 2 * ROWS, 4))
    expected = torch.stack([Preprocess(SIZE).one(decode(file)) for file in decoded[:2]])
    torch.testing.assert_close(first.pixels[Preprocess(SIZE)][[0, 2]], expected, rtol=0, atol=0)


def test_an_image_that_does_not_decode_is_named(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = work_of(world, world)
    monkeypatch.setattr(work.images, "bytes_of", lambda number: b"no image" if number // 2 == 2 else b"")
    with pytest.raises(UserError, match=r"source row \d+, (winner|loser): not a readable image.*; run the data stage"):
        list(prefetch.prefetch(work.images, work.requests, [(0, 8)], [Preprocess(SIZE)], 2))


def test_a_column_is_told_apart_by_all_that_moves_its_bits(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (column,) = columns_of(world, "clip_emoji")
    others = [
        replace(column, revision="other"),
        replace(column, precision="bf16"),
        replace(column, batch_size=3),
        replace(column, preprocess=Preprocess(SIZE, resize="longest")),
    ]
    folders = {each.folder for each in [column, *others, replace(column, weights="elsewhere")]}
    assert len(folders) == 5, "where the weights lie decides nothing"
    before = column.folder
    monkeypatch.setattr(scorer_runs, "versions", lambda: '{"torch":"another"}')
    assert column.folder != before


@pytest.mark.slow
def test_bf16_moves_scores_and_is_compared_with_fp32(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from scipy.stats import spearmanr

    given = settings(world, "clip_emoji", reward__precision="bf16")
    score.run(context(given, tmp_path, data=world / "data"))
    rounded, exact = (pq.read_table(folder / "scores.parquet") for folder in (tmp_path, world / "alone" / "clip_emoji"))
    low, high = (
        np.concatenate([table["winner_score"].to_numpy(), table["loser_score"].to_numpy()])
        for table in (rounded, exact)
    )
    assert 1e-5 < np.abs(low - high).max() < 0.02
    assert set(rounded["precision"].to_pylist()) == {"bf16"}
    summary = json.loads((tmp_path / "summary.json").read_text())
    said = summary["scorers"]["clip_emoji"]
    assert said["sample"] == 2 * ROWS
    assert said["rank_correlation_to_fp32"] == pytest.approx(spearmanr(low, high).statistic, abs=1e-9)
    assert 0.9 < said["rank_correlation_to_fp32"] < 1
    assert f"rank correlation with fp32 is {said['rank_correlation_to_fp32']:.6f} over 80" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["clip_emoji", "aesthetic_emoji"])
def test_every_reward_model_computes_in_bf16(world: Path, name: str) -> None:
    from qsd.rewards.opening import open_reward

    scorer = open_reward(name, str(world / "rewards"), "cpu")
    pixels = list(torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)))
    with computing("bf16", "cpu"):
        low = scorer.score(pixels, ["a", "b", "c"])
    assert low.dtype == np.float32
    assert 0 < np.abs(low - scorer.score(pixels, ["a", "b", "c"])).max() < 0.1


def test_tf32_is_refused_where_there_is_none(world: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"reward\.precision is 'tf32', but device is 'cpu', which has no TF32 units"):
        score.run(context(settings(world, "clip_emoji", reward__precision="tf32"), tmp_path, data=world / "data"))
    check_precision("bf16", "cpu")


def test_tf32_is_on_within_and_off_after() -> None:
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    with computing("tf32", "cuda"):
        assert all(flag.allow_tf32 for flag in flags)
    with computing("fp32", "cuda"):
        assert not any(flag.allow_tf32 for flag in flags)
