"""Invariant 2: a stage is its meaning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.planning.dry_plan import reduced
from qsd.config import digest as digests
from qsd.config.check import schema_fields
from qsd.config.fields import Kind
from qsd.config.load import Flat, defaults
from qsd.errors import UserError
from qsd.losses import REGISTRY as LOSSES
from qsd.models import local_checks
from qsd.models.families import sd3, stable_diffusion
from qsd.rewards import revision as revisions
from qsd.selection.strategies import REGISTRY as STRATEGIES
from qsd.source import source_digest
from qsd.stages import spec
from qsd.stages.judges import conflicts, default_primary, is_own_reward
from qsd.stages.stage_spec import section
from qsd.training.methods import REGISTRY as METHODS


@pytest.fixture
def values(tmp_path: Path) -> Flat:
    """A complete configuration over small files."""
    digests.digest.cache_clear()
    revisions.revision.cache_clear()
    for name in ("clip_emoji", "aesthetic_emoji", "judge_emoji"):
        (tmp_path / "weights" / name).mkdir(parents=True)
        (tmp_path / "weights" / name / "w").write_text(name)
    (tmp_path / "pairs").write_text("pairs")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("model")
    (tmp_path / "prompts").write_text("prompt_id,caption,split\na,an apple,evaluation\nb,a bee,seen\n")
    return {
        **defaults(),
        "data.path": str(tmp_path / "pairs"),
        "model.path": str(tmp_path / "model"),
        "reward.model": "clip_emoji",
        "reward.weights": str(tmp_path / "weights"),
        "training.steps": 2,
        "training.pairs_per_step": 2,
        "training.learning_rate": 0.1,
        "evaluation.prompts": str(tmp_path / "prompts"),
        "evaluation.scorers": ["clip_emoji", "judge_emoji"],
    }


def keys(values: Flat) -> dict[str, str]:
    """Key of every stage of a cell."""
    by_stage: dict[str, str] = {}
    for stage in spec.stages_of(values):
        by_stage[stage] = spec.stage_key(
            stage, values, {name: by_stage[name] for name in spec.stage_inputs(stage, values)}
        )
    return by_stage


def changed(values: Flat, **assignments: Any) -> set[str]:
    """Stages whose key differs after some assignments (``__`` stands for the dot)."""
    before = keys(values)
    after = keys({**values, **{name.replace("__", "."): value for name, value in assignments.items()}})
    return {stage for stage in before.keys() | after.keys() if before.get(stage) != after.get(stage)}


FROM_SELECT = {"select", "train", "generate", "evaluate"}
FROM_TRAIN = {"train", "generate", "evaluate"}


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        ({"quality__metric": "difference"}, FROM_SELECT | {"encode"}),
        ({"quality__metric": "difference", "encode__scope": "dataset"}, FROM_SELECT | {"encode"}),
        ({"reward__model": "aesthetic_emoji"}, FROM_SELECT | {"score", "encode"}),
        ({"reward__members": ["clip_emoji", "aesthetic_emoji"], "reward__combine": "percentile_rank"}, set()),
        ({"loss__name": "sft"}, FROM_TRAIN),
        ({"lora__rank": 4}, FROM_TRAIN),
        ({"data__labels": "simulated"}, FROM_TRAIN),
        ({"seed": 1}, FROM_TRAIN),
        ({"seed": 1, "selection__strategy": "random"}, FROM_SELECT | {"encode", "score"}),
        ({"generation__steps": 9}, {"generate", "evaluate"}),
        ({"generation__sampler": "dpmpp_2m"}, {"generate", "evaluate"}),
        ({"generation__vae_precision": "bf16"}, {"generate", "evaluate"}),
        ({"generation__vae_precision": "fp32"}, set()),
        ({"evaluation__scorers": ["clip_emoji"]}, {"evaluate"}),
        ({"evaluation__embedder": None}, set()),
        ({"selection__threshold": 3.0}, set()),
        ({"selection__replacement": True, "selection__prompt_clusters": 3, "selection__curriculum_full": 0.1}, set()),
        ({"selection__count": 9}, FROM_SELECT | {"encode"}),
        ({"training__epochs": 3.0}, set()),
        ({"training__budget": "epochs"}, FROM_TRAIN),
        ({"adapter": "none"}, {"data", "score", "select", "encode", "train", "generate", "evaluate"}),
    ],
)
def test_what_a_field_changes(values: Flat, assignments: dict[str, Any], expected: set[str]) -> None:
    assert changed(values, **assignments) == expected


def test_a_count_takes_the_place_of_the_fraction(values: Flat) -> None:
    counted = {**values, "selection.count": 9}
    assert changed(counted, selection__fraction=50.0) == set()
    assert changed(counted, selection__count=10) == FROM_SELECT | {"encode"}


def test_only_the_length_of_the_chosen_budget_matters(values: Flat) -> None:
    by_epochs = {**values, "training.budget": "epochs"}
    assert changed(by_epochs, training__steps=9) == set()
    assert changed(by_epochs, training__epochs=3.0) == FROM_TRAIN


def test_how_images_are_decoded_is_one_meaning_wherever_it_is_set(values: Flat) -> None:
    """The base model's images are the same whether the model's VAE computes in bf16 or only in generation."""
    base = {**values, "adapter": "none"}
    assert keys({**base, "model.vae_precision": "bf16"}) == keys({**base, "generation.vae_precision": "bf16"})
    assert keys({**base, "model.vae_precision": "bf16", "generation.vae_precision": "fp32"}) == keys(base)
    both = {**values, "model.vae_precision": "bf16"}
    assert changed(both, generation__vae_precision="fp32") == {"generate", "evaluate"}, "pairs stay encoded in bf16"


def test_a_models_own_sampler_has_one_key_under_both_names(values: Flat) -> None:
    index = Path(values["model.path"]) / "model_index.json"
    for pipeline, own in (("StableDiffusionPipeline", "ddim"), ("StableDiffusion3Pipeline", "euler")):
        index.write_text(json.dumps({"_class_name": pipeline}))
        for remembered in (local_checks.sampler_named, local_checks._family, digests.digest):
            remembered.cache_clear()
        base = {**values, "adapter": "none"}
        assert changed(base, generation__sampler=own) == set()
        assert changed(base, generation__sampler="dpmpp_2m") == {"generate", "evaluate"}
    with pytest.raises(UserError, match=r"^generation\.sampler 'ddim' does not fit model\.path"):
        keys({**base, "generation.sampler": "ddim"})


def test_keys_of_a_model_on_the_hub_do_not_depend_on_whether_it_was_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the two names are two keys there; a sampler that does not fit is refused once the model is known."""
    name = "owner/name@0123"
    for family in (None, stable_diffusion.FAMILY):
        local_checks.sampler_named.cache_clear()
        monkeypatch.setattr(local_checks, "_family", lambda _path, family=family: family)
        assert local_checks.sampler_named(name, "ddim") == "ddim"
    monkeypatch.setattr(local_checks, "_family", lambda _path: sd3.FAMILY)
    local_checks.sampler_named.cache_clear()
    with pytest.raises(UserError, match="'ddim' does not fit"):
        local_checks.sampler_named(name, "ddim")


def test_encoding_the_data_set_is_shared_by_all_selections(values: Flat) -> None:
    assert changed({**values, "encode.scope": "dataset"}, quality__metric="difference") == FROM_SELECT


def test_execution_fields_change_no_key(values: Flat) -> None:
    for name, info in schema_fields().items():
        if info.kind is Kind.EXECUTION and name != "reward.weights":
            other = {int: 7, float: 7.5}.get(info.type, "other")
            assert keys(values) == keys({**values, name: other}), name


@pytest.mark.slow
def test_every_meaning_field_changes_some_key(values: Flat, tmp_path: Path) -> None:
    """No option does nothing: each field is read by a stage under some member."""
    training_prompts = tmp_path / "training_prompts.csv"
    training_prompts.write_text("prompt_id,caption,split\nt,another prompt,training\n")
    held_out = tmp_path / "held_out.csv"
    rows = "".join(f"{split},{split} prompt,{split}\n" for split in ("evaluation", "seen", "validation"))
    held_out.write_text(f"prompt_id,caption,split\n{rows}more,a second prompt to watch,validation\n")
    table = tmp_path / "table.csv"
    table.write_text("caption,winner,loser,another,good\nan apple,a.png,b.png,me,true\n")
    ensemble = {"reward.model": "ensemble", "reward.members": ["clip_emoji", "aesthetic_emoji"]}
    automatic = {"loss.beta_schedule": "automatic"}
    read_if: dict[str, dict[str, Any]] = {  # field -> what else must be set for it to be read
        "reward.members": ensemble,
        "reward.combine": ensemble,
        "evaluation.embedder": {"generation.images_per_prompt": 2},
        "loss.beta_decay": automatic,
        "loss.beta_range": automatic,
        "method.ddpo_clip": {"method.updates": 2},
        "method.advantage_clip": {"method.trajectories": 100},
        **{
            column: {"data.reader": "table", "data.path": str(table)}
            for column in ("data.only", "data.judge_agrees", *section("data.columns"))
        },
    }
    unmoved: dict[str, Any] = {}  # the keys of what several fields start from
    for name, info in schema_fields().items():
        if info.kind is not Kind.MEANING:
            continue
        moved = False
        members = [("selection.strategy", strategy) for strategy in STRATEGIES.names()]
        members += [("loss.name", loss) for loss in LOSSES.names()]
        members += [("method.name", method) for method in METHODS.names()]
        for field, member in [*members, ("training.budget", "epochs")]:
            base = {**values, field: member}
            if field == "method.name":
                base |= {"method.prompts": str(training_prompts), "evaluation.prompts": str(held_out)}
            base |= read_if.get(name, {})
            try:
                start = json.dumps(base)
                unmoved[start] = unmoved.get(start) or keys(base)
                moved |= unmoved[start] != keys({**base, name: _other(info.name, base[name])})
            except Exception as error:  # a member that does not exist also shows that it is read
                moved |= any(words in str(error) for words in ("unknown", "no prompt of split"))
            if moved:
                break
        assert moved, name


def _other(name: str, value: Any) -> Any:
    if name.startswith("data.columns."):
        return "another"
    if name in ("data.only", "data.judge_agrees"):
        return "good"
    if name == "method.watchers":
        return ["judge_emoji"]
    if name == "evaluation.scorers":
        return ["judge_emoji"]
    if name == "evaluation.embedder":
        return "judge_emoji"
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, "more"]
    return 3 if value is None else "another"


def test_an_embedder_is_evaluated_anew_and_its_absence_is_in_no_key(values: Flat) -> None:
    """Without one the meaning has no word of it, as before there was such a field; with one, its formulas are in it."""
    twice = {**values, "generation.images_per_prompt": 2}
    meaning = spec.stage_meaning("evaluate", twice)
    assert set(meaning) == {"evaluation.scorers", "revisions"}
    assert set(meaning["revisions"]) == {"clip_emoji", "judge_emoji"}
    assert changed(twice, evaluation__embedder="judge_emoji") == {"evaluate"}
    embedding = spec.stage_meaning("evaluate", {**twice, "evaluation.embedder": "judge_emoji"})
    weights, formulas = embedding["measures"].split("-")
    assert weights == meaning["revisions"]["judge_emoji"]
    assert formulas == source_digest("qsd.evaluation.embedding_measures")
    assert changed({**twice, "evaluation.embedder": "judge_emoji"}, evaluation__embedder="clip_emoji") == {"evaluate"}


def test_one_image_of_a_prompt_has_nothing_to_be_compared_with(values: Flat) -> None:
    with pytest.raises(
        UserError, match=r"evaluation\.embedder is 'judge_emoji'.*generation\.images_per_prompt is 1; set"
    ):
        keys({**values, "evaluation.embedder": "judge_emoji"})
    with pytest.raises(UserError, match=r"no weights of reward model 'clip_emoji_b'"):
        keys({**values, "evaluation.embedder": "clip_emoji_b", "generation.images_per_prompt": 2})


def test_a_rehearsal_keeps_two_images_of_a_prompt_for_the_embedder(values: Flat) -> None:
    many = {**values, "generation.images_per_prompt": 9, "evaluation.prompts_per_split": 100}
    assert reduced(many, spec)["generation.images_per_prompt"] == 1
    rehearsed = reduced({**many, "evaluation.embedder": "judge_emoji"}, spec)
    assert rehearsed["generation.images_per_prompt"] == 2
    keys(rehearsed)


def test_paths_do_not_matter_but_their_content_does(values: Flat, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    copy.write_text("pairs")
    assert keys(values) == keys({**values, "data.path": str(copy)})
    copy.write_text("other pairs")
    digests.digest.cache_clear()
    assert "data" in changed(values, data__path=str(copy))


def test_random_selection_needs_no_scores(values: Flat) -> None:
    assert "score" not in spec.stages_of({**values, "selection.strategy": "random"})
    assert "score" not in spec.stages_of({**values, "quality.metric": "random"})
    assert spec.stages_of({**values, "adapter": "none"}) == ["generate", "evaluate"]


def test_stages_follow_their_inputs(values: Flat) -> None:
    order = spec.stages_of(values)
    for stage in order:
        assert all(order.index(name) < order.index(stage) for name in spec.stage_inputs(stage, values))


@given(st.permutations(sorted(schema_fields())))
def test_the_order_of_fields_does_not_change_keys(order: list[str]) -> None:
    values = {
        **defaults(),
        "adapter": "none",
        "evaluation.scorers": [],
        "model.path": "qsd",
        "evaluation.prompts": "experiments/emoji/assets/prompts.csv",
    }
    values["reward.weights"] = ""
    shuffled = {name: values[name] for name in order if name in values}
    assert spec.stage_meaning("generate", shuffled) == spec.stage_meaning("generate", values)


def test_only_images_drawn_in_bf16_have_another_version(values: Flat) -> None:
    """Captions were once encoded in bf16 there; images drawn in fp32 keep their keys."""
    extra = spec.STAGES["generate"].extra
    assert extra({**values, "generation.precision": "fp32"}) == {}
    assert extra({**values, "generation.precision": "bf16"}) == {"generation.bf16.version": 2}


def test_every_reason_why_a_scorer_is_no_independent_judge(values: Flat) -> None:
    """It selected, it labelled, or it shares a backbone with one that did; the base model was trained on nothing."""
    scorers = ["judge_emoji", "clip_emoji_b", "clip_emoji", "aesthetic_emoji"]
    cell = {**values, "evaluation.scorers": scorers, "data.labelled_by": ["judge_emoji"]}
    assert conflicts(cell) == {
        "judge_emoji": ["labelled the training pairs"],
        "clip_emoji": ["selected the training pairs"],
        "aesthetic_emoji": ["shares a backbone with clip_emoji, which selected the training pairs"],
    }
    random = {**cell, "selection.strategy": "random"}
    assert conflicts(random) == {"judge_emoji": ["labelled the training pairs"]}
    assert conflicts({**cell, "adapter": "none"}) == {}
    relabelled = conflicts({**random, "data.relabel": "scores"})
    assert relabelled["clip_emoji"] == ["labelled the training pairs"]
    assert relabelled["judge_emoji"] == ["labelled the training pairs whose scores tie"]
    own = {scorer: is_own_reward(reasons) for scorer, reasons in conflicts(cell).items()}
    assert own == {"judge_emoji": True, "clip_emoji": True, "aesthetic_emoji": False}
    assert not is_own_reward(relabelled["judge_emoji"]), "a labeller of ties alone"
    assert not is_own_reward([])
    assert default_primary(scorers, [cell, random]) == "clip_emoji_b"
    assert default_primary(["clip_emoji", "judge_emoji"], [cell]) == "clip_emoji"  # none is independent: the first
    assert default_primary(["clip_emoji", "judge_emoji"], [random]) == "clip_emoji"


def test_at_rank_16_the_scaling_makes_no_other_training(values: Flat) -> None:
    assert changed(values, lora__rank=16) == changed(values, lora__rank=16, lora__scaling="equal_step")
    at_16 = {**values, "lora.rank": 16}
    assert changed(at_16, lora__scaling="equal_step") == set()
    assert "train" in changed(values, lora__scaling="equal_step")


def test_rules_for_the_scale_are_in_keys_where_they_have_an_effect(values: Flat) -> None:
    assert "train" in changed(values, lora__rslora=True)
    assert changed({**values, "lora.rank": 1}, lora__rslora=True) == set()


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (
            {"lora.rslora": True, "lora.scaling": "equal_step"},
            r"lora\.rslora is true and lora\.scaling is 'equal_step'",
        ),
        ({"lora.dora": True, "training.precision": "bf16_norms"}, r"lora\.dora divides .*bf16_norms would round them"),
    ],
)
def test_settings_of_an_adapter_that_exclude_one_another_are_refused_by_name(
    values: Flat, assignments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        keys({**values, **assignments})
    for name, value in assignments.items():
        keys({**values, name: value})


def test_planning_knows_what_a_precision_computes_in(values: Flat) -> None:
    """And a micro-batch that is left to the free memory: the whole step."""
    sizes: Any = Mock(denoiser_flop=lambda _values: 1.0)
    cost = spec.STAGES["train"].cost
    asked = {
        precision: cost.compute({**values, "training.precision": precision, "training.micro_batch": 0}, 90.0, 1, sizes)
        for precision in ("fp32", "bf16", "bf16_norms")
    }
    assert {precision: compute.precision for precision, compute in asked.items()} == {
        "fp32": "fp32",
        "bf16": "bf16",
        "bf16_norms": "bf16",
    }
    assert asked["bf16_norms"] == asked["bf16"]
