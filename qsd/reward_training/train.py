"""Train a reward model by a recipe: `reward/` with its weights, `metrics.jsonl`, `summary.json`, `problems.json`.

The folder survives an interruption and is continued by the same command; a finished one only says what it reached.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qsd.config.digest import canonical_json, digest
from qsd.config.fields import Kind, fields_of
from qsd.config.load import build_as, load_flat, override
from qsd.data.readers import REGISTRY as READERS
from qsd.device import prepare
from qsd.errors import UserError
from qsd.files import atomic_folder, remove_leftovers, write_json
from qsd.reward_training import choices as choosing
from qsd.reward_training.choices import ChoicePixels
from qsd.reward_training.evaluate import result, scored
from qsd.reward_training.families import REGISTRY as FAMILIES
from qsd.reward_training.groups import read_groups
from qsd.reward_training.loop import RewardTrainer
from qsd.reward_training.losses import REGISTRY as LOSSES
from qsd.reward_training.schema import RewardTrainingConfig
from qsd.runtime import STATE
from qsd.stages.run_single import assignment, claim

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qsd.config.load import Flat
    from qsd.reward_training.evaluate import Labels
    from qsd.reward_training.trainable import TrainableReward
    from qsd.rewards.scorer import Scorer
    from qsd.runtime import Report

REWARD, SUMMARY = "reward", "summary.json"
_BATCH = 256


def read_recipe(path: Path, settings: Sequence[str] = ()) -> Flat:
    """A recipe by dotted name, with ``dotted.name=value`` over it.

    Raises:
        UserError: a mistake in it, with its place.
    """
    flat = load_flat(path, schema=RewardTrainingConfig)
    return override(flat, dict(assignment(setting) for setting in settings), RewardTrainingConfig)


def train_reward(recipe: Path, settings: Sequence[str], output: Path, report: Report) -> dict[str, Any]:
    """Train, or go on with it, and return the summary.

    Raises:
        UserError: a mistake in the recipe, damaged data or weights, a folder that holds something else, or divergence.
    """
    flat = read_recipe(recipe, settings)
    meaning = canonical_json({"reward training": _meaning(flat)})
    if (finished := _finished(output, meaning)) is not None:
        return finished
    config = build_as(flat, RewardTrainingConfig)
    _check_test(config)
    accelerator = _accelerator(config)
    if accelerator.is_main_process:
        claim(output, meaning)
    summary = _train(config, accelerator, output, report)
    if accelerator.is_main_process:
        write_json(output / SUMMARY, {**summary, "meaning": meaning})
        shutil.rmtree(output / STATE, ignore_errors=True)
        remove_leftovers(output)
    accelerator.wait_for_everyone()
    return summary


def _train(config: RewardTrainingConfig, accelerator: Any, output: Path, report: Report) -> dict[str, Any]:
    source = READERS.get(config.choices.reader).open(Path(config.choices.path))
    state = output / STATE
    if accelerator.is_main_process and not (state / choosing.FILE).exists():
        ties = LOSSES.get(config.loss.name).ties
        choosing.examined(source, config.choices, ties, config.threads, state, report)
    accelerator.wait_for_everyone()
    everything = choosing.read(state)
    held = choosing.held_out(everything, config.choices, config.seed)
    training, held_out = everything.chosen(~held), everything.chosen(held)
    model = FAMILIES.get(config.base.family).open(config.base)
    pixels = ChoicePixels(source, model.preprocess, config.kept_images, config.threads)
    trainer = RewardTrainer(config, model, accelerator, training, pixels)
    summary: dict[str, Any] = {
        "choices": len(training),
        "ties": int(training.ties.sum()),
        "captions": len(set(training.captions)),
        "held_out_choices": len(held_out),
        "epochs": config.training.steps * config.training.batch / len(training),
        "trained_parameters": sum(parameter.numel() for parameter in trainer.parameters.values()),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "processes": accelerator.num_processes,
    }
    if accelerator.is_main_process:
        print(_introduced(config, summary), flush=True)
    if len(held_out):
        summary["held_out_accuracy_before"] = trainer.accuracy(held_out)
    started = time.monotonic()
    steps = trainer.run(output, state, report, held_out if len(held_out) else None)
    if accelerator.is_main_process and steps:
        seconds = time.monotonic() - started
        print(f"{steps} steps in {seconds:.1f} s: {seconds / steps:.3f} s a step", flush=True)
    if len(held_out):
        summary["held_out_accuracy"] = trainer.accuracy(held_out)
    if accelerator.is_main_process:
        shutil.copyfile(state / choosing.PROBLEMS, output / choosing.PROBLEMS)
        _save(model, output / REWARD)
        summary["test"] = tested(config, model.scorer()) if config.test.path else None
    return summary


def tested(config: RewardTrainingConfig, scorer: Scorer) -> dict[str, float]:
    """Test accuracy of ``scorer`` by HPS v2's protocol, beside what the annotators, the ceiling and chance reach."""
    path = config.test.path or ""

    def of(one: Scorer) -> tuple[float, Labels]:
        bound = config.choices.max_rejected_fraction
        scores, labels = scored(one, read_groups(Path(path)), _BATCH, bound, path, "choices.max_rejected_fraction")
        return result(one, scores, labels, "hps_v2").accuracy, labels

    reached, labels = of(scorer)
    found = {"groups": float(len(labels.ranks)), "accuracy": reached, "chance": labels.chance()}
    found["left_out"] = float(labels.problems.count())
    if (people := labels.annotators()) is not None:
        found["one_annotator_against_mean"], found["one_annotator_against_others"] = people
    if config.test.ceiling is not None:
        from qsd.rewards.opening import open_reward

        found["ceiling"] = of(open_reward(config.test.ceiling, config.test.weights or "", "cpu"))[0]
    return found


def _check_test(config: RewardTrainingConfig) -> None:
    """Find now, not after hours of training, that the test's files are not there."""
    if config.test.path is not None and not Path(config.test.path).is_file():
        raise UserError(f"test.path: {config.test.path}: no such file; null tests nothing")
    if config.test.ceiling is not None:
        from qsd.rewards.revision import revision

        if config.test.weights is None:
            raise UserError("test.ceiling needs test.weights, the folder with that reward model")
        revision(config.test.ceiling, config.test.weights)


def _save(model: TrainableReward, folder: Path) -> None:
    """Put the model in place in one step: after a kill the folder is complete or not there."""
    with atomic_folder(folder) as temporary:
        model.save(temporary)
        shutil.rmtree(folder, ignore_errors=True)  # left by a run that was killed before it wrote its summary


def _accelerator(config: RewardTrainingConfig) -> Any:
    import torch
    from accelerate import Accelerator

    device = prepare(config.device, config.threads)
    mixed = {"fp32": "no", "bf16": "bf16"}[config.training.precision]
    if device == "cpu":
        return Accelerator(mixed_precision=mixed, cpu=True)
    if ":" in device:
        torch.cuda.set_device(device)
    return Accelerator(mixed_precision=mixed)


def _meaning(flat: Mapping[str, Any]) -> dict[str, Any]:
    """What makes the result: settings that mean something, and the content behind paths."""
    found: dict[str, Any] = {}
    for name, info in fields_of(RewardTrainingConfig).items():
        if info.kind is Kind.MEANING:
            found[name] = flat[name]
        elif info.kind is Kind.LOCATION:
            found[name] = digest(Path(flat[name]))
    reader = READERS.get(flat["choices.reader"])
    if reader.digest is not None:
        found["images"] = reader.digest(Path(flat["choices.path"]))
    return found


def _finished(output: Path, meaning: str) -> dict[str, Any] | None:
    """The summary of a finished training of the same meaning; None when there is none of any."""
    path = output / SUMMARY
    if not path.is_file():
        return None
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise UserError(f"{path}: not valid JSON; delete {output} and train again") from None
    if summary.pop("meaning", None) != meaning:
        raise UserError(f"{output}: holds a reward model of another recipe; delete it or choose another --out")
    shutil.rmtree(output / STATE, ignore_errors=True)
    return dict(summary)


def _introduced(config: RewardTrainingConfig, summary: Mapping[str, Any]) -> str:
    return (
        f"{config.base.family} from {config.base.path}: {summary['trained_parameters']:,} of "
        f"{summary['parameters']:,} weights trained; loss {config.loss.name}, {summary['choices']:,} choices of "
        f"{summary['captions']:,} captions, {config.training.steps} steps of {config.training.batch} "
        f"({summary['epochs']:.1f} epochs), processes: {summary['processes']}"
    )
