"""Malformed ``tune`` of a sweep, with the place and the words of the answer."""

from __future__ import annotations

from tests.ablations.sound_sweep import whole

_PARTS = {
    "budget": "budget: 2",
    "fields": "fields: {loss.beta: [1000, 4000]}",
    "judge": "judge: clip_emoji",
    "split": "split: seen",
    "seeds": "seeds: [100]",
}


def tune(**parts: str) -> str:
    """A sound sweep with ``tune`` from line 6 on, one key in a line, of which some are replaced or, empty, absent."""
    lines = [line for line in (_PARTS | parts).values() if line]
    return whole(tune="\n".join(["tune:", *(f"  {line}" for line in lines)]))


def field(fields: str, budget: int = 2, more: str = "") -> str:
    """The same with other fields, in line 8."""
    return tune(budget=f"budget: {budget}", fields=f"fields: {fields}", more=more)


TUNE: dict[str, tuple[str, str, str]] = {
    "tune is a list": (whole(tune="tune: [1]"), "6:7", "tune must be a mapping of dotted names, not [1]; for example"),
    "tune is empty": (whole(tune="tune: {}"), "6:7", "tune is empty"),
    "tune with another key": (tune(more="judges: a"), "12:3", "unknown key 'judges' in tune (did you mean 'judge'?)"),
    **{
        f"no {name} of tune": (tune(**{name: ""}), "7:3", f"tune has no '{name}'; for example  {name}: ")
        for name in _PARTS
    },
    "a budget of one": (tune(budget="budget: 1"), "7:11", "budget is the number of settings of each cell, a whole num"),
    "a budget of text": (tune(budget="budget: many"), "7:11", "a whole number from 2 to 1000, not many"),
    "a budget of true": (tune(budget="budget: true"), "7:11", "a whole number from 2 to 1000, not true"),
    "fewer settings than the budget": (
        tune(budget="budget: 3"),
        "8:11",
        "have 2 combinations, but the budget is 3, and every cell is tuned over the same number of settings",
    ),
    "more settings than the budget": (
        field("{loss.beta: [1, 2, 3], lora.rank: [4, 8]}", budget=4),
        "8:11",
        "number of settings: list values with 4 combinations, or write 'sampler: random' to draw 4 of them",
    ),
    "unequal budgets": (
        field("[{when: {loss.name: dpo}, loss.beta: [1, 2]}, {loss.beta: [1, 2, 3]}]"),
        "8:57",
        "the values of these fields have 3 combinations, but the budget is 2",
    ),
    "too few to draw from": (
        tune(budget="budget: 3", more="sampler: random"),
        "8:11",
        "have 2 combinations, fewer than the budget of 3: list more",
    ),
    "far too many to draw from": (
        field(f"{{loss.beta: {list(range(1, 400))}, training.steps: {list(range(1, 400))}}}", more="sampler: random"),
        "8:11",
        "have 159,201 combinations; at most 100,000",
    ),
    "another sampler": (
        tune(more="sampler: gird"),
        "12:12",
        "unknown sampler gird (did you mean 'grid'?); known: grid,",
    ),
    "a sampler of numbers": (tune(more="sampler: 3"), "12:12", "unknown sampler 3; known: grid, random"),
    "a seed without a draw": (
        tune(more="sampler_seed: 3"),
        "12:17",
        "has an effect only with 'sampler: random'; leave",
    ),
    "a broken seed of a draw": (
        tune(more="sampler: random\n  sampler_seed: -1"),
        "13:17",
        "sampler_seed is a whole number from 0 to 2147483647, not -1",
    ),
    "no fields": (field("{}"), "8:11", "fields is empty"),
    "an empty list of fields": (field("[]"), "8:11", "fields is empty; for example  fields: {loss.beta"),
    "fields of text": (field("loss.beta"), "8:11", "fields must be a mapping of dotted names, not loss.beta; for"),
    "only a condition": (field("[{when: {loss.name: dpo}}]"), "8:12", "this entry names no field to tune; for example"),
    "a condition of nothing": (field("[{when: {}, loss.beta: [1, 2]}]"), "8:19", "the condition 'when' is empty"),
    "an unknown condition": (
        field("[{when: {los.name: dpo}, loss.beta: [1, 2]}]"),
        "8:20",
        "unknown axis 'los.name' (did you mean 'loss.name'?)",
    ),
    "a condition that cannot be": (
        field("[{when: {loss.name: dop}, loss.beta: [1, 2]}]"),
        "8:31",
        "unknown loss 'dop' (did you mean",
    ),
    "an unknown field": (field("{loss.bet: [1, 2]}"), "8:12", "unknown axis 'loss.bet' (did you mean 'loss.beta'?)"),
    "a field of execution": (field("{training.micro_batch: [1, 2]}"), "8:12", "only changes how a stage runs, not its"),
    "a field of the evaluation": (
        field("{generation.steps: [1, 2]}"),
        "8:12",
        "'generation.steps' is not tuned: what cells are trained on and measured with is the same for all settings",
    ),
    "a field of the data": (field("{data.flip_fraction: [1, 2]}"), "8:12", "'data.flip_fraction' is not tuned: what"),
    "a path": (field("{method.prompts: [a, b]}"), "8:12", "'method.prompts' is not tuned: what cells"),
    "replicates": (
        field("{replicate: [1, 2]}"),
        "8:12",
        "'replicate' is not a setting: replicates are the same recipe",
    ),
    "an axis": (
        field("{quality.metric: [product, difference]}"),
        "8:12",
        "'quality.metric' is an axis of this sweep; a field is either set there or tuned",
    ),
    "an overridden field": (
        whole(overrides="overrides: {loss.beta: 7}", tune=tune().partition("tune:")[2].join(["tune:", ""])),
        "9:12",
        "'loss.beta' is set in 'overrides'; a field is either set there or tuned",
    ),
    "a field of a control": (
        whole(controls="controls: [{loss.beta: 7}]", tune=tune().partition("tune:")[2].join(["tune:", ""])),
        "9:12",
        "'loss.beta' is set by a control; a field is either set there or tuned",
    ),
    "one value": (field("{loss.beta: 4000}"), "8:23", "axis 'loss.beta' must be a list of values, not 4000; for one"),
    "a value out of range": (field("{loss.beta: [1000, -1]}"), "8:30", "loss.beta must be above 0, not -1"),
    "a value twice": (field("{loss.beta: [1000, 1e3]}"), "8:30", "1000 is listed twice for 'loss.beta'"),
    "a judge of numbers": (tune(judge="judge: 3"), "9:10", "judge must be the name of a scorer, not 3"),
    "a split of nothing": (tune(split="split: ''"), "10:10", "split must be the name of a split, not ''"),
    "one tuning seed as a number": (
        tune(seeds="seeds: 100"),
        "11:10",
        "seeds must be a list of whole numbers, not 100",
    ),
    "no tuning seed": (tune(seeds="seeds: []"), "11:10", "seeds is empty; give at least one, such as [100]"),
    "a tuning seed of text": (tune(seeds="seeds: [a]"), "11:11", "a seed must be a whole number from 0 to"),
    "a tuning seed twice": (tune(seeds="seeds: [100, 100]"), "11:16", "seed 100 is given twice"),
    "a seed of the report": (
        tune(seeds="seeds: [100, 0]"),
        "11:16",
        "seed 0 is also a seed of the report, whose trainings must not be those that chose the settings; use other",
    ),
    "a large tuning seed with replicates": (
        whole(
            axes="axes: {replicate: [0, 1]}",
            baseline="baseline: {replicate: 0}",
            tune=tune(seeds="seeds: [10100]").partition("tune:")[2].join(["tune:", ""]),
        ),
        "11:11",
        "with the axis 'replicate' a seed must be below 10000, not 10100",
    ),
    "one prompt": (
        tune(more="prompts: 1"),
        "12:12",
        "prompts is how many of the split are used, a whole number from 2",
    ),
}
