"""Methods: how stage train trains an adapter. One file per method; nothing else is edited.

A method's file defines ``METHOD``: which class trains (``qsd.training.method.AdapterMethod``), what it is trained on,
which fields it reads, and the dataclass of its settings. The settings of all methods are fields of the section
``method`` of every experiment. These files are read by planning, so they import no heavy library.

Settings that several on-policy methods share are declared here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from qsd.config.fields import execution, location, meaning
from qsd.registry import Registry
from qsd.source import source_digest
from qsd.training.loss_cost import BACKWARD

if TYPE_CHECKING:
    from qsd.config.schema import ExperimentConfig

Values = Mapping[str, Any]
"""A flat configuration (``qsd.config.load.Flat``)."""


ON_POLICY = "on-policy"
"""The kind of method that is trained on its own samples of prompts."""


@dataclass
class Sampling:
    """For every on-policy method: which images it makes while it trains. Null means the method's own default."""

    prompts: str = location(
        "", "CSV with prompt_id, caption, split: the training prompts of on-policy methods", needed=ON_POLICY
    )
    splits: list[str] = meaning(["training"], "which prompts of that file")
    prompts_per_step: int = meaning(16, "prompts that one optimiser step averages over", least=1)
    sampler_steps: int = meaning(20, "steps of the sampler during training", least=2, most=1000)
    guidance_scale: float = meaning(5.0, "classifier-free guidance during training; 1 switches it off", least=1)
    eta: float = meaning(
        1.0, "of DDIM: share of DDPM's noise in every step; of a flow model: Flow-GRPO's a", above=0, most=1
    )
    trained_steps: int | None = meaning(None, "sampler steps on which the network is trained; 0: all", least=0)
    placement: str = meaning(
        "uniform",
        "where these are: spread evenly, or the first (most noise) or last of those that may be trained",
        choices=("uniform", "first", "last"),
    )
    skipped_steps: int | None = meaning(None, "so many steps at the beginning of sampling are never trained", least=0)
    updates: int = meaning(1, "optimiser steps on each batch of samples", least=1)
    watched_prompts: int = meaning(16, "prompts whose images are scored and drawn during training; 0: none", least=0)
    watched_split: str = meaning("validation", "of evaluation.prompts: the watched prompts")
    watchers: list[str] | None = meaning(
        None, "score the watched images, beside the reward", registry="qsd.rewards.scorers"
    )
    sampling_batch: int = execution(64, "images per network pass while sampling", least=1)


@dataclass
class Preferences:
    """For methods that prefer one outcome of a sampler step to another, by a loss of the section ``loss``."""

    beta: float | None = meaning(
        None,
        "of the papers: -log sigmoid(beta * difference of log-ratios), means over elements; not loss.beta",
        above=0,
    )
    ratio_clip: float | None = meaning(
        None, "ratios to the reference are clipped to 1 - this … 1 + this; 0: not clipped", least=0, below=1
    )


@dataclass
class Candidates:
    """For methods that choose between several outcomes of one sampler step. Null means the method's own default."""

    candidates: int | None = meaning(None, "outcomes of each ranked step; the best is preferred to the worst", least=2)
    continue_from: str | None = meaning(None, "candidate of a ranked step that goes on", choices=("winner", "random"))
    ranked_steps: str | None = meaning(
        None, "whose candidates are ranked; at other steps one outcome is drawn", choices=("trained", "all")
    )
    threshold: float | None = meaning(
        None,
        "pairs are used if the softmax of their two rewards differs by more; 0: if rewards differ",
        least=0,
        below=1,
    )
    reward_scale: float = meaning(1.0, "multiplies rewards inside that softmax, such as 100 for a cosine", above=0)


@dataclass(frozen=True)
class MethodPasses:
    """What one optimiser step of an on-policy method costs.

    Attributes:
        forward: passes of an image without gradients.
        trained: passes with gradients.
        calls: of the network.
        scored: images that the reward model scores.
        together: images that are sampled at a time: every outcome of every prompt of a step.
    """

    forward: float
    trained: float
    calls: float
    scored: float
    together: int

    @property
    def forward_passes(self) -> float:
        """All of it, in forward passes of an image."""
        return self.forward + (1 + BACKWARD) * self.trained


def _nothing(_values: Values) -> set[str]:
    return set()


def _as_given(_values: Values) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class MethodSpec:
    """A method.

    Attributes:
        entry: ``module:class``, an ``AdapterMethod``.
        settings: dataclass of its settings.
        inputs: stages whose artefacts it reads; none for an on-policy method.
        defaults: of the settings that are null where an experiment does not give them.
        passes: values -> what a step of an on-policy method costs; None for off-policy methods, which the loss decides.
        idle: values -> names of the settings that have no effect beside the others: they are in no key.
        same: values -> settings that have the effect of another value, with that value, which is in the key instead.
        uses_loss: whether it reads the section ``loss``.
        version: raised whenever the same settings give another adapter.
    """

    entry: str
    settings: type
    inputs: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    passes: Callable[[Values], MethodPasses] | None = None
    idle: Callable[[Values], set[str]] = _nothing
    same: Callable[[Values], dict[str, Any]] = _as_given
    uses_loss: bool = True
    version: int = 1

    @property
    def on_policy(self) -> bool:
        """Whether it trains on its own samples of prompts, and not on pairs."""
        return not self.inputs

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the settings."""
        return tuple(item.name for item in dataclasses.fields(self.settings))

    def code(self) -> str:
        """12 hex digits of the code that on-policy methods share; planning does not load it."""
        return _code(self.entry.partition(":")[0])


@cache
def _code(module: str) -> str:
    return source_digest(module, within="qsd.training.onpolicy")


REGISTRY: Registry[MethodSpec] = Registry("method", "qsd.training.methods", "METHOD")

PAIRS = "pairs"
"""The method of all off-policy losses."""


def method_of(values: Values) -> MethodSpec:
    """The method of a flat configuration."""
    return REGISTRY.get(values["method.name"])


def settings_of(config: ExperimentConfig) -> Any:
    """The settings of the configuration's method as an object, the method's own defaults in place of nulls."""
    spec = REGISTRY.get(config.method.name)
    given = {name: getattr(config.method, name) for name in spec.fields}
    return SimpleNamespace(
        **{name: spec.defaults.get(name) if value is None else value for name, value in given.items()}
    )


def setting(values: Values, name: str) -> Any:
    """A setting of the chosen method, its own default where the configuration has null."""
    value = values[f"method.{name}"]
    return method_of(values).defaults.get(name) if value is None else value
