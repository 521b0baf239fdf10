"""``tune`` of a sweep: every cell's settings are chosen on validation prompts before it is trained for the report.

    tune:
      budget: 6                                  # settings that every cell is tuned over
      fields:
        - {when: {loss.name: [dpo, slic]}, loss.beta: [1000, 4000, 16000], training.learning_rate: [5e-4, 1e-3]}
        - {when: {loss.name: sft}, training.learning_rate: [1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 4e-3]}
      judge: clip_emoji_b
      split: validation
      seeds: [100, 101, 102]

Here the file is read; which entry of ``fields`` belongs to which cell, and whether the judge and the prompts are fit
for the purpose, depends on the cells and is checked when these are known (``ablations.planning.trials``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations.grid import samplers
from ablations.grid.clauses import mapping
from ablations.grid.samplers import GRID, MOST_POINTS, RANDOM, SAMPLERS
from ablations.grid.seed_list import read_seed_list
from ablations.grid.values import REPLICATE, REPLICATE_SEEDS, axis_choice, axis_field, axis_values, show
from qsd.config.fields import MOST_SEED, Kind
from qsd.errors import UserError
from qsd.registry import suggest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ablations.grid.combinations import Choice
    from ablations.grid.samplers import Setting
    from qsd.config.yaml_nodes import Node

_REQUIRED = ("budget", "fields", "judge", "split", "seeds")
_KEYS = (*_REQUIRED, "prompts", "sampler", "sampler_seed")
_EXAMPLES = {
    "budget": "budget: 6",
    "fields": "fields: {loss.beta: [1000, 4000, 16000], training.learning_rate: [5e-4, 1e-3]}",
    "judge": "judge: clip_emoji_b",
    "split": "split: validation",
    "seeds": "seeds: [100, 101, 102]",
}
_WHEN = "when"
_MOST_BUDGET = 1000
_MOST_PROMPTS = 10**6
_NOT_TUNED = ("data", "model", "generation", "evaluation")
"""Sections that say what cells are trained on and measured with, which must be the same for all settings."""


@dataclass(frozen=True)
class Entry:
    """An entry of ``fields``: the settings of the cells for which it holds.

    Attributes:
        when: dotted name -> values; it holds for cells that have one of them for every name. Empty: for all.
        fields: dotted name -> the values that may be tried.
        settings: those that are tried, ``budget`` of them.
        place: ``path:line:column``, for messages.
    """

    when: Choice
    fields: Mapping[str, tuple[Any, ...]]
    settings: tuple[Setting, ...]
    place: str


@dataclass(frozen=True)
class Tune:
    """How the cells of a sweep are tuned.

    Attributes:
        budget: number of settings that every cell is tuned over.
        entries: what is tried in which cells.
        judge: the scorer whose mean chooses.
        split: of the experiment's prompts, on which it chooses.
        seeds: training seeds of the trials; none of them is a seed of the report.
        prompts: how many prompts of the split are used; None: as many as in the report.
        sampler: ``grid`` or ``random`` (``ablations.grid.samplers``).
        places: key -> ``path:line:column``, for messages.
    """

    budget: int
    entries: tuple[Entry, ...]
    judge: str
    split: str
    seeds: tuple[int, ...]
    prompts: int | None
    sampler: str
    places: Mapping[str, str]

    @property
    def fields(self) -> list[str]:
        """The dotted names of all tuned fields, in the order of the file."""
        return list(dict.fromkeys(name for entry in self.entries for name in entry.fields))


def read_tune(node: Node, set_elsewhere: Mapping[str, str], seeds: tuple[int, ...], replicated: bool) -> Tune:
    """Read ``tune``.

    Args:
        node: the mapping.
        set_elsewhere: dotted name -> where the sweep sets it, as a phrase ("is an axis of this sweep").
        seeds: of the report.
        replicated: whether the sweep has the axis ``replicate``.

    Raises:
        UserError: a key that is unknown or absent, a value that does not fit, a field that cannot be tuned or is set
            elsewhere, settings that are not ``budget`` many, or a seed of the report; with its place.
    """
    parts: dict[str, Node] = {}
    for name, key, value in mapping(node, "tune", f"; for example  tune: {{{_EXAMPLES['budget']}, ...}}").items():
        if name not in _KEYS:
            raise key.error(f"unknown key '{name}' in tune{suggest(name, _KEYS)}; known: {', '.join(_KEYS)}")
        parts[name] = value
    for name in _REQUIRED:
        if name not in parts:
            raise node.error(f"tune has no '{name}'; for example  {_EXAMPLES[name]}")
    budget = _number(parts["budget"], "budget is the number of settings of each cell,", 2, _MOST_BUDGET)
    sampler, sampler_seed = _sampler(parts)
    tuning_seeds = read_seed_list(parts["seeds"], "seeds", "100, 101, 102")
    for item, seed in zip(parts["seeds"].value, tuning_seeds, strict=True):
        if replicated and seed >= REPLICATE_SEEDS:
            raise item.error(f"with the axis '{REPLICATE}' a seed must be below {REPLICATE_SEEDS}, not {seed}")
        if seed in seeds:
            raise item.error(_shared(seed))
    return Tune(
        budget=budget,
        entries=_entries(parts["fields"], budget, sampler, sampler_seed, set_elsewhere),
        judge=_text(parts["judge"], "judge must be the name of a scorer"),
        split=_text(parts["split"], "split must be the name of a split"),
        seeds=tuning_seeds,
        prompts=_number(parts["prompts"], "prompts is how many of the split are used,", 2, _MOST_PROMPTS)
        if "prompts" in parts
        else None,
        sampler=sampler,
        places={name: _place(value) for name, value in parts.items()},
    )


def check_seeds(tune: Tune, seeds: tuple[int, ...]) -> None:
    """Refuse a seed of the report that is also one of the tuning, as ``--seeds`` may bring it.

    Raises:
        UserError: there is one.
    """
    for seed in tune.seeds:
        if seed in seeds:
            raise UserError(f"{tune.places['seeds']}: {_shared(seed)}")


def _shared(seed: int) -> str:
    return (
        f"seed {seed} is also a seed of the report, whose trainings must not be those that chose the settings; "
        "use other seeds here, such as 100 and above"
    )


def _place(node: Node) -> str:
    return str(node.error("")).rstrip(": ")


def _number(node: Node, what: str, least: int, most: int) -> int:
    value = node.value
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise node.error(f"{what} a whole number from {least} to {most}, not {show(node.plain())}")
    return value


def _text(node: Node, what: str) -> str:
    if not isinstance(node.value, str) or not node.value.strip():
        raise node.error(f"{what}, not {show(node.plain())}")
    return node.value


def _sampler(parts: Mapping[str, Node]) -> tuple[str, int]:
    sampler = GRID
    if "sampler" in parts:
        node = parts["sampler"]
        sampler = node.value
        if sampler not in SAMPLERS:
            close = suggest(sampler, SAMPLERS) if isinstance(sampler, str) else ""
            raise node.error(f"unknown sampler {show(node.plain())}{close}; known: {', '.join(SAMPLERS)}")
    if "sampler_seed" not in parts:
        return sampler, 0
    node = parts["sampler_seed"]
    if sampler != RANDOM:
        raise node.error("sampler_seed has an effect only with 'sampler: random'; leave it out")
    return sampler, _number(node, "sampler_seed is", 0, MOST_SEED)


def _entries(
    node: Node, budget: int, sampler: str, sampler_seed: int, set_elsewhere: Mapping[str, str]
) -> tuple[Entry, ...]:
    listed = node.value if isinstance(node.value, list) else [node]
    if not listed:
        raise node.error(f"fields is empty; for example  {_EXAMPLES['fields']}")
    return tuple(_entry(each, budget, sampler, sampler_seed, set_elsewhere) for each in listed)


def _entry(node: Node, budget: int, sampler: str, sampler_seed: int, set_elsewhere: Mapping[str, str]) -> Entry:
    when: dict[str, tuple[Any, ...]] = {}
    fields: dict[str, tuple[Any, ...]] = {}
    for name, key, value in mapping(node, "fields", f"; for example  {_EXAMPLES['fields']}").items():
        if name == _WHEN:
            for other, other_key, wanted in mapping(value, "the condition 'when'").items():
                when[other] = axis_choice(other, other_key, wanted)
            continue
        _check_field(name, key, set_elsewhere)
        fields[name] = axis_values(name, key, value)
        for number, item in enumerate(value.value):
            if fields[name][number] in fields[name][:number]:
                raise item.error(f"{show(fields[name][number])} is listed twice for '{name}'")
    if not fields:
        raise node.error(f"this entry names no field to tune; for example  {_EXAMPLES['fields']}")
    return Entry(when, fields, _settings(node, fields, budget, sampler, sampler_seed), _place(node))


def _check_field(name: str, key: Node, set_elsewhere: Mapping[str, str]) -> None:
    """A field of the experiment that a cell's own stages read, and that the sweep sets nowhere else."""
    if name == REPLICATE:
        raise key.error("'replicate' is not a setting: replicates are the same recipe")
    info = axis_field(name, key)
    if name.partition(".")[0] in _NOT_TUNED or info.kind is Kind.LOCATION:
        raise key.error(
            f"'{name}' is not tuned: what cells are trained on and measured with is the same for all settings"
        )
    if name in set_elsewhere:
        raise key.error(f"'{name}' {set_elsewhere[name]}; a field is either set there or tuned")


def _settings(
    node: Node, fields: Mapping[str, tuple[Any, ...]], budget: int, sampler: str, sampler_seed: int
) -> tuple[Setting, ...]:
    points = samplers.count(fields)
    sizes = " x ".join(str(len(values)) for values in fields.values())
    written = f"{sizes} = {points:,}" if len(fields) > 1 else f"{points:,}"
    if points > MOST_POINTS:
        raise node.error(f"the values of these fields have {points:,} combinations; at most {MOST_POINTS:,}")
    if sampler == GRID:
        if points != budget:
            draw = f", or write 'sampler: random' to draw {budget} of them" if points > budget else ""
            raise node.error(
                f"the values of these fields have {written} combinations, but the budget is {budget}, and every cell "
                f"is tuned over the same number of settings: list values with {budget} combinations{draw}"
            )
        return samplers.grid(fields)
    if points < budget:
        raise node.error(
            f"the values of these fields have {written} combinations, fewer than the budget of {budget}: list more"
        )
    return samplers.random(fields, budget, sampler_seed)
