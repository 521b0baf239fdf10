"""Train a reward model by a recipe: `reward/` with its weights, `metrics.jsonl`, `summary.json`, `problems.json`.

The folder survives an interruption and is continued by the same command; a finished one only says what it reached.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from qsd.config.assignments import assignments
from qsd.config.digest import canonical_json, digest
from qsd.config.fields import Kind, fields_of
from qsd.config.load import Flat, build_as, load_flat, override
from qsd.data.readers import REGISTRY as READERS
from qsd.device import prepare
from qsd.errors import UserError
from qsd.files import atomic_folder, write_json
from qsd.output_folder import claimed
from qsd.reward_training import choices as choosing
from qsd.reward_training.choices import ChoicePixels
from qsd.reward_training.evaluate import ReadRanks, result, scored
from qsd.reward_training.families import REGISTRY as FAMILIES
from qsd.reward_training.groups import read_groups
from qsd.reward_training.losses import REGISTRY as LOSSES
from qsd.reward_training.method import HELD_OUT, ChoicesMethod, recipe_of
from qsd.reward_training.schema import RewardTrainingConfig
from qsd.reward_training.trainable import TrainableReward
from qsd.rewards.opening import open_reward
from qsd.rewards.revision import revision
from qsd.rewards.scorer import Scorer
from qsd.runtime import STATE, Report
from qsd.training.engine import Engine
from qsd.training.processes import Processes, join

REWARD, SUMMARY = "reward", "summary.json"
_BATCH = 256


def read_recipe(path: Path, settings: Sequence[str] = ()) -> Flat:
    """A recipe by dotted name, with ``dotted.name=value`` over it.

    Raises:
        UserError: a mistake in it, with its place.
    """
    flat = load_flat(path, schema=RewardTrainingConfig)
    return override(flat, assignments(settings, RewardTrainingConfig), RewardTrainingConfig)


def train_reward(
    recipe: Path, settings: Sequence[str], output: Path, report: Report, overwrite: bool = False
) -> dict[str, Any]:
    """Train, or continue an interrupted training, and return the summary; ``overwrite`` first deletes a result.

    Raises:
        UserError: a mistake in the recipe, damaged data or weights, a folder that holds something else, or divergence.
    """
    flat = read_recipe(recipe, settings)
    meaning = canonical_json({"reward training": _meaning(flat)})
    if not overwrite and (finished := _finished(output, meaning)) is not None:
        return finished
    config = build_as(flat, RewardTrainingConfig)
    _check_test(config)
    processes, device = join(prepare(config.device, config.threads))
    with claimed(output, meaning, overwrite) if processes.main else contextlib.nullcontext():
        summary = _train(config, processes, torch.device(device), output, report)
        if processes.main:
            write_json(output / SUMMARY, {**summary, "meaning": meaning})
    processes.wait()
    return summary


def _train(
    config: RewardTrainingConfig, processes: Processes, device: torch.device, output: Path, report: Report
) -> dict[str, Any]:
    source = READERS.get(config.choices.reader).open(Path(config.choices.path))
    state = output / STATE
    if processes.main and not (state / choosing.FILE).exists():
        ties = LOSSES.get(config.loss.name).ties
        choosing.examined(source, config.choices, ties, config.threads, state, report)
    processes.wait()
    everything = choosing.read(state)
    held = choosing.held_out(everything, config.choices, config.seed)
    training, held_out = everything.chosen(~held), everything.chosen(held)
    model = FAMILIES.get(config.base.family).open(config.base)
    pixels = ChoicePixels(source, model.preprocess, config.kept_images, config.threads)
    method = ChoicesMethod(config, model, processes, device, training, pixels, held_out)
    summary: dict[str, Any] = {
        "choices": len(training),
        "ties": int(training.ties.sum()),
        "captions": len(set(training.captions)),
        "held_out_choices": len(held_out),
        "epochs": config.training.steps * config.training.batch / len(training),
        "trained_parameters": sum(parameter.numel() for parameter in method.parameters.values()),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "processes": processes.count,
    }
    if processes.main:
        print(_introduction(config, summary), flush=True)
    if len(held_out):
        summary[f"{HELD_OUT}_before"] = method.accuracy(held_out)
    Engine(method, recipe_of(config.training)).run(output, state, report)
    if len(held_out):
        summary[HELD_OUT] = method.accuracy(held_out)
    if processes.main:
        shutil.copyfile(state / choosing.PROBLEMS, output / choosing.PROBLEMS)
        _save(model, output / REWARD)
        summary["test"] = tested(config, model.scorer()) if config.test.path else None
    return summary


def tested(config: RewardTrainingConfig, scorer: Scorer) -> dict[str, float]:
    """Test accuracy of ``scorer`` by HPS v2's protocol, beside what the annotators, the ceiling and chance reach."""
    path = config.test.path or ""

    def accuracy_of(one: Scorer) -> tuple[float, ReadRanks]:
        bound = config.choices.max_rejected_fraction
        scores, labels = scored(one, read_groups(Path(path)), _BATCH, bound, path, "choices.max_rejected_fraction")
        return result(one, scores, labels, "hps_v2").accuracy, labels

    accuracy, labels = accuracy_of(scorer)
    test = {"groups": float(len(labels.ranks)), "accuracy": accuracy, "chance": labels.chance()}
    test["left_out"] = float(labels.problems.count())
    if (annotators := labels.annotators()) is not None:
        test |= {f"one_annotator_{name}": value for name, value in vars(annotators).items()}
    if config.test.ceiling is not None:
        test["ceiling"] = accuracy_of(open_reward(config.test.ceiling, config.test.weights or "", "cpu"))[0]
    return test


def _check_test(config: RewardTrainingConfig) -> None:
    """Raise now, not after hours of training, where the test's files are missing."""
    if config.test.path is not None and not Path(config.test.path).is_file():
        raise UserError(f"test.path: {config.test.path}: no such file; null tests nothing")
    if config.test.ceiling is not None:
        if config.test.weights is None:
            raise UserError("test.ceiling needs test.weights, the folder with that reward model")
        revision(config.test.ceiling, config.test.weights)


def _save(model: TrainableReward, folder: Path) -> None:
    """Put the model in place in one step: after a kill the folder is complete or not there."""
    with atomic_folder(folder) as temporary:
        model.save(temporary)
        shutil.rmtree(folder, ignore_errors=True)  # left by a run that was killed before it wrote its summary


def _meaning(flat: Mapping[str, Any]) -> dict[str, Any]:
    """What makes the result: settings that mean something, and the content behind paths."""
    meaning: dict[str, Any] = {}
    for name, info in fields_of(RewardTrainingConfig).items():
        if info.kind is Kind.MEANING:
            meaning[name] = flat[name]
        elif info.kind is Kind.LOCATION:
            meaning[name] = digest(Path(flat[name]))
    reader = READERS.get(flat["choices.reader"])
    if reader.digest is not None:
        meaning["images"] = reader.digest(Path(flat["choices.path"]))
    return meaning


def _finished(output: Path, meaning: str) -> dict[str, Any] | None:
    """The summary of a finished training of the same meaning; None when there is none of any."""
    path = output / SUMMARY
    if not path.is_file():
        return None
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise UserError(f"{path}: not valid JSON; train again with --overwrite") from None
    if summary.pop("meaning", None) != meaning:
        raise UserError(f"{output}: holds a reward model of another recipe; add --overwrite or choose another --out")
    shutil.rmtree(output / STATE, ignore_errors=True)
    return dict(summary)


def _introduction(config: RewardTrainingConfig, summary: Mapping[str, Any]) -> str:
    """What is trained on what, in a line."""
    return (
        f"{config.base.family} from {config.base.path}: {summary['trained_parameters']:,} of "
        f"{summary['parameters']:,} weights trained; loss {config.loss.name}, {summary['choices']:,} choices of "
        f"{summary['captions']:,} captions, {config.training.steps} steps of {config.training.batch} "
        f"({summary['epochs']:.1f} epochs), processes: {summary['processes']}"
    )
