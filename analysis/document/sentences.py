"""Sentences generated from the numbers, and the legend of the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.data.rows import FEW_PROMPTS, TEXTURE
from analysis.data.sweep import HELD_OUT_SPLITS, SEEN_SPLIT
from analysis.document.formatting import (
    ABSENT,
    comparisons,
    decimals,
    format_seeds,
    has_estimates,
    seeds_disagree,
    shown_interval,
    signed,
)
from qsd.evaluation.embedding_measures import DISTANCE_TO_BASE, DIVERSITY
from qsd.stages.judges import is_own_reward, split_reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from analysis.data.rows import Row
    from analysis.data.sweep import SweepFolder
    from analysis.data.training import Trained

MARKED_RULES = (
    (
        "",
        """\
A difference is paired: the same prompts, initial noise and seed numbers on both sides. Its brackets are a 95 %
interval for new prompts **and** new training seeds of the same recipe: the variance between seeds, moderated by that
of the other comparisons of the column, plus the variance between prompts, with Satterthwaite's degrees of freedom.""",
    ),
    (
        "*",
        """\
the difference may be called one. On the primary scorer and split, p values are corrected by Holm
for all comparisons of the column: at most 5 % of such columns hold a false mark.""",
    ),
    (
        "°",
        """\
on the other scorers, which are exploratory: corrected by Benjamini-Hochberg, so 5 % of these marks may be false.""",
    ),
    ("", '"p vs baseline" is the corrected p value. Cells with a diverged or missing training have no mark.'),
    (
        "",
        """\
"New prompts only": the percentile bootstrap interval over prompts (10,000 resamples) for these trained models. It
says nothing of another training of the same recipe, and decides no mark.""",
    ),
    (
        "",
        """\
"Seeds disagree": a cell whose seeds vary more than three times (in variance) as much as those of the family; its
interval may be too short.""",
    ),
)
"""(sign, text) of how marks and intervals are made; a line break in the text is one of the source, no paragraph."""
TABLE_RULES = (
    (
        "",
        """\
Wins: share of (seed, prompt, image) with the higher score, ties counted half, and its interval over prompts for these
models; 50 % is no difference.""",
    ),
    (
        "",
        """\
Controls that draw their pairs by seed vary in subset and training alike. All seeds share one data set and its labels:
the table speaks of this data.""",
    ),
    ("†", "this scorer is no independent judge of the cell; the reason is stated above the table."),
    (
        "",
        """\
What was trained on: the pairs kept by the selection and how many there were, their different prompts and images, the
share whose loser the scorer prefers (Scorer against), optimiser steps, epochs (uses of a pair), and the share of each
style; a range where training seeds differ. What selections have in common is in `overlap.csv` and `overlap.png`.""",
    ),
    (
        "",
        """\
On-policy cells have no pairs: they sampled prompts, a reward model scored images on the way, and both budgets are
stated. A pass is one image through the network; one with gradients costs about 2.1 of the others.""",
    ),
    (
        "‡",
        """\
training seeds are missing from the mean or from a comparison; the column Seeds says which. Nothing stands in for
them. A diverged training is a result: its cell has no mean over the other seeds.""",
    ),
)
"""(sign, text) of everything else."""
MEASURE_RULES = (
    (
        "",
        """\
`diversity`: how different an image is from the others of its prompt, the mean of 1 - cosine of their embeddings;
`distance_to_base`: how different it is from the base model's image of the same prompt and initial noise. Neither more
nor less of them is better: a mark says only that cells differ, and "Higher" is the share of (seed, prompt, image) with
the higher value.""",
    ),
)
"""(sign, text) for tables of measures on embeddings."""
BRIEF_MEASURE_RULE = (
    "diversity and distance_to_base: neither more nor less is better; higher: the share of higher values"
)
TEXTURE_RULES = (
    (
        "",
        """\
`texture`: the share of an image's energy at high frequencies. It is no judge: less is not better, and a rise beside a
rise of the cell's own reward is a symptom of reward hacking. "Higher" is the share of (seed, prompt, image) with the
higher value.""",
    ),
)
"""(sign, text) for tables of texture."""
BRIEF_TEXTURE_RULE = "texture: no judge; a rise beside a cell's own reward is a symptom of reward hacking"
WINS_RULE = (
    "wins: share of images that score higher than the base model's of the same prompt and noise; ties count half"
)
SIMULATED_LABELS = "The preference labels behind the training pairs come from simulated annotators, not from people."
BRIEF_MARKED_RULES = (
    ("", "[95 %] for new prompts and new training seeds of the same recipe"),
    ("*", "would be there again: Holm over the column, at most 5 % of such columns have a false one"),
    ("°", "exploratory (not the primary scorer): Benjamini-Hochberg, 5 % of these may be false"),
)
_BUDGETS = {
    "steps": ("the same number of optimiser steps", "different numbers of optimiser steps"),
    "epochs": ("the same number of passes over its pairs", "different numbers of passes over their pairs"),
}
"""``training.budget`` -> what is said where all cells have the same of it, and where not."""


def split_title(split: str) -> str:
    """``evaluation: held-out prompts``."""
    if split in HELD_OUT_SPLITS:
        return f"{split}: held-out prompts"
    return f"{split}: prompts of the training data" if split == SEEN_SPLIT else split


def primary_or_exploratory(row: Row) -> str:
    """``primary`` or ``exploratory``: whether scorer and split decide."""
    return "primary" if row.primary else "exploratory"


def prompt_count(rows: Sequence[Row]) -> int:
    """The number of prompts behind these rows."""
    return max(row.prompts for row in rows)


def capitalised(sentence: str) -> str:
    """The sentence with a capital first letter, all others as they are."""
    return sentence[:1].upper() + sentence[1:]


def few_prompts(rows: Sequence[Row]) -> str:
    """That there are too few prompts for any interval; empty where there are enough."""
    count = prompt_count(rows)
    if count >= FEW_PROMPTS:
        return ""
    only = f"{count} prompt{'s' * (count != 1)}"
    return f"only {only}: with fewer than {FEW_PROMPTS}, no interval is to be trusted"


def partial(rows: Sequence[Row]) -> str:
    """``partial: 3 of 5 cells have all their results``; empty when every cell has, or diverged."""
    cells = {row.cell for row in rows}
    incomplete_cells = {row.cell for row in rows if row.missing_seeds or row.failed_seeds}
    if not incomplete_cells:
        return ""
    complete = len(cells - incomplete_cells)
    have = "has all its" if complete == 1 else "have all their"
    return f"partial: {complete} of {len(cells)} cells {have} results"


def missing_results(rows: Sequence[Row]) -> list[str]:
    """What is not in the numbers: a line for what is not evaluated yet, what diverged, and each kind of failure."""
    absent = dict.fromkeys(_cell_with_seeds(row.cell, row.missing_seeds) for row in rows if row.missing_seeds)
    lines = [f"not evaluated yet: {', '.join(absent)}"] if absent else []
    diverged = dict.fromkeys(
        _cell_with_seeds(row.cell, [str(seed) for seed in row.diverged_seeds]) for row in rows if row.diverged_seeds
    )
    lines += [f"diverged: {', '.join(diverged)}"] if diverged else []
    failed: dict[str, dict[str, dict[str, None]]] = {}
    for row in rows:
        for seed, why in row.failed_seeds:
            failed.setdefault(why, {}).setdefault(row.cell, {})[seed] = None
    for why, seeds_of_cell in failed.items():
        cells = (_cell_with_seeds(cell, list(seeds)) for cell, seeds in seeds_of_cell.items())
        lines.append(f"failed: {', '.join(cells)}: {why}")
    return lines


def _cell_with_seeds(cell: str, seeds: Sequence[str]) -> str:
    if tuple(seeds) == ("base",):
        return cell
    return f"{cell} seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}"


def seeds_of(row: Row) -> str:
    """``0, 1; missing 2``; seeds of a comparison are named where they are fewer than those of the mean."""
    parts = [format_seeds(row.seeds)] if row.seeds else []
    if row.missing_seeds:
        parts.append(f"missing {', '.join(row.missing_seeds)}")
    if row.diverged_seeds:
        parts.append(f"diverged {format_seeds(row.diverged_seeds)}")
    if row.failed_seeds:
        parts.append(f"failed {', '.join(seed for seed, _ in row.failed_seeds)}")
    for name, compared in (("baseline", row.versus_baseline), ("base model", row.versus_base)):
        if compared is not None and compared.seeds != row.seeds:
            parts.append(f"vs {name} {format_seeds(compared.seeds)}")
    if seeds_disagree(row):
        parts.append("seeds disagree")
    return "; ".join(parts) or ABSENT


def evaluated_seeds(row: Row) -> str:
    """``0, 1``: as :func:`seeds_of`, without what is missing, diverged or failed, which a footnote states."""
    parts = [format_seeds(row.seeds)] if row.seeds else []
    return "; ".join([*parts, *(["seeds disagree"] if seeds_disagree(row) else [])]) or ABSENT


def budget(rows: Sequence[Row]) -> str:
    """What was equal for all cells, or that it was not; empty where no training reports it."""
    trained = [row.trained for row in rows if row.trained.budget]
    budgets = {name for each in trained for name in each.budget}
    if len(budgets) != 1:
        return "Cells were trained under different budgets." if budgets else ""
    (name,) = budgets
    equal, different = _BUDGETS[name]
    return (
        f"Every cell was trained for {equal}."
        if _same_amount(name, trained)
        else f"Cells were trained for {different}."
    )


def _same_amount(budget: str, trained: Sequence[Trained]) -> bool:
    """Whether all cells have the same number of steps, or of epochs but for a step that rounding adds or takes."""
    if budget == "steps":
        return len({steps for each in trained for steps in each.steps}) <= 1
    step = {each: 1 / max(1, min(each.steps, default=1)) for each in trained if each.epochs}
    most = min((min(each.epochs) * (1 + share) for each, share in step.items()), default=0)
    return all(max(each.epochs) * (1 - share) <= most for each, share in step.items())


def conflicts(rows: Sequence[Row]) -> list[str]:
    """``judge labelled the training pairs``, a line per scorer and what was done; of how many cells where not of all.

    Scorers that share a backbone with the judge and did the same are one line: ``a shares a backbone with b and c,
    which selected the training pairs of 2 cells``.
    """
    trained = [row for row in rows if row.role != "base"]
    cells: dict[tuple[str, str, bool], set[str]] = {}
    sharing: dict[tuple[str, str, bool], list[str]] = {}
    for row in trained:
        for reason in row.conflicts:
            other, did = split_reason(reason)
            line = (row.scorer, did, bool(other))
            cells.setdefault(line, set()).add(row.cell)
            if other not in sharing.setdefault(line, []):
                sharing[line].append(other)
    lines = []
    for (scorer, did, shares), affected in cells.items():
        others = sharing[scorer, did, shares]
        shared = f"shares a backbone with {_listed(others)}, which " if shares else ""
        everywhere = affected == {row.cell for row in trained if row.scorer == scorer}
        count = "" if everywhere else f" of {len(affected)} cell{'s' * (len(affected) != 1)}"
        lines.append(f"{scorer} {shared}{did}{count}")
    return lines


def _listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def reward_hacking(rows: Sequence[Row]) -> list[str]:
    """``a: its own reward rose … while the independent judge … fell``: a line per cell and reference where it is so.

    A reward rises, and a judge falls, where the interval that the table shows excludes zero. An own reward is a scorer
    that the cell was optimised for (``qsd.stages.judges.is_own_reward``), an independent judge one without any †.
    Texture that rises beside a reward is a sign as well; texture that falls is none.

    Args:
        rows: of one split, all scorers.
    """
    return [line for _, line in _hacking(rows)]


def hacked_cells(rows: Sequence[Row]) -> list[str]:
    """The cells that :func:`reward_hacking` has a line about."""
    return list(dict.fromkeys(cell for cell, _ in _hacking(rows)))


def _hacking(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """(cell, line)."""
    of_scorer: dict[str, list[Row]] = {}
    of_cell: dict[str, list[Row]] = {}
    for row in (row for row in rows if not row.is_measure and row.prompts > 1):  # of one prompt there is no interval
        of_scorer.setdefault(row.scorer, []).append(row)
        of_cell.setdefault(row.cell, []).append(row)
    over_seeds = {scorer: has_estimates(group) for scorer, group in of_scorer.items()}
    places = {scorer: decimals(group) for scorer, group in of_scorer.items()}
    for cell, group in of_cell.items():
        for reference in ("baseline", "base model"):
            rose: list[str] = []
            fell: list[str] = []
            texture = ""
            for row in group:
                comparison = row.versus_baseline if reference == "baseline" else row.versus_base
                interval = shown_interval(comparison, over_seeds[row.scorer]) if comparison else None
                if comparison is None or interval is None:
                    continue
                text = f"{row.scorer} {signed(comparison.difference, places[row.scorer])}"
                if is_own_reward(row.conflicts) and interval.low > 0:
                    rose.append(text)
                elif row.scorer == TEXTURE:
                    texture = text if interval.low > 0 else ""
                elif row.has_better_end and not row.conflicts and interval.high < 0:
                    fell.append(text)
            signs = [f"the independent judge{'s' if len(fell) > 1 else ''} fell ({', '.join(fell)})"] if fell else []
            signs += [f"high-frequency texture rose ({texture})"] if texture else []
            if rose and signs:
                yield cell, _hacked(cell, reference, rose, signs, over_seeds[group[0].scorer])


def _hacked(cell: str, reference: str, rose: list[str], signs: list[str], over_seeds: bool) -> str:
    return (
        f"{cell}: its own reward{'s' if len(rose) > 1 else ''} rose against the {reference} ({', '.join(rose)}) while "
        f"{' and '.join(signs)}: a sign of reward hacking"
        + ("" if over_seeds else ", in these trained models (intervals over prompts alone)")
    )


def untrained(rows: Sequence[Row]) -> list[str]:
    """A line per on-policy cell with a training whose last steps used none of their samples, and so taught nothing.

    Args:
        rows: one per cell.
    """
    return [
        f"{row.cell}: the last steps of {'a' if len(row.trained.used) > 1 else 'the'} training used none of its "
        "samples, because their rewards are equal, not finite, or nearer to each other than method.threshold asks for "
        "(method.reward_scale multiplies them): these steps taught it nothing."
        for row in rows
        if row.trained.used and row.trained.used[0] == 0
    ]


def missing_distances(sweep: SweepFolder, rows: Sequence[Row]) -> list[str]:
    """A line where cells have no ``distance_to_base`` because their base model is not evaluated."""
    evaluated = {row.cell for row in rows if row.role == "base" and row.mean is not None}
    waiting = {
        replicate.name: replicate.base
        for replicate in sweep.replicates
        if replicate.role != "base" and DIVERSITY in replicate.scorers and replicate.base not in evaluated
    }
    if not waiting:
        return []
    every = len(waiting) == len({replicate.name for replicate in sweep.replicates if replicate.role != "base"})
    of = "" if every else f" of {', '.join(waiting)}"
    return [f"{DISTANCE_TO_BASE}{of} is absent until the base model is evaluated"]


def left_out(rows: Sequence[Row]) -> list[str]:
    """A line per scorer whose scores of some images were no finite numbers."""
    row_of_scorer = {row.scorer: row for row in rows if row.images_left_out}
    return [
        f"{name}: {row.images_left_out} images are left out of every cell, without a finite score in "
        f"{', '.join(row.left_out_by)}"
        for name, row in row_of_scorer.items()
    ]


def noise_floor(rows: Sequence[Row]) -> str:
    """How often equal recipes differ over prompts alone; empty with one seed."""
    excluding_zero, total = rows[0].noise_floor
    if not total:
        return ""
    return f"the same recipe at another seed: {excluding_zero} of {total} comparisons over prompts exclude zero"


def sensitivity(rows: Sequence[Row], places: int) -> str:
    """Which difference to the baseline would be marked; empty where nothing can be."""
    difference = rows[0].detectable
    if difference is None:
        return ""
    return f"a true difference of {difference:.{places}f} to the baseline is marked with a chance of 80 %"


def no_marks(rows: Sequence[Row]) -> str:
    """Why a table without any estimate has no marks."""
    brackets = " Brackets are 95 % intervals over prompts, for these trained models only."
    if max(row.planned_seeds for row in rows) < 2:
        why = "with one training seed, chance alone could produce differences of this size."
    else:
        why = "no comparison has two finished training seeds and two prompts yet."
    return f"No marks: {why}{brackets if any(comparisons(row) for row in rows) else ''}"
