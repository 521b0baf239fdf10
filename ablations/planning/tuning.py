"""Tuning with an equal budget: which settings a sweep's cells are trained with for the report.

A sweep with ``tune`` runs in two parts:

- First the *trials* (``ablations.planning.trials``): every cell with each of its settings and each tuning seed, scored
  by the judge on the tuning prompts. Until all of them are finished the plan holds these, and the base model.
- When they are, each cell's setting with the highest mean is chosen, over tuning seeds and prompts; of equal ones the
  first. A setting of which a training diverged is never chosen. The plan then also holds the cells of the report, with
  their chosen values and the sweep's own seeds.

**The choice is a pure function of finished artefacts** (:func:`tuned`), repeated whenever a plan is made. So a launcher
that was killed continues with the same values, and it does not matter which machine decides. What was chosen is written
down in ``cells.json``, for tables and for readers. A trial that failed holds the report, for all cells: a choice
without it would not have had the same budget. If every setting of a cell diverged, nothing can be chosen, and the
report waits for another ``tune``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ablations.planning.trials import Trials, TuningProgress, chosen_values
from ablations.store.divergence import diverged_stages
from analysis.data.tuning import (
    DIVERGED,
    NO_SCORES,
    SCORED,
    TriedSetting,
    TunedCell,
    choose,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ablations.grid.expand import Cell
    from ablations.planning.plan import Plan
    from ablations.store.artefacts import Store

_EVALUATE = "evaluate"


def tuned(plan: Plan, store: Store) -> Plan:
    """The plan by what is finished in ``store``: with the report's cells if all trials are; itself without ``tune``.

    Raises:
        UserError: scores of finished trials are damaged or cannot be compared.
    """
    if plan.tuning is None:
        return plan
    trials, before = plan.tuning.trials, plan.tuning.record
    states = _states(store, trials.all)
    cells, unit = {}, ""
    for name, settings in trials.cells.items():
        cells[name], of_cell = _tuned_cell(store, trials, name, settings, states)
        unit = unit or of_cell
    record = replace(before, cells=cells, unit=unit)
    grid = trials.report(chosen_values(record)) if record.is_decided else trials.undecided
    return replace(plan, grid=grid, tuning=TuningProgress(trials, record))


def _states(store: Store, trials: Sequence[Cell]) -> dict[str, str]:
    """Key of a trial's evaluation -> ``SCORED`` or ``DIVERGED``, for those that are finished."""
    states: dict[str, str] = {}
    left = {}
    for trial in trials:
        if store.is_done(_EVALUATE, trial.stages[_EVALUATE].key):
            states[trial.stages[_EVALUATE].key] = SCORED
        else:
            left.update({node.key: node for node in trial.stages.values() if not store.is_done(node.stage, node.key)})
    diverged = diverged_stages(store, left)
    for trial in trials:
        if any(node.key in diverged for node in trial.stages.values()):
            states.setdefault(trial.stages[_EVALUATE].key, DIVERGED)
    return states


def _tuned_cell(
    store: Store, trials: Trials, name: str, settings: Sequence[Sequence[Cell]], states: Mapping[str, str]
) -> tuple[TunedCell, str]:
    """A cell's settings, with scores and a choice once all of its trials are finished, and the unit of the scores."""
    keys = [{int(trial.seed or 0): trial.stages[_EVALUATE].key for trial in seeds} for seeds in settings]
    tried = [
        TriedSetting(values, finished=sum(key in states for key in of_setting.values()))
        for values, of_setting in zip(trials.settings[name], keys, strict=True)
    ]
    if any(each.finished < len(of_setting) for each, of_setting in zip(tried, keys, strict=True)):
        return TunedCell(tuple(tried)), ""
    evaluations = {
        str(number): of_setting
        for number, of_setting in enumerate(keys)
        if all(states[key] == SCORED for key in of_setting.values())
    }
    from analysis.statistics.tuning_scores import setting_scores

    scores = setting_scores(store.root, trials.tune.judge, trials.tune.split, evaluations) if evaluations else {}
    decided = []
    for number, each in enumerate(tried):
        score = scores.get(str(number))
        if score is not None:
            decided.append(replace(each, state=SCORED, score=score.mean, by_seed=score.by_seed))
        else:
            decided.append(replace(each, state=NO_SCORES if str(number) in evaluations else DIVERGED))
    unit = next((score.unit for score in scores.values()), "")
    return TunedCell(tuple(decided), choose(decided)), unit
