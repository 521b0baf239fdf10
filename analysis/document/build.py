"""The document of a sweep's results, made from the rows of the result table alone."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from analysis.data.rows import TEXTURE
from analysis.document.categories import categories_section
from analysis.document.formatting import (
    ABSENT,
    cell_marks,
    decimals,
    difference_mark,
    format_by_seed,
    format_contradicted,
    format_difference,
    format_interval,
    format_number,
    format_p,
    format_percent,
    format_range,
    has_estimates,
    shown_interval,
)
from analysis.document.looks import (
    brief_reason,
    brief_rules,
    look_rules,
    no_look,
    stopping_lines,
)
from analysis.document.model import (
    Block,
    Column,
    Document,
    FigureReference,
    Note,
    Notes,
    Paragraph,
    Section,
    Span,
    Table,
    TableCell,
    Text,
    code,
    marked_up,
    plain,
)
from analysis.document.sentences import (
    BRIEF_MEASURE_RULE,
    BRIEF_TEXTURE_RULE,
    MARKED_RULES,
    MEASURE_RULES,
    SIMULATED_LABELS,
    TABLE_RULES,
    TEXTURE_RULES,
    WINS_RULE,
    budget,
    capitalised,
    conflicts,
    evaluated_seeds,
    few_prompts,
    left_out,
    missing_distances,
    missing_results,
    no_marks,
    noise_floor,
    partial,
    primary_or_exploratory,
    prompt_count,
    reward_hacking,
    seeds_of,
    sensitivity,
    split_title,
    untrained,
)
from analysis.document.tuning import progress_text, tuning_lines, tuning_section
from analysis.document.verdict import verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.data.estimate import Interval
    from analysis.data.looks import Looks
    from analysis.data.rows import Comparison, Row
    from analysis.data.sweep import SweepFolder


def build_document(sweep: SweepFolder, rows: Sequence[Row], figures: Sequence[FigureReference] = ()) -> Document:
    """The document of a sweep.

    Args:
        sweep: what ``cells.json`` says.
        rows: at least one; splits and scorers in the order in which they are to be shown, the deciding ones first.
        figures: those that were drawn.
    """
    splits = [list(group) for _, group in groupby(rows, key=lambda row: row.split)]
    return Document(
        title=f"{sweep.name} on {sweep.experiment}",
        question=sweep.question,
        verdict=verdict(rows, progress_text(sweep.tuning) if sweep.tuning else ""),
        origin=_origin(sweep),
        status=capitalised("; ".join(filter(None, (partial(rows), *_tuning_status(sweep))))),
        missing=(*missing_results(rows), *missing_distances(sweep, rows)),
        splits=tuple(_split(sweep, of_split) for of_split in splits),
        categories=categories_section(rows),
        trained=_trained(rows),
        tuning=tuning_section(sweep),
        legend=_legend(sweep, rows),
        sources=_sources(rows),
        footnotes=tuple(_footnotes(sweep, rows, splits[0])),
        figures=tuple(figures),
    )


def _tuning_status(sweep: SweepFolder) -> list[str]:
    """That the settings of the cells are not known yet."""
    return [progress_text(sweep.tuning)] if sweep.tuning and not sweep.tuning.is_decided else []


def _origin(sweep: SweepFolder) -> Text:
    baseline, commit = code(sweep.baseline), code(sweep.git_commit)
    return (Span("Baseline: "), *baseline, Span(". Tables made by the code of git commit "), *commit, Span("."))


def _split(sweep: SweepFolder, rows: list[Row]) -> Section:
    title = split_title(rows[0].split)
    warnings = tuple(Note(plain(f"{line}.")) for line in reward_hacking(rows))
    return Section(
        title=f"Split {title}",
        anchor=rows[0].split,
        brief=f"{title} (n = {prompt_count(rows)})",
        blocks=(Notes(warnings, bullets=True),) if warnings else (),
        sections=tuple(_scorer(sweep, list(group)) for _, group in groupby(rows, key=lambda row: row.scorer)),
    )


def _scorer(sweep: SweepFolder, rows: list[Row]) -> Section:
    """The results under one scorer on one split: what it is, its notes, the table, and what the table can show."""
    first, places = rows[0], decimals(rows)
    images = max(row.images_per_prompt for row in rows)
    count = prompt_count(rows)
    size = f"{count} prompt{'s' * (count != 1)} × {images} image{'s' if images > 1 else ''}"
    above = [Note(plain(f"{line}."), "†") for line in conflicts(rows)]
    above += [Note(plain(f"{line}.")) for line in left_out(rows)]
    above += [] if has_estimates(rows) else [Note(plain(no_look(rows, sweep.looks) or no_marks(rows)))]
    above += [Note(plain(f"{line}.")) for line in stopping_lines(sweep)] if first.primary else []
    below = [Note(plain(f"{capitalised(line)}.")) for line in _cautions(rows, places) if line]
    blocks: list[Block] = [
        Paragraph((Span(f"Unit: {first.unit}; revision "), *code(first.revision), Span(f"; {size}."))),
        *([Notes(tuple(above))] if above else []),
        _results(sweep, rows, places),
        *([Notes(tuple(below))] if below else []),
    ]
    return Section(
        title=f"{first.scorer} ({primary_or_exploratory(first)})",
        anchor=f"{first.split}-{first.scorer}",
        brief=f"{first.scorer} ({first.unit}), {primary_or_exploratory(first)}",
        blocks=tuple(blocks),
    )


def _cautions(rows: list[Row], places: int) -> tuple[str, ...]:
    """What a table under one scorer can and cannot show; empty texts among them."""
    return few_prompts(rows), noise_floor(rows), sensitivity(rows, places)


def _results(sweep: SweepFolder, rows: list[Row], places: int) -> Table:
    first, over_seeds = rows[0], has_estimates(rows)
    looks = sweep.looks if first.primary else None
    brackets = ("its look" if looks else "95 %") if over_seeds else "95 %, new prompts only"
    which = f" [{brackets}]" if looks and over_seeds else ""
    unit = first.unit
    # "Wins" would say that the higher value is the better one.
    higher = "Wins" if first.has_better_end else "Higher"
    columns = (
        Column("cell", "Cell", "left", "cell"),
        Column("mean", "Mean", brief="mean", unit=unit),
        Column("versus_baseline", f"vs baseline{which}", brief=f"vs baseline [{brackets}]", unit=unit),
        Column("versus_base", f"vs base model{which}", brief=f"vs base model [{brackets}]", unit=unit),
        Column("p_baseline", "p vs baseline"),
        Column("these_models_baseline", "vs baseline, new prompts only", unit=unit),
        Column("these_models_base", "vs base model, new prompts only", unit=unit),
        Column("by_seed_baseline", "vs baseline, each seed", unit=unit),
        Column("wins_baseline", f"{higher} vs baseline", unit="share"),
        Column("wins_base", f"{higher} vs base model", brief=higher.lower(), unit="share"),
        Column("seeds", "Seeds", brief="seeds"),
        *([Column("look", "Look")] if looks else []),
    )
    lines = []
    for row in rows:
        baseline, base = row.versus_baseline, row.versus_base
        brief = "baseline" if row.is_baseline and not row.diverged else None
        mark = baseline.mark if baseline else None
        lines.append(
            (
                _name(row, cell_marks(row)),
                TableCell(plain(format_number(row.mean, places)), number=row.mean),
                _difference(row, baseline, places, over_seeds, brief),
                _difference(row, base, places, over_seeds),
                TableCell(plain(format_p(baseline)), number=mark.p_adjusted if mark else None),
                _these_models(baseline, places),
                _these_models(base, places),
                TableCell(plain(format_by_seed(baseline, places))),
                _wins(baseline),
                _wins(base),
                TableCell(plain(seeds_of(row)), brief=evaluated_seeds(row)),
                *([_look(looks, row)] if looks else []),
            )
        )
    return Table(
        f"{first.split}-{first.scorer}-table", f"{first.scorer}, {split_title(first.split)}", columns, tuple(lines)
    )


def _look(looks: Looks, row: Row) -> TableCell:
    cell = looks.cells.get(row.cell)
    return TableCell(plain(brief_reason(cell, looks) if cell else ABSENT), number=cell.look if cell else None)


def _name(row: Row, marks: str = "") -> TableCell:
    suffix = plain(" (baseline)") if row.is_baseline else ()
    return TableCell((*code(row.cell), *suffix), marks, brief=row.cell)


def _difference(
    row: Row, comparison: Comparison | None, places: int, over_seeds: bool, brief: str | None = None
) -> TableCell:
    text = plain(format_difference(row, comparison, places, over_seeds))
    if comparison is None:
        return TableCell(text, brief=brief)
    interval = shown_interval(comparison, over_seeds)
    return TableCell(text, difference_mark(comparison), brief, comparison.difference, _ends(interval))


def _these_models(comparison: Comparison | None, places: int) -> TableCell:
    interval = comparison.these_models if comparison else None
    number = comparison.difference if comparison else None
    return TableCell(plain(format_interval(interval, places)), number=number, interval=_ends(interval))


def _wins(comparison: Comparison | None) -> TableCell:
    if comparison is None:
        return TableCell(plain(ABSENT))
    share, interval = comparison.win_rate, comparison.win_rate_these_models
    brackets = f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]" if interval else ABSENT
    text = f"{format_percent(share)} {brackets}"
    return TableCell(plain(text), brief=format_percent(share), number=share, interval=_ends(interval))


def _ends(interval: Interval | None) -> tuple[float, float] | None:
    return (interval.low, interval.high) if interval else None


def _trained(rows: Sequence[Row]) -> Section:
    """What every cell was trained on, and for how long."""
    trained_cells = [row for row in _one_per_cell(rows) if row.role != "base"]
    cells = [row for row in trained_cells if not row.trained.on_policy]
    on_policy = [row for row in trained_cells if row.trained.on_policy]
    styles = list(dict.fromkeys(style for row in cells for style, _ in row.trained.styles))
    columns = (
        Column("cell", "Cell", "left", "trained on"),
        Column("pairs", "Pairs", brief="pairs"),
        Column("of", "of", brief="of"),
        Column("prompts", "Prompts", brief="prompts"),
        Column("images", "Images", brief="images"),
        Column("contradicted", "Scorer against", brief="scorer against", unit="share"),
        Column("steps", "Steps", brief="steps"),
        Column("epochs", "Epochs", brief="epochs"),
        *(Column(f"style-{style}", style, unit="share") for style in styles),
    )
    lines = []
    for row in cells:
        trained, shares = row.trained, dict(row.trained.styles)
        lines.append(
            (
                _name(row),
                *(_range(values) for values in (trained.pairs, trained.of, trained.prompts, trained.images)),
                TableCell(plain(format_contradicted(row)), number=_single(trained.contradicted)),
                _range(trained.steps),
                _range(trained.epochs, ".3g"),
                *(_style(shares.get(style, 0), bool(shares)) for style in styles),
            )
        )
    blocks: list[Block] = [Paragraph(plain(text))] if (text := budget(rows)) else []
    if cells or not on_policy:
        blocks.append(Table("trained-table", "What was trained on", columns, tuple(lines)))
    if on_policy:
        blocks.append(_on_policy(on_policy))
        blocks += [Paragraph(plain(line)) for line in untrained(on_policy)]
    return Section("What was trained on", "trained", tuple(blocks))


def _on_policy(rows: Sequence[Row]) -> Table:
    """What on-policy cells were trained on, their two budgets, and the share of their samples that they used."""
    columns = (
        Column("cell", "Cell", "left", "on-policy"),
        Column("method", "Method", "left", "method"),
        Column("reward", "Reward", "left", "reward"),
        Column("steps", "Steps", brief="steps"),
        Column("prompts-seen", "Prompts sampled", brief="prompts"),
        Column("reward-calls", "Images scored", brief="scored"),
        Column("passes", "Network passes", brief="passes"),
        Column("passes-trained", "With gradients", brief="trained"),
        Column("used", "Used at the end", brief="used", unit="share"),
    )
    lines = [
        (
            _name(row),
            TableCell(plain(", ".join(row.trained.method))),
            TableCell(plain(", ".join(row.trained.reward))),
            _range(row.trained.steps),
            _range(row.trained.prompts_seen),
            _range(row.trained.reward_calls),
            _range(row.trained.network_passes),
            _range(row.trained.network_passes_trained),
            _shares(row.trained.used),
        )
        for row in rows
    ]
    return Table("on-policy-table", "What on-policy cells were trained on", columns, tuple(lines))


def _range(values: Sequence[float], form: str = ",") -> TableCell:
    return TableCell(plain(format_range(values, form)), number=_single(values))


def _shares(values: Sequence[float]) -> TableCell:
    percent = format_range([100 * value for value in values], ".0f")
    return TableCell(plain(f"{percent} %" if values else percent), number=_single(values))


def _single(values: Sequence[float]) -> float | None:
    """The number that all training seeds share."""
    return values[0] if len(values) == 1 else None


def _style(share: float, known: bool) -> TableCell:
    return TableCell(plain(f"{100 * share:.0f} %"), number=share) if known else TableCell(plain(ABSENT))


def _legend(sweep: SweepFolder, rows: Sequence[Row]) -> Section:
    rules: tuple[tuple[str, str], ...] = MARKED_RULES
    if not has_estimates(rows):
        rules = (("", no_look(rows, sweep.looks) or no_marks(rows)),)
    if sweep.looks:  # the star is that of the looks
        rules = tuple(rule for rule in rules if rule[0] != "*")
    simulated = (("", SIMULATED_LABELS),) if sweep.labels == "simulated" else ()
    measures = MEASURE_RULES if any(row.is_measure for row in rows) else ()
    texture = TEXTURE_RULES if any(row.scorer == TEXTURE for row in rows) else ()
    listed = (*look_rules(sweep), *rules, *TABLE_RULES, *measures, *texture, *simulated)
    notes = tuple(Note(marked_up(text), sign) for sign, text in listed)
    return Section("How to read this", "legend", (Notes(notes, bullets=True),))


def _sources(rows: Sequence[Row]) -> Section:
    """Which cells and data the numbers come from."""
    columns = (
        Column("cell", "Cell", "left"),
        Column("role", "Role", "left"),
        Column("cell_ids", "Cell ids", "left"),
        Column("data", "Data", "left"),
    )
    lines = tuple(
        (
            TableCell(code(row.cell)),
            TableCell(plain(row.role)),
            TableCell(_listed(list(dict.fromkeys(filter(None, row.cell_ids)))) or plain(ABSENT)),
            TableCell(_listed(row.data_digest.split()) or plain(ABSENT)),
        )
        for row in _one_per_cell(rows)
    )
    return Section(
        "Origin of the numbers", "sources", (Table("sources-table", "Origin of the numbers", columns, lines),)
    )


def _listed(names: list[str]) -> Text:
    spans = [span for name in names for span in (Span(", "), *code(name))]
    return tuple(spans[1:])


def _one_per_cell(rows: Sequence[Row]) -> list[Row]:
    """A row of each cell, in their order, for what is the same under every scorer."""
    return list({row.cell: row for row in rows}.values())


def _footnotes(sweep: SweepFolder, every: Sequence[Row], rows: list[Row]) -> list[Note]:
    """The notes to ``rows``, the first split of ``every``."""
    notes = [Note(plain(line)) for line in reward_hacking(rows)]
    notes += [Note(plain(text))] if (text := budget(rows)) else []
    notes += [Note(plain(line)) for line in tuning_lines(sweep)]
    notes += [Note(plain(line)) for line in stopping_lines(sweep)]
    if has_estimates(rows):
        notes += [Note(plain(text), sign) for sign, text in brief_rules(sweep)]
    else:
        notes.append(Note(plain(no_look(rows, sweep.looks) or no_marks(rows))))
    first = [row for row in rows if row.scorer == rows[0].scorer]
    notes += [Note(plain(text)) for text in _cautions(first, decimals(first)) if text]
    notes += [Note(plain(line), "†") for line in conflicts(rows)]
    notes += [Note(plain(line), "‡") for line in missing_results(rows)]
    notes += [Note(plain(line)) for line in missing_distances(sweep, rows)]
    notes += [Note(plain(line)) for line in left_out(rows)]
    notes += [Note(plain(BRIEF_MEASURE_RULE))] if any(row.is_measure for row in rows) else []
    notes += [Note(plain(BRIEF_TEXTURE_RULE))] if any(row.scorer == TEXTURE for row in rows) else []
    others = sorted({row.split for row in every} - {rows[0].split})
    more = f"the splits {', '.join(others)} and " if others else ""
    notes.append(Note(plain(WINS_RULE)))
    notes.append(Note(plain(f"table.md also has {more}the differences of each seed")))
    return notes
