"""Training of reward models: losses, layers, the stream of choices, damage, and that a recipe means what it says."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from scipy.special import log_softmax

from qsd.errors import UserError
from qsd.reward_training import choices as choosing
from qsd.reward_training.choices import ChoicePixels, Choices, ChoiceStream
from qsd.reward_training.evaluate import result, scored
from qsd.reward_training.families.clip import open_clip
from qsd.reward_training.groups import read_groups
from qsd.reward_training.losses import REGISTRY
from qsd.reward_training.method import recipe_of
from qsd.reward_training.report import summary_lines
from qsd.reward_training.schema import BaseConfig, ChoicesConfig, ObjectiveConfig, OptimiserConfig
from qsd.reward_training.train import read_recipe
from qsd.rewards import clip, delta
from qsd.rewards.preprocess import Preprocess
from qsd.training.optimizer import Optimizer
from tests.conftest import ROOT
from tests.qsd import tiny_choices, tiny_lists
from tests.qsd.tiny_world import SIZE, write_clip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``rewards/base``, ``data/train.json`` and ``data/test.json``."""
    return tiny_choices.write_world(tmp_path_factory.mktemp("choices"))


# ── losses ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_losses_by_hand() -> None:
    scores = torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 5.0]])
    preferred = torch.ones(3)
    expected = [math.log(1 + math.exp(-1)), math.log(1 + math.exp(3)), math.log(2)]
    for name in ("hps", "pickscore", "image_reward"):
        assert REGISTRY.get(name).function(scores, preferred).tolist() == pytest.approx(expected), name
    tied = REGISTRY.get("pickscore").function(scores, torch.full((3,), 0.5)).tolist()
    assert tied[2] == pytest.approx(0), "a tie that scores alike is ideal"
    assert tied[0] == pytest.approx(math.log(1 + math.exp(-1)) + 0.5 - math.log(2))


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.sampled_from([0.0, 0.5, 1.0])), min_size=1))
def test_losses_against_another_form(rows: list[tuple[float, float, float]]) -> None:
    """In float64 with scipy, as the published code writes it: label_0 CE(., 0) + label_1 CE(., 1)."""
    scores = np.array([row[:2] for row in rows], dtype=np.float32)
    label = np.array([row[2] for row in rows])
    cross = -(np.stack([label, 1 - label], axis=1) * log_softmax(scores.astype(np.float64), axis=1)).sum(axis=1)
    given_ = torch.from_numpy(scores), torch.from_numpy(label).float()
    assert REGISTRY.get("hps").function(*given_).numpy() == pytest.approx(cross, abs=1e-4)
    ideal = np.where(label == 0.5, np.log(0.5), 0.0)
    assert REGISTRY.get("pickscore").function(*given_).numpy() == pytest.approx(cross + ideal, abs=1e-4)


def test_hps_sums_over_the_pairs_of_a_gpu() -> None:
    scale = REGISTRY.get("hps").scale
    assert scale is not None
    assert scale(ObjectiveConfig(name="hps"), 128) == 128.0
    assert scale(ObjectiveConfig(name="hps", summed_pairs=16), 128) == 16.0


@pytest.mark.parametrize("name", ["hps", "pickscore", "image_reward"])
def test_a_step_minimises_the_published_sum(world: Path, tmp_path: Path, name: str) -> None:
    """The first row of the metrics against numpy on scores of the base model, with captions of unequal counts."""
    items = json.loads((world / "data" / "train.json").read_text())[:4]
    for item in items[1:]:
        item["prompt"] = "the same"
    shutil.copytree(world / "data" / "train", tmp_path / "data" / "train")
    path = tiny_lists.write_list(tmp_path / "data" / "train.json", items)
    settings = {"loss": {"name": name, "summed_pairs": 3}, "choices": {"path": str(path)}, "test": {"path": None}}
    tiny_choices.run(world, tmp_path / "out", **settings)
    scorer = clip.open_scorer(world / "rewards" / "base")
    losses, weights = [], []
    for item in items:
        files = [(world / "data" / "train" / file).read_bytes() for file in item["file_path"]]
        images = [choosing.decode(file) for file in files]
        first, second = scorer.score(images, [item["prompt"]] * 2) * math.exp(float(scorer.model.logit_scale))
        won = first - second if item["human_preference"][0] else second - first
        losses.append(np.log1p(np.exp(-won)))
        weights.append(1 / 3 if item["prompt"] == "the same" and name == "pickscore" else 1.0)
    expected = np.dot(losses, weights) / np.sum(weights) * (3 if name == "hps" else 1)
    assert tiny_choices.rows(tmp_path / "out")[0]["loss"] == pytest.approx(expected, rel=1e-4)


# ── layers ───────────────────────────────────────────────────────────────────────────────────────────────────────────

NEVER = {"visual.conv1", "visual.class_embedding", "visual.positional", "visual.ln_pre", "token_emb", "positional_emb"}


@pytest.mark.parametrize(
    ("image", "text", "changed"),
    [
        (1, 0, {"visual.transformer.resblocks.2", "visual.ln_post", "visual.proj"}),
        (
            2,
            1,
            {"visual.transformer.resblocks.1", "visual.transformer.resblocks.2", "visual.ln_post", "visual.proj"}
            | {"transformer.resblocks.1", "ln_final", "text_projection"},
        ),
        (0, 2, {"transformer.resblocks.0", "transformer.resblocks.1", "ln_final", "text_projection"}),
    ],
)
def test_only_the_chosen_layers_change(world: Path, tmp_path: Path, image: int, text: int, changed: set[str]) -> None:
    tiny_choices.run(
        world, tmp_path / "out", layers={"image_blocks": image, "text_blocks": text}, training={"steps": 2}
    )
    trained = load_file(tmp_path / "out" / "reward" / delta.WEIGHTS)
    expected = {*changed, "logit_scale"}
    assert {next((p for p in expected if name.startswith(p)), name) for name in trained} == expected
    before = clip.open_scorer(world / "rewards" / "base").model.state_dict()
    same = [name for name, tensor in trained.items() if torch.equal(tensor.float(), before[name])]
    # fp16 hides the smallest changes of a few steps; every layer must have moved all the same.
    assert len(same) < len(trained) / 2


def test_null_trains_a_whole_tower(world: Path, tmp_path: Path) -> None:
    tiny_choices.run(world, tmp_path / "out", layers={"image_blocks": None, "text_blocks": None}, training={"steps": 1})
    trained = load_file(tmp_path / "out" / "reward" / delta.WEIGHTS)
    assert trained.keys() == dict(clip.open_scorer(world / "rewards" / "base").model.named_parameters()).keys()


def test_frozen_weights_keep_their_bits_and_small_ones_do_not_decay(world: Path, tmp_path: Path) -> None:
    """With no learning signal worth speaking of, decay shrinks matrices and leaves norms, biases and the scale."""
    model = open_clip(BaseConfig(path=str(world / "rewards" / "base")))
    model.choose_layers(1, 0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    recipe = recipe_of(OptimiserConfig(steps=1, batch=1, learning_rate=0.1, schedule="constant", weight_decay=0.5))
    optimizer = Optimizer(model.trained(), recipe.optimizer)
    for parameter in model.trained().values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(0)
    for name, tensor in model.state_dict().items():
        decays = name in model.trained() and tensor.ndim >= 2
        assert torch.equal(tensor, before[name] * (1 - 0.1 * 0.5) if decays else before[name]), name


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"image_blocks": 4}, "layers.image_blocks is 4, but the image tower has 3 blocks"),
        ({"text_blocks": 3}, "layers.text_blocks is 3, but the text tower has 2 blocks"),
    ],
)
def test_too_many_blocks_are_refused(world: Path, tmp_path: Path, layers: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny_choices.run(world, tmp_path / "out", layers=layers)


def test_a_resnet_is_refused(world: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "resnet", 0, image_tower={"layers": [1, 1, 1, 1], "width": 8})
    with pytest.raises(UserError, match="image tower has no transformer blocks"):
        tiny_choices.run(world, tmp_path / "out", base={"path": str(tmp_path / "resnet")})


@pytest.mark.parametrize("bound", [100.0, 20.0, None])
def test_the_logit_scale_stays_below_its_bound(world: Path, tmp_path: Path, bound: float | None) -> None:
    model = open_clip(BaseConfig(path=str(world / "rewards" / "base")))
    model.choose_layers(0, 0)
    with torch.no_grad():
        model.clip.logit_scale.fill_(9.0)
    model.after_step(bound)
    assert float(model.clip.logit_scale.detach().exp()) == pytest.approx(bound or math.exp(9))


def test_a_training_applies_the_bound(world: Path, tmp_path: Path) -> None:
    training = {"learning_rate": 3.0, "steps": 3}
    tiny_choices.run(world, tmp_path / "out", training=training, test={"path": None}, loss={"max_logit_scale": 5.0})
    scale = load_file(tmp_path / "out" / "reward" / delta.WEIGHTS)["logit_scale"]
    assert float(scale) <= math.log(5) + 1e-2


def test_all_parameters_decay_where_the_recipe_says_so(world: Path) -> None:
    model = open_clip(BaseConfig(path=str(world / "rewards" / "base")))
    model.choose_layers(1, 0)
    before = {name: parameter.detach().clone() for name, parameter in model.trained().items()}
    recipe = recipe_of(
        OptimiserConfig(steps=1, batch=1, learning_rate=0.1, schedule="constant", weight_decay=0.5, decayed="all")
    )
    optimizer = Optimizer(model.trained(), recipe.optimizer)
    for parameter in model.trained().values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(0)
    for name, parameter in model.trained().items():
        assert torch.equal(parameter.detach(), before[name] * (1 - 0.1 * 0.5)), name


def test_the_published_recipes_are_read() -> None:
    hps, pick = (read_recipe(ROOT / "experiments" / f"{name}.yaml") for name in ("hps_v2", "pickscore"))
    fields = ("loss.max_logit_scale", "training.decayed", "training.weight_decay", "training.schedule")
    assert [hps[name] for name in fields] == [100.0, "matrices", 0.35, "cosine"]
    assert [pick[name] for name in fields] == [None, "all", 0.3, "linear"]


# ── choices ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def some_choices(count: int = 10) -> Choices:
    return Choices(
        [f"id {n}" for n in range(count)],
        [f"caption {n % 4}" for n in range(count)],
        [(f"w{n}", f"l{n}") for n in range(count)],
        np.arange(count),
        np.zeros(count, dtype=bool),
    )


def test_the_stream_is_endless_and_takes_every_choice_once_an_epoch() -> None:
    stream = ChoiceStream(some_choices(), np.ones(10), seed=3)
    epochs = [stream.places(10 * epoch, 10 * epoch + 10).tolist() for epoch in (0, 1, 57)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert stream.places(7, 13).tolist() == epochs[0][7:] + epochs[1][:3]


def test_folds_part_the_captions() -> None:
    choices = some_choices(200)
    choices = Choices(choices.ids, [f"caption {n // 4}" for n in range(200)], choices.uids, choices.rows, choices.ties)
    masks = [choosing.held_out(choices, ChoicesConfig(path="x", folds=5, fold=fold), 0) for fold in range(5)]
    assert (np.sum(masks, axis=0) == 1).all()
    for mask in masks:
        held = {choices.captions[place] for place in np.flatnonzero(mask)}
        assert not held & {choices.captions[place] for place in np.flatnonzero(~mask)}
    with pytest.raises(UserError, match=r"choices\.fold 5 of choices\.folds 5"):
        choosing.held_out(choices, ChoicesConfig(path="x", folds=5, fold=5), 0)


def test_the_held_out_fold_is_looked_at_and_not_learnt_from(world: Path, tmp_path: Path) -> None:
    looked = tiny_choices.run(
        world, tmp_path / "looked", choices={"folds": 3}, training={"validate_steps": 3}, test={"path": None}
    )
    assert looked["choices"] + looked["held_out_choices"] == 12
    assert looked["held_out_choices"] > 0
    rows = tiny_choices.rows(tmp_path / "looked")
    assert ["held_out_accuracy" in row for row in rows] == [(number + 1) % 3 == 0 for number in range(len(rows))]
    assert 0 <= looked["held_out_accuracy"] <= 1
    alone = tiny_choices.run(world, tmp_path / "alone", choices={"folds": 3}, test={"path": None})
    assert looked["held_out_accuracy"] == alone["held_out_accuracy"], "looking changes nothing"
    assert [row["loss"] for row in rows] == [row["loss"] for row in tiny_choices.rows(tmp_path / "alone")]


def test_ties_are_learnt_from_by_the_loss_that_can(world: Path, tmp_path: Path) -> None:
    items = json.loads((world / "data" / "train.json").read_text())
    items[2]["human_preference"] = [0.5, 0.5]
    shutil.copytree(world / "data" / "train", tmp_path / "train")
    path = tiny_lists.write_list(tmp_path / "train.json", items)
    settings = {"choices": {"path": str(path)}, "training": {"steps": 1}, "test": {"path": None}}
    soft = tiny_choices.run(world, tmp_path / "soft", loss={"name": "pickscore"}, **settings)
    assert (soft["choices"], soft["ties"]) == (12, 1)
    hard = tiny_choices.run(world, tmp_path / "hard", loss={"name": "hps"}, **settings)
    assert (hard["choices"], hard["ties"]) == (11, 0)
    assert json.loads((tmp_path / "hard" / "problems.json").read_text())["tie"]["count"] == 1


def test_damage_is_counted_bounded_and_never_replaced(world: Path, tmp_path: Path) -> None:
    pairs = tiny_lists.some_pairs(12)
    path = tiny_lists.hpd_train(tmp_path, pairs)
    items = json.loads(path.read_text())
    (tmp_path / "train" / items[0]["file_path"][1]).unlink()
    torn = tmp_path / "train" / items[5]["file_path"][0]
    torn.write_bytes(torn.read_bytes()[:100])
    settings = {"training": {"steps": 1}, "test": {"path": None}}
    with pytest.raises(UserError, match=r"2 of 12 refused.*choices\.max_rejected_fraction"):
        tiny_choices.run(world, tmp_path / "out", choices={"path": str(path)}, **settings)
    borne = {"path": str(path), "max_rejected_fraction": 0.3}
    summary = tiny_choices.run(world, tmp_path / "again", choices=borne, **settings)
    problems = json.loads((tmp_path / "again" / "problems.json").read_text())
    assert {reason: problem["count"] for reason, problem in problems.items()} == {
        "corrupt_image": 1,
        "missing_image": 1,
    }
    assert summary["choices"] == 10


def test_an_image_that_was_lost_since_ends_the_training(tmp_path: Path) -> None:
    path = tiny_lists.hpd_train(tmp_path, tiny_lists.some_pairs(2))
    source = choosing_source(path)
    choosing.examined(source, ChoicesConfig(path=str(path)), False, 1, tmp_path, lambda *_: None)
    choices = choosing.read(tmp_path)
    for file in (tmp_path / "train").iterdir():
        file.write_bytes(b"no image")
    pixels = ChoicePixels(choosing_source(path), Preprocess.from_config({"size": SIZE}), 0, 1)
    with pytest.raises(
        UserError, match=r"source row 1: not the image files that were listed; the data set has changed"
    ):
        pixels.of(choices, [1])


def choosing_source(path: Path) -> object:
    from qsd.data.readers import REGISTRY as READERS

    return READERS.get("hpd_v2").open(path)


@pytest.mark.parametrize("kept", [0, 3, 100])
def test_kept_images_are_the_images(world: Path, tmp_path: Path, kept: int) -> None:
    source = choosing_source(world / "data" / "train.json")
    choosing.examined(source, ChoicesConfig(path="train.json"), False, 1, tmp_path, lambda *_: None)
    choices, preprocess = choosing.read(tmp_path), Preprocess.from_config({"size": SIZE})
    pixels = ChoicePixels(source, preprocess, kept, 2)
    for places in ([0, 1, 2], [1, 5, 0], [0, 0]):
        batch = pixels.of(choices, places)
        for row, place in enumerate(places):
            files = source.image_bytes(int(choices.rows[place]))
            assert torch.equal(batch[row], preprocess.pixels([choosing.decode(file) for file in files]))
        assert len(pixels._cache) <= kept


# ── recipes and results ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: {path: x}\nloss:\n  name: hsp\n", "3:9: unknown loss of choices 'hsp' (did you mean 'hps'?)"),
        ("base: {path: x}\ntraining:\n  stesp: 4\n", "3:3: unknown key 'training.stesp' (did you mean"),
        (
            "base: {path: x}\ntraining: {steps: 0}\n",
            "2:19: training.steps must be at least 1 and at most 100000000, not 0",
        ),
        ("base: {path: x, family: clap}\n", "1:25: unknown family of reward models 'clap'"),
        ("base: {path: x}\n", "1:1: 'choices.path' is missing"),
    ],
)
def test_mistakes_name_their_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        read_recipe(path)
    assert f"{path}:{message}" in str(raised.value)


@pytest.mark.parametrize("name", ["hps_v2", "hps_emoji", "pick_emoji"])
def test_shipped_recipes_are_right(name: str) -> None:
    read_recipe(ROOT / "experiments" / f"{name}.yaml")


def test_the_published_recipe_says_what_was_published() -> None:
    recipe = read_recipe(ROOT / "experiments" / "hps_v2.yaml")
    expected = {
        "training.learning_rate": 3.3e-6,
        "training.weight_decay": 0.35,
        "training.beta2": 0.98,
        "training.eps": 1e-6,
        "training.warmup_steps": 500,
        "training.batch": 128,
        "loss.summed_pairs": 16,
        "layers.image_blocks": 19,
        "layers.text_blocks": 11,
        "base.resize": "longest",
        "seed": 16,
    }
    assert {name: recipe[name] for name in expected} == expected


def test_the_written_folder_scores_as_reported(world: Path, tmp_path: Path) -> None:
    summary = tiny_choices.run(world, tmp_path / "out")
    folder = world / "rewards" / "tuned"
    (tmp_path / "out" / "reward").rename(folder)
    scorer = delta.open_scorer(folder)
    path = world / "data" / "test.json"
    scores, labels = scored(scorer, read_groups(path), 4, 0.0, "test")
    assert result(scorer, scores, labels, "hps_v2").accuracy == pytest.approx(summary["test"]["accuracy"])
    assert scorer.unit == "cosine"
    with pytest.raises(UserError, match="the CLIP that was fine-tuned is not there"):
        delta.open_scorer(folder.rename(tmp_path / "alone"))


@pytest.mark.parametrize("layout", ["open_clip", "transformers"])
def test_a_published_checkpoint_is_a_base(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """In the published layouts, with the preprocessing that the recipe asks for, at reduced size."""
    from qsd.rewards import clip_published
    from scripts.parity.original_keys import to_transformers

    size = {"layers": 2, "width": 16, "head_width": 8, "patch_size": 16, "image_size": SIZE}
    text = {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
    model_cfg = {"embed_dim": 8, "vision_cfg": size, "text_cfg": text}
    monkeypatch.setattr(clip_published, "VIT_H_14", model_cfg)
    state = clip.create(model_cfg, seed=1).state_dict()
    (tmp_path / "laion").mkdir()
    base = {"layout": layout, "architecture": "ViT-H-14", "resize": "longest", "antialias": False}
    if layout == "open_clip":
        torch.save(state, tmp_path / "laion" / "open_clip_pytorch_model.bin")
        base["path"] = str(tmp_path / "laion" / "open_clip_pytorch_model.bin")
    else:
        save_file(to_transformers(state), tmp_path / "laion" / "model.safetensors")
        base["path"] = str(tmp_path / "laion")
    summary = tiny_choices.run(world, tmp_path / "out", base=base, layers={"image_blocks": 1, "text_blocks": 1})
    (tmp_path / "out" / "reward").rename(tmp_path / "tuned")
    scorer = delta.open_scorer(tmp_path / "tuned")
    assert (scorer.preprocess.resize, scorer.preprocess.antialias) == ("longest", False)
    scores, labels = scored(scorer, read_groups(world / "data" / "test.json"), 4, 0.0, "test")
    assert result(scorer, scores, labels, "hps_v2").accuracy == pytest.approx(summary["test"]["accuracy"])
    with pytest.raises(UserError, match=r"needs base\.architecture"):
        tiny_choices.run(world, tmp_path / "other", base={**base, "architecture": None})


def test_another_base_is_refused(world: Path, tmp_path: Path) -> None:
    tiny_choices.run(world, tmp_path / "out", training={"steps": 1})
    (tmp_path / "out" / "reward").rename(tmp_path / "tuned")
    write_clip(tmp_path / "base", 0, image_tower={"layers": 3, "width": 24, "head_width": 8, "patch_size": 16})
    with pytest.raises(UserError, match="does not fit the CLIP below it; another base"):
        delta.open_scorer(tmp_path / "tuned")


def test_damaged_test_groups_are_left_out_and_told(world: Path, tmp_path: Path) -> None:
    path = tiny_choices.write_groups(tmp_path / "data", count=4)
    name = json.loads(path.read_text())[1]["image_path"][0]
    (tmp_path / "data" / "test" / name).unlink()
    settings = {"test": {"path": str(path)}, "training": {"steps": 1}}
    with pytest.raises(UserError, match=r"1 of 4 refused.*choices\.max_rejected_fraction.*missing_image"):
        tiny_choices.run(world, tmp_path / "out", **settings)
    summary = tiny_choices.run(world, tmp_path / "borne", choices={"max_rejected_fraction": 0.25}, **settings)
    assert "on 3 groups (1 damaged ones left out)" in "\n".join(summary_lines(summary))


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ({"path": "none.json"}, r"test\.path: none\.json: no such file"),
        ({"ceiling": "judge_emoji"}, r"test\.ceiling needs test\.weights"),
        ({"ceiling": "judge_emoji", "weights": "nowhere"}, "no weights of reward model 'judge_emoji'"),
    ],
)
def test_a_test_that_cannot_be_is_refused_before_training(
    world: Path, tmp_path: Path, test: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        tiny_choices.run(world, tmp_path / "out", test=test)
    assert not (tmp_path / "out").exists()


def test_the_ceiling_is_reported(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from qsd import cli_rewards

    tiny_choices.write_clip(world / "rewards" / "judge_emoji", seed=5)
    test = {"ceiling": "judge_emoji", "weights": str(world / "rewards")}
    cli_rewards.train_reward(tiny_choices.write_recipe(world, test=test), tmp_path / "out")
    printed = capsys.readouterr().out
    assert "the reward model that simulated the annotators: the ceiling" in printed
    assert "test accuracy (HPS v2's protocol) on 5 groups" in printed


@pytest.mark.parametrize("name", ["hps_emoji", "pick_emoji"])
def test_shipped_scorers_hold_only_what_was_trained(name: str) -> None:
    from qsd.rewards.opening import open_reward
    from qsd.rewards.scorers import REGISTRY as SCORERS

    weights = ROOT / "experiments" / "emoji" / "assets" / "rewards"
    folder = weights / name
    assert SCORERS.get(name).folders == (name, "clip_emoji")
    assert {path.name for path in folder.iterdir()} == {"config.json", delta.WEIGHTS}
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 1.5e6
    tuned, base = (open_reward(one, str(weights), "cpu") for one in (name, "clip_emoji"))
    trained = load_file(folder / delta.WEIGHTS)
    state, before = tuned.model.state_dict(), base.model.state_dict()  # type: ignore[attr-defined]
    differing = {key for key in state if not torch.equal(state[key], before[key])}
    assert differing <= trained.keys()
    assert len(differing) > len(trained) / 2
