"""How the settings of a sweep's cells were chosen: the part ``tuning`` of ``cells.json``.

The grid runner decides and writes it (``ablations.planning.tuning``); tables read it.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

OPEN, SCORED, DIVERGED, NO_SCORES = STATES = ("open", "scored", "diverged", "no scores")
_FEWEST_VALUES = 3
"""Tried values of a field that have an inside: with two, every choice is at an edge."""


@dataclass(frozen=True)
class TriedSetting:
    """A setting of one cell.

    Attributes:
        values: dotted name -> value.
        state: ``open`` while a trial is unfinished; ``scored``; or why it cannot be chosen: a training ``diverged``, or
            the judge gave too few numbers to a trial (``no scores``).
        score: the judge's, mean over images, prompts and tuning seeds; None unless it is scored.
        by_seed: the mean of each tuning seed, in their order; empty unless it is scored.
        finished: trials, one per tuning seed, that are evaluated or diverged.
    """

    values: Mapping[str, Any]
    state: str = OPEN
    score: float | None = None
    by_seed: tuple[float, ...] = ()
    finished: int = 0


@dataclass(frozen=True)
class TunedCell:
    """The settings of a cell in the order in which they are listed, and which was chosen (its number; None: none)."""

    settings: tuple[TriedSetting, ...]
    chosen: int | None = None

    @property
    def is_complete(self) -> bool:
        """Whether all trials of the cell are finished."""
        return all(setting.state != OPEN for setting in self.settings)

    @property
    def best(self) -> TriedSetting | None:
        """The chosen setting."""
        return None if self.chosen is None else self.settings[self.chosen]

    @property
    def edges(self) -> list[tuple[str, str]]:
        """(field, ``smallest`` or ``largest``) for every field whose chosen number is an extreme of those tried.

        Only fields of which at least three numbers were tried have an inside.
        """
        if self.best is None:
            return []
        edges = []
        for name, value in self.best.values.items():
            tried = {setting.values[name] for setting in self.settings if _is_number(setting.values[name])}
            if len(tried) >= _FEWEST_VALUES and value in (min(tried), max(tried)):
                edges.append((name, "smallest" if value == min(tried) else "largest"))
        return edges


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def choose(settings: Iterable[TriedSetting]) -> int | None:
    """The number of the setting with the highest score, of equal ones the first; None without any score."""
    scores = {number: setting.score for number, setting in enumerate(settings) if setting.score is not None}
    return max(scores, key=lambda number: scores[number], default=None)


@dataclass(frozen=True)
class Trial:
    """One training that helps to choose: ``name`` of the cell and setting, tuning seed, stage -> key."""

    name: str
    seed: int
    stages: Mapping[str, str]


@dataclass(frozen=True)
class Tuning:
    """The tuning of a sweep and how far it is.

    Attributes:
        budget: settings of each cell.
        sampler: ``grid`` or ``random``.
        judge: the scorer that chooses.
        unit: of its scores; empty before the first.
        split: the prompts' split.
        prompts: their number.
        prompt_digests: of their captions (:func:`prompt_digest`), sorted.
        seeds: training seeds of the trials.
        cells: trained cell -> its settings.
        trials: of all cells.
        grid: a digest of all of this and of what follows: equal for tables of the same sweep.
    """

    budget: int
    sampler: str
    judge: str
    unit: str
    split: str
    prompts: int
    prompt_digests: tuple[str, ...]
    seeds: tuple[int, ...]
    cells: Mapping[str, TunedCell]
    trials: tuple[Trial, ...]
    grid: str

    @property
    def fields(self) -> frozenset[str]:
        """The dotted names of all settings that were tuned in some cell."""
        return frozenset(name for cell in self.cells.values() for each in cell.settings for name in each.values)

    @property
    def finished(self) -> int:
        """How many trials are evaluated or diverged."""
        return sum(setting.finished for cell in self.cells.values() for setting in cell.settings)

    @property
    def is_complete(self) -> bool:
        """Whether all trials are finished."""
        return all(cell.is_complete for cell in self.cells.values())

    @property
    def without_choice(self) -> list[str]:
        """The cells whose trials are finished without any score, so that nothing can be chosen."""
        return [name for name, cell in self.cells.items() if cell.is_complete and cell.chosen is None]

    @property
    def is_decided(self) -> bool:
        """Whether every cell has its settings."""
        return all(cell.chosen is not None for cell in self.cells.values()) and self.is_complete


def prompt_digest(caption: str) -> str:
    """Equal for captions that differ in white space or capital letters only: sixteen hex digits."""
    return hashlib.sha256(" ".join(caption.split()).casefold().encode()).hexdigest()[:16]


def tuning_as_json(tuning: Tuning) -> dict[str, Any]:
    """Plain values."""
    return asdict(tuning)


def read_tuning(content: Mapping[str, Any] | None) -> Tuning | None:
    """What :func:`tuning_as_json` wrote; None for a sweep without tuning.

    Raises:
        KeyError, TypeError, ValueError: another content.
    """
    if content is None:
        return None
    lists = {name: tuple(content[name]) for name in ("prompt_digests", "seeds")}
    cells = {name: _tuned_cell(cell) for name, cell in content["cells"].items()}
    trials = tuple(Trial(**trial) for trial in content["trials"])
    return Tuning(**{**content, **lists, "cells": cells, "trials": trials})


def _tuned_cell(content: Mapping[str, Any]) -> TunedCell:
    settings = tuple(TriedSetting(**{**each, "by_seed": tuple(each["by_seed"])}) for each in content["settings"])
    unknown = [setting.state for setting in settings if setting.state not in STATES]
    if unknown:
        raise ValueError(f"unknown state {unknown[0]!r}")
    return TunedCell(settings, content["chosen"])
