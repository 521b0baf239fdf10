"""All stages, each found in its own folder, and the key of a stage.

A key covers the stage's name and version, the fields that differ from their defaults among those that this stage *and
the members chosen in it* read, digests of the content behind paths, and the keys of its inputs. So a field that a loss
ignores changes no key, nor does a value that has the effect of another one, nor a new field with a default, nor
anything that only changes how a stage runs.

Jobs and launches on disk name this module as their table of stages.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from qsd import run_store
from qsd.config.check import schema_fields
from qsd.config.digest import location_digest
from qsd.config.fields import Kind
from qsd.data.prompt_sets import missing_hint
from qsd.errors import UserError
from qsd.registry import Registry, suggest
from qsd.stages.stage_spec import StageSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qsd.stages.stage_spec import Values

REGISTRY: Registry[StageSpec] = Registry("stage", "qsd.stages", "STAGE", file="spec", member_type=StageSpec)


def in_order(specs: Mapping[str, StageSpec]) -> dict[str, StageSpec]:
    """The stages in an order in which every stage follows its inputs; those that could change places, by name.

    Raises:
        UserError: an input is no stage, or stages are inputs of one another.
    """
    for name, spec in specs.items():
        for upstream in spec.inputs:
            if upstream not in specs:
                raise UserError(
                    f"stage '{name}' has an input '{upstream}', which is no stage{suggest(upstream, specs)}"
                )
    sorter = TopologicalSorter({name: spec.inputs for name, spec in specs.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        raise UserError(f"stages are inputs of one another: {' <- '.join(error.args[1])}") from None
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        order += ready
        sorter.done(*ready)
    return {name: specs[name] for name in order}


STAGES: dict[str, StageSpec] = in_order({name: REGISTRY.get(name) for name in REGISTRY.names()})
"""All stages in an order in which every stage follows its inputs."""


def stage_inputs(stage: str, values: Values) -> tuple[str, ...]:
    """Names of the upstream stages of ``stage``."""
    return STAGES[stage].inputs_for(values)


def stages_of(values: Values) -> list[str]:
    """The stages that a cell needs, inputs before their users; the base model needs only generate and evaluate."""
    needed = {name for name, spec in STAGES.items() if spec.wanted is not None and spec.wanted(values)}
    for stage in reversed(STAGES):
        if stage in needed:
            needed.update(stage_inputs(stage, values))
    return [stage for stage in STAGES if stage in needed]


def stage_meaning(stage: str, values: Values) -> dict[str, Any]:
    """The part of a configuration that decides a stage's result, by dotted name.

    Raises:
        UserError: a field that the stage needs is not given, there is nothing at a path, or a reward model has no
            weights.
    """
    spec = STAGES[stage]
    fields = schema_fields()
    meaning: dict[str, Any] = {}
    for name, value in spec.settings(values).items():
        info = fields[name]
        if info.needed and not value:
            raise UserError(f"{name} is missing ({info.why}); the stage {stage} needs it")
        if info.kind is Kind.LOCATION:
            meaning[name] = _content(name, value)
        elif info.kind is Kind.MEANING and value != info.default:
            meaning[name] = value
    return {**meaning, **spec.extra(values)}


def _content(name: str, path: str) -> str:
    try:
        return location_digest(path)
    except UserError as error:
        raise UserError(f"{name}: {error}{missing_hint(path) or '; put it there'}, or set {name}") from None


def stage_key(stage: str, values: Values, input_keys: Mapping[str, str]) -> str:
    """The key of a stage: 32 hex digits."""
    return key_of(stage, STAGES[stage].version, stage_meaning(stage, values), input_keys)


def key_of(stage: str, version: int, meaning: Mapping[str, Any], input_keys: Mapping[str, str]) -> str:
    """The key made of a record's own content; a record whose key differs is not valid."""
    return run_store.key_of(stage, version, meaning, input_keys)
