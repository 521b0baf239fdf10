"""What planning knows of an on-policy training: what is part of its meaning, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ablations.grid.expand import Cell
from ablations.running.cell_settings import cell_settings as settings_of_cells
from qsd.config.load import build, load_flat, override
from qsd.errors import UserError
from qsd.losses import REGISTRY as LOSSES
from qsd.stages.spec import STAGES, stage_meaning
from qsd.stages.train.on_policy_checks import OF_PAIRS, step_losses
from qsd.stages.train.run import cell_settings
from qsd.training.methods import REGISTRY
from tests.qsd.training.onpolicy.onpolicy_world import METHODS, POLICY_GRADIENTS


def flat(**settings: Any) -> dict[str, Any]:
    """A training on the emoji world; ``__`` stands for the dot."""
    assignments = {name.replace("__", "."): value for name, value in settings.items()}
    return override(load_flat(Path("experiments/emoji.yaml")), assignments)


def meaning(**settings: Any) -> dict[str, Any]:
    """Of a training on the emoji world."""
    return stage_meaning("train", flat(**settings))


def known(**settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a training is known by: its meaning, and the settings of its model card."""
    return meaning(**settings), cell_settings(build(flat(**settings)))


@pytest.mark.parametrize("name", METHODS)
def test_the_precision_of_the_reward_is_part_of_the_training(name: str) -> None:
    """The reward model scores in it; with the default nothing is said of it, so that no key of a store changes."""
    usual = meaning(method__name=name)
    assert not any("precision" in field for field in usual)
    assert meaning(method__name=name, reward__precision="bf16") == {**usual, "reward.precision": "bf16"}


def test_guidance_by_a_reward_without_gradient_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"reward\.model: jpeg_size has no gradient.*guidance of method tailorpo_g"):
        meaning(method__name="tailorpo_g", reward__model="jpeg_size")
    members = {"reward__model": "ensemble", "reward__members": ["clip_emoji", "jpeg_size"]}
    with pytest.raises(UserError, match=r"reward\.members: jpeg_size has no gradient"):
        meaning(method__name="tailorpo_g", **members)
    assert meaning(method__name="tailorpo", reward__model="jpeg_size")["reward.model"] == "jpeg_size"
    assert meaning(method__name="tailorpo", **members)["reward.model"] == "ensemble"


def test_an_ensemble_that_ranks_within_a_data_set_is_refused() -> None:
    ensemble = {"reward__model": "ensemble", "reward__members": ["clip_emoji", "pick_emoji"]}
    with pytest.raises(UserError, match=r"reward\.combine is 'percentile_rank'.*method d3po has none; use z_score"):
        meaning(method__name="d3po", reward__combine="percentile_rank", **ensemble)


def test_a_loss_that_reads_more_than_a_step_is_refused() -> None:
    with pytest.raises(UserError, match=r"loss\.name 'kto' reads more of a pair than method spo has.*cdpo, dpo"):
        meaning(method__name="spo", loss__name="kto")
    assert meaning(method__name="ddpo", loss__name="kto") == meaning(method__name="ddpo"), "it reads no loss"


def test_one_watched_prompt_has_no_standard_error() -> None:
    with pytest.raises(UserError, match=r"method\.watched_prompts is 1, but .* watch more, or 0 for none"):
        meaning(method__name="ddpo", method__watched_prompts=1)
    assert meaning(method__name="ddpo", method__watched_prompts=0)["method.watched_prompts"] == 0


def test_watched_prompts_that_are_not_there_are_refused_by_their_field(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no prompt of split 'training'; it has .* \(set method\.watched_split\)"):
        meaning(method__name="ddpo", method__watched_split="training")
    prompts = tmp_path / "prompts.csv"
    rows = "a,an apple,evaluation\nb,a bee,alone\n"
    prompts.write_text(f"prompt_id,caption,split\n{rows}")
    settings = {"method__name": "ddpo", "evaluation__prompts": str(prompts), "method__watched_split": "alone"}
    with pytest.raises(UserError, match=r"method\.watched_split 'alone' has one prompt, but .*watched_prompts: 0"):
        meaning(**settings)
    assert meaning(**settings, method__watched_prompts=0)


def test_skipping_all_steps_is_refused_by_its_field() -> None:
    with pytest.raises(UserError, match=r"method\.skipped_steps is 20, which is all of the 20 sampler steps"):
        meaning(method__name="ddpo", method__skipped_steps=20)
    with pytest.raises(UserError, match=r"method\.skipped_steps is 4, which is all of the 3 sampler steps"):
        meaning(method__name="spo", method__sampler_steps=3)
    assert meaning(method__name="ddpo", method__skipped_steps=19)


def model_that_ends(folder: Path, clean: bool) -> str:
    """A model's folder with as much as planning reads of its schedule."""
    (folder / "scheduler").mkdir(parents=True)
    schedule = {"set_alpha_to_one": clean, "steps_offset": 1, "num_train_timesteps": 1000}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(schedule))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    return str(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"placement": "last", "trained_steps": 1}, r"method\.placement is last and method\.trained_steps 1, so that"),
        ({"skipped_steps": 19, "trained_steps": 0}, r"method\.skipped_steps is 19 of 20 steps, so that"),
        ({"sampler_steps": 2, "trained_steps": 1}, r"method\.trained_steps is 1 of 2 steps, so that"),
    ],
)
def test_planning_refuses_trained_steps_without_noise(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    """The only trained step is the last one, and the model's sampling ends at clean latents."""
    chosen = {"method__name": "ddpo", **{f"method__{name}": value for name, value in settings.items()}}
    clean = model_that_ends(tmp_path / "clean", clean=True)
    with pytest.raises(UserError, match=rf"{message}.*no noise with model\.path {clean}.*or earlier ones"):
        meaning(**chosen, model__path=clean)
    meaning(**chosen, model__path=model_that_ends(tmp_path / "noisy", clean=False))
    meaning(**{**chosen, "method__placement": "first", "method__sampler_steps": 20, "method__skipped_steps": 0})


@pytest.mark.parametrize("own_guidance", [True, False])
def test_a_network_with_guidance_of_its_own_has_no_other(tmp_path: Path, own_guidance: bool) -> None:
    """FLUX.1-dev's, not schnell's; a training on pairs does not read the field."""
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text(json.dumps({"guidance_embeds": own_guidance}))
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    flux = {"model__path": str(tmp_path), "method__guidance_scale": 5.0}
    if own_guidance:
        message = (
            rf"method\.guidance_scale is 5, but the network of model\.path {tmp_path} takes its guidance as an input"
        )
        with pytest.raises(UserError, match=message):
            meaning(method__name="tailorpo", **flux)
    else:
        meaning(method__name="tailorpo", **flux)
    meaning(method__name="tailorpo", **{**flux, "method__guidance_scale": 1.0})
    meaning(**flux)


def test_planning_and_training_refuse_the_same_losses() -> None:
    from qsd.training.onpolicy.preferences import fits_steps

    assert step_losses() == sorted(name for name in LOSSES.names() if fits_steps(LOSSES.get(name)))


# ── Only what is read ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", METHODS)
def test_beta_of_the_loss_is_in_no_key_and_on_no_card(name: str) -> None:
    assert known(method__name=name, loss__beta=7.0) == known(method__name=name)


def test_a_training_on_pairs_has_all_settings_of_its_loss_and_none_of_a_method() -> None:
    plain, card = known()
    assert plain["loss.beta"] == card["loss.beta"] == 4000
    assert known(loss__beta=7.0) == ({**plain, "loss.beta": 7.0}, {**card, "loss.beta": 7.0})
    assert known(method__beta=3.0, method__threshold=0.5, method__updates=4) == (plain, card)
    assert known(training__flip=True) == ({**plain, "training.flip": True}, {**card, "training.flip": True})
    assert not any(field.startswith("method.") for field in (*plain, *card))


def test_other_settings_of_the_loss_are_read() -> None:
    usual = known(method__name="tailorpo", loss__name="cdpo")
    assert known(method__name="tailorpo", loss__name="cdpo", loss__label_noise=0.3) != usual
    assert known(method__name="tailorpo", loss__name="cdpo", method__beta=3.0) != usual


def test_ipo_has_no_beta() -> None:
    usual = known(method__name="d3po", loss__name="ipo")
    assert known(method__name="d3po", loss__name="ipo", method__beta=3.0) == usual
    assert known(method__name="d3po", loss__name="ipo", loss__ipo_tau=3.0) != usual
    assert "method.beta" not in usual[1]
    assert known(method__name="d3po", method__beta=3.0) != known(method__name="d3po")


# ── One key for one training ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", METHODS)
def test_the_own_default_written_out_is_the_same_as_null(name: str) -> None:
    usual = known(method__name=name)
    written = {f"method__{setting}": value for setting, value in REGISTRY.get(name).defaults.items()}
    assert known(method__name=name, **written) == usual
    for setting, value in written.items():
        assert meaning(method__name=name, **{setting: value}) == usual[0], setting
    expected = "method.trained_steps" if name in POLICY_GRADIENTS else "method.beta"
    assert expected in usual[1], "the card says what the method's own default is"


EQUAL: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("tailorpo", {}, {"reward_scale": 100.0}),
    ("spo", {"threshold": 0.0}, {"threshold": 0.0, "reward_scale": 100.0}),
    ("tailorpo_g", {"guide_schedule": "constant"}, {"guide_schedule": "constant", "guide_to": 0.7}),
    ("tailorpo_g", {"guide_to": 0.1}, {"guide_schedule": "constant"}),
    ("tailorpo", {"trained_steps": 0}, {"trained_steps": 20}),
    ("tailorpo", {"trained_steps": 0}, {"trained_steps": 0, "placement": "last"}),
    ("tailorpo", {"trained_steps": 0}, {"trained_steps": 0, "ranked_steps": "all"}),
    ("spo", {}, {"trained_steps": 16, "placement": "first"}),
    ("ddpo", {}, {"ddpo_clip": 0.2}),
    ("ddpo", {}, {"advantage_clip": 10.0}),
    ("ddpo", {}, {"kl_weight": 0.5}),
    ("flow_grpo", {}, {"ddpo_clip": 0.2}),
    ("d3po", {"watched_prompts": 0}, {"watched_prompts": 0, "watched_split": "seen", "watchers": None}),
    ("d3po", {"watchers": ["judge_emoji"]}, {"watchers": ["clip_emoji", "judge_emoji"]}),
    ("d3po", {"watchers": None}, {"watchers": ["clip_emoji"]}),
]
DIFFERENT: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("spo", {}, {"reward_scale": 100.0}),
    ("tailorpo", {"threshold": 0.1}, {"threshold": 0.1, "reward_scale": 100.0}),
    ("tailorpo_g", {}, {"guide_to": 0.7}),
    ("tailorpo_g", {"guide_schedule": "constant"}, {"guide_schedule": "constant", "guide_from": 0.7}),
    ("tailorpo_g", {}, {"r_high": 100.0}),  # below a reward that is met it is refused
    ("tailorpo", {}, {"placement": "last"}),
    ("tailorpo", {}, {"ranked_steps": "all"}),
    ("spo", {}, {"ranked_steps": "trained"}),  # four steps are not trained
    ("spo", {}, {"trained_steps": 15}),
    ("ddpo", {"updates": 2}, {"updates": 2, "ddpo_clip": 0.2}),
    ("ddpo", {}, {"advantage_clip": 1.7}),
    ("ddpo", {"trajectories": 40}, {"trajectories": 40, "advantage_clip": 6.0}),
    ("flow_grpo", {}, {"kl_weight": 0.0}),
    ("flow_grpo", {}, {"kl_weight": 0.04}),
    ("d3po", {}, {"watchers": ["judge_emoji"]}),
]


def _of_method(settings: dict[str, Any]) -> dict[str, Any]:
    return {f"method__{setting}": value for setting, value in settings.items()}


@pytest.mark.parametrize(("name", "one", "other"), EQUAL)
def test_equal_trainings_have_one_key_and_one_card(name: str, one: dict[str, Any], other: dict[str, Any]) -> None:
    assert known(method__name=name, **_of_method(one)) == known(method__name=name, **_of_method(other))


@pytest.mark.parametrize(("name", "one", "other"), DIFFERENT)
def test_different_trainings_have_different_keys(name: str, one: dict[str, Any], other: dict[str, Any]) -> None:
    assert meaning(method__name=name, **_of_method(one)) != meaning(method__name=name, **_of_method(other))


def test_without_watched_prompts_nothing_validates() -> None:
    unwatched = {"method__name": "ddpo", "method__watched_prompts": 0}
    assert known(**unwatched, training__validation_steps=7) == known(**unwatched)
    assert known(method__name="ddpo", training__validation_steps=7) != known(method__name="ddpo")


def test_the_settings_of_a_cell_are_those_that_are_read() -> None:
    values = flat(method__name="tailorpo", loss__beta=7.0, method__reward_scale=3.0)
    cell = cast("Cell", SimpleNamespace(cell_id="a", stages=["train"], values=values))
    settings = settings_of_cells([cell])["a"]
    assert settings["method.beta"] == 10.0
    assert "loss.beta" not in settings
    assert "method.reward_scale" not in settings
    assert settings["training.micro_batch"] == values["training.micro_batch"]


# ── What needs pairs ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("training.budget", "epochs"),
        ("training.caption_dropout", 0.2),
        ("training.flip", True),
        ("training.validation_pairs", 9),
        ("lora.dropout", 0.2),
    ],
)
def test_a_setting_that_needs_pairs_is_refused_by_name(field: str, value: Any) -> None:
    setting = {field.replace(".", "__"): value}
    with pytest.raises(
        UserError, match=rf"{field} is {value!r}, which needs pairs, and method spo has none.*leave it out"
    ):
        meaning(method__name="spo", **setting)
    meaning(**setting)


def test_every_field_of_a_training_is_read_or_refused_or_left_to_pairs() -> None:
    """A new field of the section must be put into one of these lists."""
    with_pairs, on_policy = (set(STAGES["train"].reads(flat(method__name=name))) for name in ("pairs", "ddpo"))
    unread = {name for name in with_pairs - on_policy if name.startswith(("training.", "loss.beta_", "lora."))}
    execution = {
        f"training.{name}"
        for name in (
            *("micro_batch", "processes", "reference_errors", "attention", "channels_last", "compile"),
            *("checkpoint_steps", "checkpoint_seconds", "gradient_checkpointing"),
        )
    }
    on_pairs, on_samples = (STAGES["train"].unused(flat(method__name=name)) for name in ("pairs", "ddpo"))
    left = {name for name in on_samples if name.startswith("training.")}
    assert unread - execution == {*OF_PAIRS, *left} - set(on_pairs) - execution


# ── Memory ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_all_that_takes_memory_is_halved() -> None:
    """By what there is at a time: 16 prompts with two candidates and guidance, 32 watched prompts."""

    def sizes(**settings: Any) -> dict[str, int]:
        values = flat(**settings)
        return {batch.name: batch.effective(values) for batch in STAGES["train"].batches_for(values)}

    usual = {"method__name": "tailorpo", "method__sampling_batch": 500, "training__micro_batch": 30}
    assert sizes(**usual, method__guidance_scale=2.0, method__candidates=3) == {
        "training.micro_batch": 30,
        "method.sampling_batch": 96,
        "reward.batch_size": 48,
    }
    assert sizes(**usual, method__prompts_per_step=1)["reward.batch_size"] == 32
    # Left to the free memory, the micro-batch was the whole step at most; on samples it is the usual one.
    assert sizes(**{**usual, "training__micro_batch": 0})["training.micro_batch"] == 16
    assert sizes(training__micro_batch=0, training__pairs_per_step=48) == {"training.micro_batch": 48}
    assert sizes(**usual, reward__batch_size=3)["reward.batch_size"] == 3
    assert sizes(training__micro_batch=30, training__pairs_per_step=7) == {"training.micro_batch": 7}
