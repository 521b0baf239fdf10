"""Evaluation images and their scores."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from qsd.data import images
from qsd.data.prompts import read_prompts
from qsd.errors import UserError
from qsd.evaluation.embeddings import read_embeddings
from qsd.files import read_table, write_table
from qsd.generation import generator, writer
from qsd.generation.generator import Generator
from qsd.generation.images import read_images, webp
from qsd.models.pipeline import decode as decode_latents
from qsd.rewards.clip import ClipScorer
from qsd.rewards.opening import open_reward
from qsd.rewards.revision import revision
from qsd.runtime import Interrupted
from qsd.scoring import compute, prefetch
from qsd.scoring.scorer_runs import EmbedderRun
from qsd.source import source_digest
from qsd.stages.evaluate import run as evaluate
from qsd.stages.generate import run as generate
from qsd.stages.train import run as train
from tests.qsd.tiny_stages import TinyStages

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image

BASE = {"adapter": "none"}


def pixels(folder: Path) -> dict[tuple[str, int], NDArray[np.int16]]:
    return {(item.prompt_id, item.image_index): np.asarray(item.image, np.int16) for item in read_images(folder)}


@pytest.fixture(scope="module")
def base_images(world: TinyStages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images of the base model for every prompt."""
    return world.run(generate, tmp_path_factory.mktemp("base"), generation__images_per_prompt=2, **BASE)


@pytest.mark.slow
def test_rows_follow_the_prompts_of_the_wanted_splits(base_images: Path) -> None:
    rows = read_table(base_images / "images-00000.parquet").to_pylist()
    assert [row["prompt_id"] for row in rows[::2]] == ["p1", "p2", "p4", "p5", "p7", "p8", "p0", "p3", "p6"]
    assert [row["image_index"] for row in rows[:4]] == [0, 1, 0, 1]
    assert Counter(row["split"] for row in rows) == {"evaluation": 12, "seen": 6}
    assert rows[0]["caption"] == "prompt 1"
    assert {image.image.size for image in read_images(base_images)} == {(32, 32)}


def test_an_image_does_not_depend_on_the_others(world: TinyStages, base_images: Path, tmp_path: Path) -> None:
    """Another batch size and other prompts: the same image up to rounding."""
    few = world.run(generate, tmp_path, evaluation__prompts_per_split=1, generation__batch_size=1, **BASE)
    whole, part = pixels(base_images), pixels(few)
    assert set(part) == {("p1", 0), ("p0", 0)}
    for key, image in part.items():
        assert np.abs(image - whole[key]).max() <= 1


def test_images_of_a_prompt_and_of_other_seeds_differ(world: TinyStages, base_images: Path, tmp_path: Path) -> None:
    images = pixels(base_images)
    assert np.abs(images["p1", 0] - images["p1", 1]).max() > 10
    other = world.run(generate, tmp_path, generation__seed=1, evaluation__prompts_per_split=1, **BASE)
    assert np.abs(images["p1", 0] - pixels(other)["p1", 0]).max() > 10


@pytest.mark.slow
def test_the_adapter_changes_images_and_a_fresh_one_does_not(
    world: TinyStages, base_images: Path, tmp_path: Path
) -> None:
    recipe = {"training__steps": 3, "training__learning_rate": 0.03}
    trained = world.with_inputs(train=world.run(train, tmp_path / "train", **recipe))
    images, base = pixels(trained.run(generate, tmp_path / "images")), pixels(base_images)
    assert set(images) == {key for key in base if key[1] == 0}
    assert max(np.abs(image - base[key]).max() for key, image in images.items()) > 2
    still = world.with_inputs(
        train=world.run(train, tmp_path / "still", training__steps=1, training__learning_rate=1e-12)
    )
    for key, image in pixels(still.run(generate, tmp_path / "same")).items():
        assert np.abs(image - base[key]).max() <= 1


def test_every_image_is_scored_by_every_scorer(world: TinyStages, base_images: Path, tmp_path: Path) -> None:
    scorers = ["judge_emoji", "clip_emoji", "aesthetic_emoji"]
    done = world.with_inputs(generate=base_images)
    folder = done.run(evaluate, tmp_path, evaluation__scorers=scorers, evaluation__batch_size=7)
    table = read_table(folder / "scores.parquet")
    assert table.column_names == [
        "prompt_id", "split", "caption", "image_index", "scorer", "revision", "unit", "score",
    ]  # fmt: skip
    rows = table.to_pylist()
    assert Counter(row["scorer"] for row in rows) == dict.fromkeys(scorers, 18)
    assert {row["unit"] for row in rows if row["scorer"] == "judge_emoji"} == {"cosine"}
    scorer = open_reward("clip_emoji", str(world.root / "rewards"), "cpu")
    images = list(read_images(base_images))
    alone = scorer.score([images[4].image], [images[4].caption])[0]
    here = next(row for row in rows if row["scorer"] == "clip_emoji" and row["prompt_id"] == "p4")
    assert here["score"] == pytest.approx(alone, abs=1e-5)
    assert here["revision"] == scorer.revision
    assert json.loads((folder / "problems.json").read_text()) == {}


class Broken:
    """A scorer that fails on the first of every batch's images."""

    name, revision, unit = "judge_emoji", "0", "cosine"

    def score(self, images: list[Image.Image], captions: list[str]) -> NDArray[np.float32]:
        return np.array([np.nan, *[0.5] * (len(images) - 1)], dtype=np.float32)


def test_scores_that_are_no_numbers_are_counted_and_bounded(
    world: TinyStages, base_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = world.with_inputs(generate=base_images)
    monkeypatch.setattr(compute, "open_reward", lambda *_: Broken())
    with pytest.raises(UserError, match=r"judge_emoji: 1 of 18 scores are not finite .* prompt p1"):
        done.run(evaluate, tmp_path / "strict")
    monkeypatch.setattr(evaluate, "MAX_NON_FINITE", 0.1)
    folder = done.run(evaluate, tmp_path / "lax")
    assert json.loads((folder / "problems.json").read_text()) == {
        "non_finite_score": {"count": 1, "ids": ["judge_emoji/p1/0"]}
    }
    assert read_table(folder / "scores.parquet").num_rows == 17


def test_images_are_decoded_once_for_all_scorers(
    world: TinyStages, base_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a stage that has scored some goes on with the rest."""
    done, decoded = world.with_inputs(generate=base_images), []

    def decode(data: bytes) -> Image.Image:
        decoded.append(data)
        return images.decode(data)

    monkeypatch.setattr(prefetch, "decode", decode)
    settings = {"evaluation__scorers": ["judge_emoji", "clip_emoji"], "evaluation__batch_size": 1}
    whole = done.run(evaluate, tmp_path / "whole", **settings)
    assert len(decoded) == 18
    state = tmp_path / "resumed" / ".state" / "scores"
    shutil.copytree(whole / ".state" / "scores", state)
    lost = sorted(state.glob("clip_emoji*/*.parquet"))
    assert len(lost) == 3
    lost[1].unlink()
    decoded.clear()
    resumed = done.run(evaluate, tmp_path / "resumed", **settings)
    assert len(decoded) == 8
    assert (resumed / "scores.parquet").read_bytes() == (whole / "scores.parquet").read_bytes()


EMBEDDED = {"evaluation__embedder": "clip_emoji", "evaluation__batch_size": 1, "generation__images_per_prompt": 2}


@pytest.fixture(scope="module")
def embedded(world: TinyStages, base_images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation by the judge, with embeddings by another CLIP; its state is kept."""
    return world.with_inputs(generate=base_images).run(evaluate, tmp_path_factory.mktemp("embedded"), **EMBEDDED)


def test_embeddings_are_those_of_the_image_tower(world: TinyStages, base_images: Path, embedded: Path) -> None:
    embeddings = read_embeddings(embedded)
    images = list(read_images(base_images))
    assert embeddings.images() == [(image.prompt_id, image.image_index) for image in images]
    assert np.linalg.norm(embeddings.vectors, axis=1) == pytest.approx(np.ones(18), abs=1e-6)
    scorer = open_reward("clip_emoji", str(world.root / "rewards"), "cpu")
    assert isinstance(scorer, ClipScorer)
    alone = scorer.embed_pixels(scorer.preprocess.pixels([image.image for image in images])).numpy()
    assert embeddings.vectors == pytest.approx(alone, abs=1e-5)
    assert np.ptp(alone, axis=0).max() > 0.01, "images differ, so a swap would show"


def test_diversity_is_a_scorer_like_any_other(world: TinyStages, base_images: Path, embedded: Path) -> None:
    plain = world.with_inputs(generate=base_images).run(evaluate, embedded.parent / "plain", evaluation__batch_size=1)
    table, scores = read_table(embedded / "scores.parquet"), read_table(plain / "scores.parquet")
    assert not (plain / "embeddings.parquet").exists()
    assert table.column_names == scores.column_names
    rows = table.to_pylist()
    assert rows[:18] == scores.to_pylist(), "the judge's scores are the same bits"
    vectors = read_embeddings(embedded).vectors.astype(np.float64)
    for place, row in enumerate(rows[18:]):
        assert row["scorer"] == "diversity"
        assert row["unit"] == "1 - cosine"
        weights, formulas = row["revision"].split("-")
        assert weights == revision("clip_emoji", str(world.root / "rewards"))
        assert formulas == source_digest("qsd.evaluation.embedding_measures")
        about = {name: rows[place][name] for name in ("prompt_id", "split", "caption", "image_index")}
        assert row.items() >= about.items()
        other = place + 1 - 2 * row["image_index"]  # the second image of the prompt
        assert row["score"] == pytest.approx(1 - vectors[place] @ vectors[other], abs=1e-6)
        assert row["score"] > 1e-4


def test_an_interrupted_embedding_goes_on_and_ends_in_the_same_bytes(
    world: TinyStages, base_images: Path, embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []

    def decode(data: bytes) -> Image.Image:
        decoded.append(data)
        return images.decode(data)

    monkeypatch.setattr(prefetch, "decode", decode)
    done = world.with_inputs(generate=base_images)
    whole = done.run(evaluate, tmp_path / "whole", **EMBEDDED)
    assert len(decoded) == 18, "once for the judge and the embedder"
    shutil.copytree(whole / ".state" / "scores", tmp_path / "resumed" / ".state" / "scores")
    shards = sorted((tmp_path / "resumed").glob(".state/scores/embedding-clip_emoji*/*.parquet"))
    assert len(shards) == 3
    shards[1].unlink()
    shards[2].write_bytes(shards[2].read_bytes()[:-9])  # cut off
    decoded.clear()
    resumed = done.run(evaluate, tmp_path / "resumed", **EMBEDDED)
    assert len(decoded) == 10
    for name in ("embeddings.parquet", "scores.parquet", "problems.json"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes() == (embedded / name).read_bytes()


def test_an_embedder_that_is_also_a_judge_keeps_its_scores_apart(
    world: TinyStages, base_images: Path, embedded: Path, tmp_path: Path
) -> None:
    both = {**EMBEDDED, "evaluation__scorers": ["judge_emoji", "clip_emoji"]}
    folder = world.with_inputs(generate=base_images).run(evaluate, tmp_path, **both)
    assert (folder / "embeddings.parquet").read_bytes() == (embedded / "embeddings.parquet").read_bytes()
    counts = Counter(read_table(folder / "scores.parquet")["scorer"].to_pylist())
    assert counts == {"judge_emoji": 18, "clip_emoji": 18, "diversity": 18}


def test_an_embedding_that_is_no_number_is_counted(
    world: TinyStages, base_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither image of its prompt has a diversity then."""
    values = EmbedderRun.values

    def damaged(*arguments: Any) -> NDArray[np.float32]:
        vectors = values(*arguments)
        vectors[0] = np.nan
        return vectors

    monkeypatch.setattr(EmbedderRun, "values", damaged)
    monkeypatch.setattr(evaluate, "MAX_NON_FINITE", 0.2)
    settings = {**EMBEDDED, "evaluation__batch_size": 32}
    folder = world.with_inputs(generate=base_images).run(evaluate, tmp_path, **settings)
    assert json.loads((folder / "problems.json").read_text()) == {
        "non_finite_score": {"count": 2, "ids": ["diversity/p1/0", "diversity/p1/1"]}
    }
    assert read_table(folder / "scores.parquet").num_rows == 18 + 16


def test_a_damaged_image_is_named(world: TinyStages, base_images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    shutil.copytree(base_images, folder)
    (path,) = folder.glob("images-*.parquet")
    table = read_table(path)
    files = table["image"].to_pylist()
    files[5] = files[5][:20]
    write_table(path, table.set_column(table.schema.get_field_index("image"), "image", pa.array(files, pa.binary())))
    with pytest.raises(UserError, match=r"images-00000\.parquet, image 5: not a readable image.*; generate the images"):
        world.with_inputs(generate=folder).run(evaluate, tmp_path / "out")


def test_no_images_are_told(world: TinyStages, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is the folder an artefact of the generate stage"):
        world.with_inputs(generate=tmp_path).run(evaluate, tmp_path / "out")


@pytest.mark.parametrize(
    "text, message",
    [
        ("prompt_id,caption\na,b\n", r":1: column 'split' is missing"),
        ("prompt_id,caption,split\na,b,seen\na,c,evaluation\n", r":3: prompt_id 'a' occurs twice \(first in line 2\)"),
        ("prompt_id,caption,split\na, ,seen\n", r":2: the caption is empty"),
        (
            "prompt_id,caption,split\na,b,seen\nc,d,evaluatoin\n",
            r"no prompt of split 'evaluation' \(did you mean 'evaluatoin'\?\)",
        ),
    ],
)
def test_mistakes_in_the_prompts_are_placed(world: TinyStages, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "prompts.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_prompts(world.config(evaluation__prompts=str(path)).evaluation)


def test_a_missing_prompts_file_is_named(world: TinyStages) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_prompts(world.config(evaluation__prompts="nowhere.csv").evaluation)


def test_the_steps_of_a_batch_are_reported(world: TinyStages, tmp_path: Path) -> None:
    """A batch of 64 images can take a minute: its count moves before it ends, never back, and reaches the total."""
    counts: list[int] = []
    world.run(generate, tmp_path / "out", lambda done, *_: counts.append(done), generation__steps=3, **BASE)
    assert counts == sorted(counts)
    assert counts[-1] == 9
    assert {3, 6} <= set(counts), "a third of the batch of nine after each of three steps"


def files(folder: Path) -> dict[str, bytes]:
    """The shards of an artefact."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("images-*.parquet"))}


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two images: five for the nine of the tiny world."""
    monkeypatch.setattr(generate, "SHARD_IMAGES", 2)


SMALL = {"generation__steps": 1, **BASE}


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
def test_images_compressed_by_threads_are_the_same_bytes(world: TinyStages, tmp_path: Path) -> None:
    """As one after another in the thread that draws; with a batch smaller than a shard, too."""
    many = files(world.run(generate, tmp_path / "many", generation__workers=4, **SMALL))
    assert len(many) == 5
    for number, path in enumerate(sorted((tmp_path / "many").glob("*.parquet"))):
        for row in read_table(path).to_pylist():
            assert webp(images.decode(row["image"])) == row["image"]
        assert path.name == f"images-{number:05d}.parquet"
    assert files(world.run(generate, tmp_path / "one", generation__workers=1, **SMALL)) == many


@pytest.mark.usefixtures("small_shards")
def test_an_image_is_compressed_while_the_next_is_drawn(
    world: TinyStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first shard's compression waits until the second one was drawn, which would never end in one thread."""
    drawn, images = [], Generator.images
    second = threading.Event()

    def counted(self: Generator, *arguments: Any) -> Any:
        drawn.append(images(self, *arguments))
        if len(drawn) == 2:
            second.set()
        return drawn[-1]

    def waiting(image: Image.Image) -> bytes:
        assert second.wait(60)
        return webp(image)

    monkeypatch.setattr(Generator, "images", counted)
    monkeypatch.setattr(writer, "webp", waiting)
    assert len(files(world.run(generate, tmp_path / "out", **SMALL))) == 5


@pytest.mark.usefixtures("small_shards")
def test_what_was_drawn_before_a_stop_is_kept(world: TinyStages, tmp_path: Path) -> None:
    """All whole shards; the rest is drawn by the next run, which ends in the same bytes."""

    def stop(done: int, *_: Any) -> None:
        if done == 6:
            raise Interrupted

    with pytest.raises(Interrupted):
        world.run(generate, tmp_path / "out", stop, generation__batch_size=2, **SMALL)
    assert list(files(tmp_path / "out")) == [f"images-{number:05d}.parquet" for number in range(2)]
    whole = files(world.run(generate, tmp_path / "whole", generation__batch_size=2, **SMALL))
    assert files(world.run(generate, tmp_path / "out", generation__batch_size=2, **SMALL)) == whole


@pytest.mark.usefixtures("small_shards")
def test_an_error_in_a_thread_is_the_stages(world: TinyStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_image: Image.Image) -> bytes:
        raise OSError("no space")

    monkeypatch.setattr(writer, "webp", full)
    with pytest.raises(OSError, match="no space"):
        world.run(generate, tmp_path / "out", **SMALL)
    assert files(tmp_path / "out") == {}


@pytest.mark.slow
def test_a_sampler_draws_other_images_and_the_models_own_name_the_same(world: TinyStages, tmp_path: Path) -> None:
    few = {"evaluation__prompts_per_split": 1, "generation__steps": 4, **BASE}
    own = world.run(generate, tmp_path / "own", **few)
    assert files(world.run(generate, tmp_path / "ddim", generation__sampler="ddim", **few)) == files(own)
    solver = pixels(world.run(generate, tmp_path / "solver", generation__sampler="dpmpp_2m_karras", **few))
    assert max(np.abs(image - solver[key]).max() for key, image in pixels(own).items()) > 2


@pytest.mark.slow
def test_images_are_decoded_in_the_precision_of_generation(
    world: TinyStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    types: list[torch.dtype] = []

    def noted(pipeline: Any, latents: torch.Tensor) -> list[Image.Image]:
        types.append(pipeline.vae.dtype)
        return decode_latents(pipeline, latents)

    monkeypatch.setattr(generator, "decode", noted)
    few = {"evaluation__prompts_per_split": 1, **BASE}
    drawn = [
        pixels(world.run(generate, tmp_path / f"{whole} {own}", model__vae_precision=whole, **chosen, **few))
        for whole, own in (("fp32", None), ("fp32", "bf16"), ("bf16", None), ("bf16", "fp32"))
        for chosen in ({"generation__vae_precision": own},)
    ]
    assert types == [torch.float32, torch.bfloat16, torch.bfloat16, torch.float32]
    for key, exact in drawn[0].items():
        assert np.array_equal(exact, drawn[3][key])
        assert np.array_equal(drawn[1][key], drawn[2][key])
        assert 0 < np.abs(exact - drawn[1][key]).mean() < 2


@pytest.mark.slow
def test_memory_format_and_compilation_change_no_image(
    world: TinyStages, base_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than rounding does; and both reach the network, the memory format also the VAE."""
    compiled: list[str] = []
    traced = torch.nn.Module.compile

    def compile_(self: torch.nn.Module) -> None:
        compiled.append(type(self).__name__)
        traced(self, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", compile_)
    formats: list[bool] = []
    opened = Generator

    def noted(pipeline: Any, *arguments: Any) -> Generator:
        weights = [pipeline.unet.conv_in.weight, pipeline.vae.decoder.conv_in.weight]
        formats.append(all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights))
        return opened(pipeline, *arguments)

    monkeypatch.setattr(generate, "Generator", noted)
    few = {"evaluation__prompts_per_split": 1, **BASE}
    settings = [{"generation__channels_last": True}, {"generation__compile": True}]
    for number, setting in enumerate(settings):
        for key, image in pixels(world.run(generate, tmp_path / str(number), **setting, **few)).items():
            assert np.abs(image - pixels(base_images)[key]).max() <= 1, setting
    assert compiled == ["UNet2DConditionModel"]
    assert formats == [True, False]
