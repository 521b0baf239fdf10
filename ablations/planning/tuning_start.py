"""A tuning before anything is known of its trials, and what identifies it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ablations.planning.trials import Trials, TuningProgress
from analysis.data.tuning import Trial, TriedSetting, TunedCell, Tuning, prompt_digest
from qsd.config.digest import hash_of

if TYPE_CHECKING:
    from ablations.grid.spec import Sweep


def not_begun(sweep: Sweep, trials: Trials) -> TuningProgress:
    """The progress of a tuning before anything is known to be finished."""
    tune = trials.tune
    cells = {
        name: TunedCell(tuple(TriedSetting(setting) for setting in settings))
        for name, settings in trials.settings.items()
    }
    record = Tuning(
        budget=tune.budget,
        sampler=tune.sampler,
        judge=tune.judge,
        unit="",
        split=tune.split,
        prompts=len(trials.captions),
        prompt_digests=tuple(sorted({prompt_digest(caption) for caption in trials.captions})),
        seeds=tune.seeds,
        cells=cells,
        trials=tuple(
            Trial(trial.name, int(trial.seed or 0), {stage: node.key for stage, node in trial.stages.items()})
            for trial in trials.all
        ),
        grid=_digest(sweep, trials),
    )
    return TuningProgress(trials, record)


def _digest(sweep: Sweep, trials: Trials) -> str:
    """Of all trials, and of the report's cells as their first settings would make them."""
    looks = [sweep.looks.counts, sweep.looks.margin] if sweep.looks else None
    about: list[Any] = [trials.tune.judge, trials.tune.split, looks]
    about.append([[trial.cell_id, trial.seed] for trial in trials.all])
    cells = [[cell.cell_id, cell.seed, cell.role, cell.is_baseline] for cell in trials.forecast.cells]
    return hash_of([*about, sorted(cells, key=str)])
