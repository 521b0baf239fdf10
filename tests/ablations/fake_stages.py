"""A stage table of cheap stages with the shape of the real ones, for the runner's tests.

``FAKE_LOG`` names a file that gets one line per event, ``FAKE_STEP_S`` is the time of a training step and
``FAKE_LINGER_S`` of every other stage. ``FAKE_GATE``, as ``select:FILE``, keeps stages of a kind, not training, from
ending until the file exists. A ``loss.beta`` of 666 makes training fail; 667 makes it end without a word; those of
``tests.ablations.faults`` each fail in a way of their own, but not with ``FAKE_MENDED``. On a GPU given by the runner,
stages log when they enter and leave it; none goes on before ``FAKE_TOGETHER`` of them have entered. Training may have
several processes (``tests.ablations.partners``).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablations.files import read_json, write_json
from qsd.config.check import schema_fields
from qsd.config.digest import hash_of
from qsd.errors import UserError
from qsd.runtime import PrecomputeContext, StageContext
from qsd.stages import spec
from qsd.stages.stage_spec import Precompute, StageSpec, always
from tests.ablations import partners
from tests.ablations.faults import FAULTS

HERE = "tests.ablations.fake_stages"
_METHOD = tuple(name for name in schema_fields() if name.startswith("method."))
_TRAIN = (
    "loss.name",
    "loss.beta",
    "loss.beta_schedule",
    "loss.beta_decay",
    "loss.adaptive_normalizer",
    "lora.rank",
    "lora.scaling",
    "lora.alpha",
    "lora.targets",
    "training.steps",
    "training.budget",
    "training.epochs",
    "training.held_out_fold",
    *_METHOD,
    "seed",
)
_IMAGES = ("evaluation.splits", "evaluation.prompts_per_split", "generation.images_per_prompt")


def _select_reads(values: Mapping[str, Any]) -> tuple[str, ...]:
    labels = ("data.only", "data.flip_fraction", "data.relabel", "selection.count", "selection.prompt_clusters")
    if values["selection.strategy"] == "random":
        return ("selection.strategy", "selection.fraction", "seed", *labels)
    amount = "selection.threshold" if values["selection.strategy"] == "threshold" else "selection.fraction"
    return ("selection.strategy", amount, "selection.replacement", "quality.metric", *labels)


def _select_inputs(values: Mapping[str, Any]) -> tuple[str, ...]:
    return () if values["selection.strategy"] == "random" and values["data.relabel"] == "none" else ("score",)


def _like(stage: str, **changes: Any) -> StageSpec:
    """The real stage of the same name with another entry, inputs and meaning."""
    plain: dict[str, Any] = {
        "inputs": (),
        "chosen_inputs": None,
        "extra": lambda _: {},
        "version": 1,
        "precompute": None,
    }
    return replace(spec.STAGES[stage], **{**plain, "processes": None, **changes})


STAGES: dict[str, StageSpec] = {
    "score": _like(
        "score",
        entry=f"{HERE}:score",
        reads=lambda _: ("reward.model",),
        precompute=Precompute(f"{HERE}:precompute_scores", lambda values: int(values["reward.shards"])),
    ),
    "select": _like(
        "select",
        entry=f"{HERE}:digest_inputs",
        reads=_select_reads,
        inputs=("score",),
        chosen_inputs=_select_inputs,
    ),
    "encode": _like("encode", entry=f"{HERE}:digest_inputs", reads=lambda _: ("model.resolution",)),
    "train": _like(
        "train",
        entry=f"{HERE}:train",
        reads=lambda _: _TRAIN,
        inputs=("select", "encode"),
        processes=lambda values, gpus: int(values["training.processes"] or gpus or 1),
    ),
    "generate": _like(
        "generate",
        entry=f"{HERE}:digest_inputs",
        reads=lambda _: ("adapter", "generation.sampler", "generation.steps", *_IMAGES),
        inputs=("train",),
        chosen_inputs=lambda values: ("train",) if values["adapter"] == "trained" else (),
    ),
    "evaluate": _like(
        "evaluate",
        entry=f"{HERE}:digest_inputs",
        reads=lambda _: ("evaluation.scorers", "evaluation.embedder"),
        inputs=("generate",),
        wanted=always,
    ),
}


def stage_inputs(stage: str, values: Mapping[str, Any]) -> tuple[str, ...]:
    return STAGES[stage].inputs_for(values)


def stages_of(values: Mapping[str, Any]) -> list[str]:
    needed = {"evaluate"}
    for stage in reversed(STAGES):
        if stage in needed:
            needed.update(stage_inputs(stage, values))
    return [stage for stage in STAGES if stage in needed]


def stage_meaning(stage: str, values: Mapping[str, Any]) -> dict[str, Any]:
    fields = schema_fields()
    return {name: values[name] for name in STAGES[stage].reads(values) if values[name] != fields[name].default}


def key_of(stage: str, version: int, meaning: Mapping[str, Any], input_keys: Mapping[str, str]) -> str:
    return hash_of({"stage": stage, "version": version, "meaning": dict(meaning), "inputs": dict(input_keys)})


def log(event: str, context: StageContext) -> None:
    """Note an event of a stage."""
    note(f"{event} {context.output.parent.name}/{context.output.name}")


def note(line: str) -> None:
    """Append one line in one write: safe among processes."""
    path = os.environ.get("FAKE_LOG")
    if path:
        line = f"{line}\n"
        stream = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(stream, line.encode())
        os.close(stream)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 300) -> None:
    """Poll until ``condition`` holds; the limit only keeps a broken runner from hanging for ever."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.02)


@contextmanager
def on_gpu(context: StageContext) -> Iterator[None]:
    """Log entering and leaving the GPU, if the runner gave one. With ``FAKE_TOGETHER``, the first ones meet there."""
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpu:
        log(f"enter-{gpu}", context)
        together = int(os.environ.get("FAKE_TOGETHER", "0"))
        if together:
            wait_until(lambda: Path(os.environ["FAKE_LOG"]).read_text().count("enter-") >= together, "the others")
    yield
    if gpu:
        log(f"leave-{gpu}", context)


def digest_inputs(context: StageContext) -> None:
    """An artefact made of its inputs' bytes."""
    with on_gpu(context):
        _digest_inputs(context)


def _digest_inputs(context: StageContext) -> None:
    log("run", context)
    if os.environ.get("FAKE_LINGER_S"):
        time.sleep(float(os.environ["FAKE_LINGER_S"]))
    gated, _, gate = os.environ.get("FAKE_GATE", "").partition(":")
    if gated == context.output.parent.name:
        wait_until(Path(gate).exists, gate)
    parts = [(folder / "result.txt").read_text() for folder in context.inputs.values()]
    (context.output / "result.txt").write_text(hashlib.sha256(repr(parts).encode()).hexdigest())
    (context.output / "inner").mkdir(exist_ok=True)
    (context.output / "inner" / "part.bin").write_bytes(b"x" * 1000)
    context.report(1, 1, "files")


def score(context: StageContext) -> None:
    """As :func:`digest_inputs`; notes how many processes have worked ahead."""
    assert context.shared is not None
    log(f"found-{len(list(context.shared.glob('part-*')))}", context)
    digest_inputs(context)


def precompute_scores(context: PrecomputeContext) -> None:
    """Leaves a file for the stages; with ``FAKE_AHEAD_FAILS`` fails instead."""
    names = ",".join(sorted(config.reward.model for config in context.configs))
    note(f"ahead-{context.number}/{context.count} {names}")
    if os.environ.get("FAKE_AHEAD_FAILS"):
        raise UserError("no room for two models")
    for step in range(int(os.environ.get("FAKE_AHEAD_STEPS", "1"))):
        time.sleep(float(os.environ.get("FAKE_STEP_S", "0")))
        context.report(step, 1, "images")
    context.shared.mkdir(parents=True, exist_ok=True)
    (context.shared / f"part-{context.number}").touch()


def train(context: StageContext) -> None:
    """Steps with a checkpoint after each; a resumed run goes on from there. Partners wait for the first process."""
    if partners.several():
        note(f"process {partners.rank()} {os.getpid()}")
        partners.meet(context)
        partners.act()
        if partners.rank():
            _watch(context)
            return
    with on_gpu(context):
        _train(context)


def _watch(context: StageContext) -> None:
    """Until the first process has made the last step."""
    while (read_json(context.state / "step.json") or {"step": 0})["step"] < context.config.training.steps:
        context.report(0, 1, "looks")
        time.sleep(0.02)


def _train(context: StageContext) -> None:
    log("run", context)
    print("this goes to the log")
    if context.config.loss.beta in FAULTS and "FAKE_MENDED" not in os.environ:
        FAULTS[context.config.loss.beta]()
    if context.config.loss.beta == 666:
        raise UserError("the loss is not finite at step 0; lower learning_rate")
    if context.config.loss.beta == 667:
        os._exit(3)
    checkpoint: Path = context.state / "step.json"
    state = read_json(checkpoint) or {"step": 0, "value": "start"}
    pause = float(os.environ.get("FAKE_STEP_S", "0"))
    while state["step"] < context.config.training.steps:
        time.sleep(pause)
        value = hashlib.sha256(f"{state['value']} {context.config.seed}".encode()).hexdigest()
        state = {"step": state["step"] + 1, "value": value}
        log(f"step-{state['step']}", context)
        write_json(checkpoint, state)
        context.report(state["step"], context.config.training.steps, "steps")
    (context.output / "result.txt").write_text(state["value"])
