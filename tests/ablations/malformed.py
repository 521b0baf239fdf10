"""Malformed sweep files, with the place and the words of the answer that each must get."""

from __future__ import annotations

from tests.ablations.malformed_seeds import SEEDS
from tests.ablations.malformed_tune import TUNE
from tests.ablations.sound_sweep import whole

HEAD = "question: q\nexperiment: tiny\n"
AXES = "axes:\n  quality.metric: [product, difference]\n"
TAIL = "baseline: {quality.metric: product}\nseeds: [0]\n"


def losses(more: str) -> str:
    """A sweep over loss.name (dpo, sft), loss.beta (100, 200) and lora.rank (4, 8), and more lines from line 6 on."""
    return whole(
        axes="axes: {loss.name: [dpo, sft], loss.beta: [100, 200], lora.rank: [4, 8]}",
        baseline="baseline: {loss.name: dpo, loss.beta: 100, lora.rank: 4}",
        more=more,
    )


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}, *{old}, *{old}]\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)
)

# name: (text of sweeps/x.yaml, place, part of the message)
MALFORMED: dict[str, tuple[str, str, str]] = {
    **SEEDS,
    **TUNE,
    "empty file": ("", "1:1", "the file is empty"),
    "only a comment": ("# nothing\n", "1:1", "the file is empty"),
    "a list": ("- question: q\n", "1:1", "mapping"),
    "a scalar": ("hello\n", "1:1", "mapping"),
    "unknown key": (whole(axis="axis: {}"), "6:1", "unknown key 'axis' (did you mean 'axes'?)"),
    "misspelt key": (HEAD + "baselin: {}\n", "3:1", "unknown key 'baselin' (did you mean 'baseline'?)"),
    "duplicate key": (whole(more="seeds: [1]"), "6:1", "duplicate key 'seeds' (first on line 5)"),
    "duplicate axis": (
        HEAD + "axes:\n  lora.rank: [4]\n  lora.rank: [8]\n" + TAIL,
        "5:3",
        "duplicate key 'lora.rank' (first on line 4)",
    ),
    "no question": ("experiment: tiny\n" + AXES + TAIL, "1:1", "'question' is missing"),
    "no experiment": ("question: q\n" + AXES + TAIL, "1:1", "'experiment' is missing"),
    "no axes": (HEAD + TAIL, "1:1", "'axes' is missing; for example  axes: {quality.metric: [product, difference]}"),
    "no baseline": (
        HEAD + AXES + "seeds: [0]\n",
        "1:1",
        "'baseline' is missing; for example  baseline: {quality.metric: product}",
    ),
    "no seeds": (HEAD + AXES + "baseline: {quality.metric: product}\n", "1:1", "'seeds' is missing"),
    "question with a colon": (whole(question="question: does x: y?"), "1:17", "put the question in quotes"),
    "octal seed": (
        whole(seeds="seeds: [1, 010]"),
        "5:12",
        "a seed must be a whole number from 0 to 2147483647, not 010 (",
    ),
    "octal value": (
        whole(axes="axes: {lora.rank: [4, 010]}", baseline="baseline: {lora.rank: 4}"),
        "3:23",
        "lora.rank must be a whole number, not 010 (write 10",
    ),
    "interpolation": (
        whole(axes='axes: {data.path: ["${x}", b]}', baseline="baseline: {data.path: b}"),
        "3:20",
        "data.path: ${...} is not replaced here, in '${x}'",
    ),
    "question is a number": (whole(question="question: 3"), "1:11", "question must be text, not 3"),
    "question with zeros before it": (
        whole(question="question: 0031"),
        "1:11",
        "question must be text, not 0031; put it in quotes: '0031'",
    ),
    "question is empty": (whole(question='question: ""'), "1:11", "question must be text"),
    "question is null": (whole(question="question:"), "1:10", "question must be text, not null"),
    "experiment is a list": (whole(experiment="experiment: [tiny]"), "2:13", "experiment must be text, not [tiny]"),
    "experiment is missing": (
        whole(experiment="experiment: tinny"),
        "2:13",
        "unknown experiment 'tinny': there is no experiments/tinny.yaml (did you mean 'tiny'?)",
    ),
    "axes is a list": (whole(axes="axes: [quality.metric]"), "3:7", "axes must be a mapping of dotted names"),
    "axes is empty": (whole(axes="axes: {}"), "3:7", "axes is empty"),
    "axes is null": (whole(axes="axes:"), "3:6", "axes must be a mapping of dotted names, not null"),
    "unknown axis": (
        HEAD + "axes:\n  quality.metrik: [product]\n" + TAIL,
        "4:3",
        "unknown axis 'quality.metrik' (did you mean 'quality.metric'?)",
    ),
    "axis is a section": (HEAD + "axes:\n  quality: [product]\n" + TAIL, "4:3", "'quality' is a section"),
    "nested axis": (HEAD + "axes:\n  quality:\n    metric: [product]\n" + TAIL, "4:3", "'quality' is a section"),
    "axis without last part": (
        HEAD + "axes:\n  metric: [product]\n" + TAIL,
        "4:3",
        "unknown axis 'metric' (did you mean 'quality.metric'?)",
    ),
    "axis in another section": (
        HEAD + "axes:\n  loss.metric: [product]\n" + TAIL,
        "4:3",
        "unknown axis 'loss.metric' (did you mean 'quality.metric'?)",
    ),
    "axis of execution": (
        HEAD + "axes:\n  training.micro_batch: [1, 2]\n" + TAIL,
        "4:3",
        "'training.micro_batch' only changes how a stage runs",
    ),
    "seed as axis": (HEAD + "axes:\n  seed: [1, 2]\n" + TAIL, "4:3", "'seed' is not an axis"),
    "embedder as axis": (
        HEAD + "axes:\n  evaluation.embedder: [clip_emoji]\n" + TAIL,
        "4:3",
        "'evaluation.embedder' is not an axis: distances by two embedders cannot be compared; set it in the experiment",
    ),
    "other images as axis": (
        HEAD + "axes:\n  generation.images_per_prompt: [1, 2]\n" + TAIL,
        "4:3",
        "'generation.images_per_prompt' is not an axis: cells are compared on the same prompts and images; set it in",
    ),
    "other splits as axis": (
        whole(axes="axes: {evaluation.splits: [[evaluation], [seen]]}"),
        "3:8",
        "'evaluation.splits' is not an axis: cells are compared on the same prompts and images",
    ),
    "other prompts as control": (
        whole(more="controls: [{evaluation.prompts_per_split: 10}]"),
        "6:13",
        "'evaluation.prompts_per_split' is not an axis",
    ),
    "embedder without embeddings": (
        whole(more="overrides: {evaluation.embedder: aesthetic_emoji}"),
        "6:34",
        "reward model 'aesthetic_emoji' has no image embedding; evaluation.embedder can be clip_emoji, ",
    ),
    "a measure as reward model": (
        whole(axes="axes: {reward.model: [clip_emoji, diversity]}"),
        "3:35",
        "'diversity' is not a reward model but a measure of images",
    ),
    "adapter as axis": (HEAD + "axes:\n  adapter: [none]\n" + TAIL, "4:3", "'adapter' is not an axis"),
    "axis is a scalar": (
        HEAD + "axes:\n  quality.metric: product\n" + TAIL,
        "4:19",
        "axis 'quality.metric' must be a list of values, not product; for one value write [product]",
    ),
    "axis is empty": (HEAD + "axes:\n  quality.metric: []\n" + TAIL, "4:19", "axis 'quality.metric' is empty"),
    "unknown loss": (
        HEAD + "axes:\n  loss.name: [sft, dpoo]\nbaseline: {loss.name: sft}\nseeds: [0]\n",
        "4:20",
        "unknown loss 'dpoo' (did you mean 'dpo'?)",
    ),
    "unknown metric": (
        whole(axes="axes: {quality.metric: [product, diference]}"),
        "3:34",
        "unknown quality metric 'diference' (did you mean 'difference'?)",
    ),
    "fraction of 533": (
        HEAD + "axes:\n  selection.fraction:\n    - 533\n    - 10\n" + TAIL,
        "5:7",
        "selection.fraction must be above 0 and at most 100 (percent of the pairs), not 533",
    ),
    "fraction of 0": (HEAD + "axes:\n  selection.fraction: [0]\n" + TAIL, "4:24", "must be above 0 and at most 100"),
    "fraction is not a number": (
        HEAD + "axes:\n  selection.fraction: [.nan]\n" + TAIL,
        "4:24",
        "selection.fraction must be finite",
    ),
    "fraction is text": (
        HEAD + "axes:\n  selection.fraction: [ten]\n" + TAIL,
        "4:24",
        "selection.fraction must be a number, not 'ten'",
    ),
    "rank of 0": (HEAD + "axes:\n  lora.rank: [8, 0]\n" + TAIL, "4:18", "lora.rank must be at least 1"),
    "rank is broken": (
        HEAD + "axes:\n  lora.rank: [4.5]\n" + TAIL,
        "4:15",
        "lora.rank must be a whole number, not 4.5",
    ),
    "rank is true": (
        HEAD + "axes:\n  lora.rank: [true]\n" + TAIL,
        "4:15",
        "lora.rank must be a whole number, not True",
    ),
    "rank is null": (HEAD + "axes:\n  lora.rank: [null]\n" + TAIL, "4:15", "must be a whole number, not null"),
    "metric is off": (whole(axes="axes: {quality.metric: [off]}"), "3:25", "quality.metric must be text, not False"),
    "metric is a mapping": (whole(axes="axes: {quality.metric: [{a: b}]}"), "3:25", "quality.metric must be text"),
    "too many cells": (
        HEAD + f"axes:\n  lora.rank: {list(range(1, 1001))}\n  selection.threshold: {list(range(200))}\n" + TAIL,
        "4:3",
        "200,000 cells; at most 100,000 are planned",
    ),
    "baseline is text": (whole(baseline="baseline: product"), "4:11", "baseline must be a mapping"),
    "baseline is empty": (whole(baseline="baseline: {}"), "4:11", "baseline is empty"),
    "baseline names no axis": (
        whole(baseline="baseline: {quality.metrics: product}"),
        "4:12",
        "the baseline names 'quality.metrics', which is not an axis of this sweep (did you mean 'quality.metric'?)",
    ),
    "baseline is no cell": (
        whole(baseline="baseline: {quality.metric: winner_only}"),
        "4:28",
        "but winner_only is not among the values of axis 'quality.metric' (product, difference); add it there",
    ),
    "baseline has an unknown value": (
        whole(baseline="baseline: {quality.metric: prodct}"),
        "4:28",
        "unknown quality metric 'prodct' (did you mean 'product'?)",
    ),
    "baseline leaves an axis open": (
        whole(axes="axes: {quality.metric: [product, difference], lora.rank: [4, 8]}"),
        "4:11",
        "the baseline leaves 'lora.rank' open; give one of 4, 8",
    ),
    "primary is text": (whole(more="primary: judge_emoji"), "6:10", "primary must be a mapping"),
    "primary has another key": (whole(more="primary: {scorers: x}"), "6:11", "(did you mean 'scorer'?)"),
    "primary scorer is a number": (whole(more="primary: {scorer: 3}"), "6:19", "must be the name of a scorer, not 3"),
    "primary scorer evaluates nothing": (
        whole(more="primary: {scorer: clip_emoij}"),
        "6:19",
        "'clip_emoij' is not in evaluation.scorers (clip_emoji, aesthetic_emoji) (did you mean 'clip_emoji'?)",
    ),
    "primary split is no split": (
        whole(more="primary: {split: held_out}"),
        "6:18",
        "'held_out' is not in evaluation.splits (evaluation, seen)",
    ),
    "replicate is text": (
        whole(axes="axes: {replicate: [a]}", baseline="baseline: {replicate: 0}"),
        "3:20",
        "replicate",
    ),
    "replicate with large seeds": (
        whole(axes="axes: {replicate: [0, 1]}", baseline="baseline: {replicate: 0}", seeds="seeds: [0, 10000]"),
        "5:12",
        "a seed must be below 10000, not 10000",
    ),
    "seed twice": (whole(seeds="seeds: [0, 1, 0]"), "5:15", "seed 0 is given twice"),
    "controls is a mapping": (whole(controls="controls: {a: b}"), "6:11", "controls must be a list of mappings"),
    "control is text": (
        whole(controls="controls:\n  - random"),
        "7:5",
        "a control must be a mapping of dotted names, not random; for example  controls: [{",
    ),
    "control is empty": (whole(controls="controls:\n  - {}"), "7:5", "a control is empty"),
    "control has an unknown field": (
        whole(controls="controls:\n  - {selection.strategi: random}"),
        "7:6",
        "unknown axis 'selection.strategi' (did you mean 'selection.strategy'?)",
    ),
    "control has an unknown value": (
        whole(controls="controls:\n  - {selection.strategy: ramdom}"),
        "7:26",
        "unknown selection strategy 'ramdom' (did you mean 'random'?)",
    ),
    "control has a list": (
        whole(controls="controls:\n  - {selection.strategy: [random]}"),
        "7:26",
        "a control is one cell, with one value of 'selection.strategy', not [random]; write a control for each value",
    ),
    "override of nothing": (
        whole(overrides="overrides: {training.step: 5}"),
        "6:13",
        "unknown key 'training.step' (did you mean 'training.steps'?)",
    ),
    "override in another section": (
        whole(overrides="overrides: {training.device: cpu}"),
        "6:13",
        "unknown key 'training.device' (did you mean 'device'?)",
    ),
    "override out of range": (
        whole(overrides="overrides:\n  training.steps: 0"),
        "7:19",
        "training.steps must be at least 1 and at most 100000000, not 0",
    ),
    "nested override out of range": (
        whole(overrides="overrides:\n  training:\n    steps: -5"),
        "8:12",
        "training.steps must be at least 1 and at most 100000000, not -5",
    ),
    "override of an axis": (
        whole(overrides="overrides: {quality.metric: difference}"),
        "6:29",
        "'quality.metric' is an axis of this sweep",
    ),
    "override of the seed": (whole(overrides="overrides: {seed: 4}"), "6:19", "the seed is given by 'seeds'"),
    "overrides is a list": (whole(overrides="overrides: [1]"), "6:12", "overrides must be a mapping"),
    "zip is a mapping": (whole(zip="zip: {lora.rank: [4, 8]}"), "6:6", "zip must be a list of mappings"),
    "zip is empty": (whole(zip="zip: []"), "6:6", "zip is empty"),
    "zip group is a list": (whole(zip="zip:\n  - [4, 8]"), "7:5", "a zip group must be a mapping of dotted names"),
    "zip group is empty": (whole(zip="zip:\n  - {}"), "7:5", "a zip group is empty"),
    "zip group of one": (
        whole(zip="zip:\n  - {lora.rank: [4, 8]}"),
        "7:5",
        "a zip group of 'lora.rank' alone; a single axis belongs in axes",
    ),
    "zip of unequal length": (
        whole(zip="zip:\n  - {lora.rank: [4, 8], lora.alpha: [4, 8, 16]}"),
        "7:37",
        "'lora.alpha' has 3 values and 'lora.rank' 2; the values of a zip group are taken together",
    ),
    "zip of an unknown field": (
        whole(zip="zip:\n  - {lora.rnk: [4, 8], lora.alpha: [4, 8]}"),
        "7:6",
        "unknown axis 'lora.rnk' (did you mean 'lora.rank'?)",
    ),
    "zip of a value out of range": (
        whole(zip="zip:\n  - {lora.rank: [4, 8], selection.fraction: [5.33, 533]}"),
        "7:52",
        "selection.fraction must be above 0 and at most 100 (percent of the pairs), not 533",
    ),
    "zip of a scalar": (whole(zip="zip:\n  - {lora.rank: 4, lora.alpha: [4]}"), "7:17", "must be a list of values"),
    "axis in axes and in zip": (
        whole(zip="zip:\n  - {quality.metric: [product], lora.rank: [4]}"),
        "7:6",
        "'quality.metric' is in axes and in zip; list it in one of them only",
    ),
    "axis in two zip groups": (
        whole(zip="zip:\n  - {lora.rank: [4], lora.alpha: [4]}\n  - {lora.rank: [8], loss.beta: [4]}"),
        "8:6",
        "'lora.rank' is in two zip groups",
    ),
    "baseline leaves a zip group open": (
        whole(zip="zip:\n  - {lora.rank: [4, 8], lora.alpha: [4, 8]}"),
        "4:11",
        "the baseline leaves 'lora.rank' open; give one of 4, 8",
    ),
    "baseline mixes rows of a zip group": (
        whole(
            zip="zip:\n  - {lora.rank: [4, 8], lora.alpha: [4, 8]}",
            baseline="baseline: {quality.metric: product, lora.rank: 4, lora.alpha: 8}",
        ),
        "4:63",
        "the baseline must be a cell of the grid, but no row of zip has lora.rank 4 and lora.alpha 8",
    ),
    "override of a zipped axis": (
        whole(
            zip="zip:\n  - {lora.rank: [4], lora.alpha: [4]}",
            overrides="overrides: {lora.rank: 8}",
        ),
        "8:24",
        "'lora.rank' is an axis of this sweep",
    ),
    "exclude is a mapping": (losses("exclude: {loss.name: sft}"), "6:10", "exclude must be a list of mappings"),
    "exclude is empty": (losses("exclude: []"), "6:10", "exclude is empty"),
    "empty exclude": (losses("exclude:\n  - {}"), "7:5", "an exclude is empty"),
    "exclude is text": (losses("exclude:\n  - sft"), "7:5", "an exclude must be a mapping"),
    "exclude of no axis": (
        losses("exclude:\n  - {loss.nam: sft}"),
        "7:6",
        "'exclude' names 'loss.nam', which is not an axis of this sweep (did you mean 'loss.name'?)",
    ),
    "exclude of no value of the axis": (
        losses("exclude:\n  - {lora.rank: [8, 16]}"),
        "7:17",
        "16 is not a value of axis 'lora.rank' (4, 8)",
    ),
    "exclude of an unknown loss": (
        losses("exclude:\n  - {loss.name: dpoo}"),
        "7:17",
        "unknown loss 'dpoo' (did you mean 'dpo'?)",
    ),
    "exclude of no values": (losses("exclude:\n  - {lora.rank: []}"), "7:17", "the values of 'lora.rank' are empty"),
    "exclude of everything": (
        losses("exclude:\n  - {loss.name: [dpo, sft]}"),
        "7:5",
        "this exclude removes the baseline",
    ),
    "exclude of the baseline": (
        losses("exclude:\n  - {loss.name: sft, lora.rank: 4}\n  - {lora.rank: 4, loss.beta: [100, 200]}"),
        "8:5",
        "this exclude removes the baseline (loss.name dpo, loss.beta 100, lora.rank 4)",
    ),
    "exclude that matches nothing": (
        losses("when: {loss.beta: {loss.name: dpo}}\nexclude:\n  - {loss.name: sft, loss.beta: 200}"),
        "8:5",
        "this exclude matches no combination of the grid",
    ),
    "include is a mapping": (losses("include: {lora.rank: 16}"), "6:10", "include must be a list of mappings"),
    "include is empty": (losses("include: []"), "6:10", "include is empty"),
    "empty include": (losses("include:\n  - {}"), "7:5", "an include is empty"),
    "include of no axis": (
        losses("include:\n  - {selection.strategy: random}"),
        "7:6",
        "'include' names 'selection.strategy', which is not an axis of this sweep (a control may set other fields)",
    ),
    "include of a value out of range": (
        losses("include:\n  - {lora.rank: [16, 5000]}"),
        "7:22",
        "lora.rank must be at least 1 and at most 1024, not 5000",
    ),
    "include of what does not exist there": (
        losses("when: {loss.beta: {loss.name: dpo}}\ninclude:\n  - {loss.name: sft, loss.beta: 300}"),
        "8:22",
        "this include gives 'loss.beta', which only exists where loss.name is dpo, not sft",
    ),
    "too large an include": (
        losses(f"include:\n  - {{lora.rank: {list(range(1, 1001))}, loss.beta: {list(range(1, 1001))}}}"),
        "7:5",
        "this include adds more than 100,000 combinations",
    ),
    "when is a list": (losses("when: [loss.beta]"), "6:7", "when must be a mapping of dotted names"),
    "when is empty": (losses("when: {}"), "6:7", "when is empty"),
    "when on an unknown axis": (
        losses("when:\n  loss.bet: {loss.name: dpo}"),
        "7:3",
        "'when' names 'loss.bet', which is not an axis of this sweep (did you mean 'loss.beta'?)",
    ),
    "when of an unknown axis": (
        losses("when:\n  loss.beta: {loss.nam: dpo}"),
        "7:15",
        "'when' names 'loss.nam', which is not an axis of this sweep (did you mean 'loss.name'?)",
    ),
    "when without a condition": (losses("when:\n  loss.beta: {}"), "7:14", "the condition of 'loss.beta' is empty"),
    "when of a list": (losses("when:\n  loss.beta: [dpo]"), "7:14", "the condition of 'loss.beta' must be a mapping"),
    "when of an unknown value": (
        losses("when:\n  loss.beta: {loss.name: [dpo, dpoo]}"),
        "7:32",
        "unknown loss 'dpoo' (did you mean 'dpo'?)",
    ),
    "when of a value that is not listed": (
        losses("when:\n  loss.beta: {lora.rank: 16}"),
        "7:26",
        "16 is not a value of axis 'lora.rank' (4, 8)",
    ),
    "when on itself": (losses("when:\n  loss.beta: {loss.beta: 100}"), "7:15", "'loss.beta' cannot depend on itself"),
    "cyclic when": (
        losses("when:\n  loss.beta: {lora.rank: 4}\n  loss.name: {loss.beta: 100}\n  lora.rank: {loss.name: dpo}"),
        "8:3",
        "'when' is circular: loss.name -> loss.beta -> lora.rank -> loss.name",
    ),
    "when within a zip group": (
        whole(
            zip="zip:\n  - {lora.rank: [4], lora.alpha: [4]}",
            when="when:\n  lora.alpha: {lora.rank: 4}",
        ),
        "9:16",
        "'lora.alpha' and 'lora.rank' vary together in a zip group",
    ),
    "axis that never exists": (
        losses("when:\n  loss.beta: {loss.name: dpo}\n  lora.rank: {loss.name: sft, loss.beta: 100}"),
        "8:3",
        "'lora.rank' exists in no combination of the grid",
    ),
    "baseline gives what does not exist there": (
        whole(
            axes="axes: {loss.name: [dpo, sft], loss.beta: [100, 200]}",
            baseline="baseline: {loss.name: sft, loss.beta: 100}",
            when="when: {loss.beta: {loss.name: dpo}}",
        ),
        "4:28",
        "the baseline gives 'loss.beta', which only exists where loss.name is dpo, not sft",
    ),
    "too many cells by zip": (
        whole(
            zip=f"zip:\n  - {{lora.rank: {[4] * 300}, lora.alpha: {[4] * 300}}}\n"
            f"  - {{loss.beta: {[100] * 300}, generation.steps: {[5] * 300}}}"
        ),
        "3:7",
        "cells; at most 100,000 are planned",
    ),
    "alias in exclude": (
        losses("exclude:\n  - &e {loss.name: sft}\n  - *e"),
        "7:5",
        "anchors and aliases are not used",
    ),
    "merge key in zip": (whole(zip="zip:\n  - {<<: {lora.rank: [4]}}"), "7:6", "merge keys"),
    "tab in when": (losses("when:\n\tloss.beta: {loss.name: dpo}"), "7:1", "a tab; indent with spaces"),
    "duplicate key in when": (
        losses("when:\n  loss.beta: {loss.name: dpo}\n  loss.beta: {loss.name: sft}"),
        "8:3",
        "duplicate key 'loss.beta' (first on line 7)",
    ),
    "tab": (HEAD + "axes:\n\tquality.metric: [product]\n" + TAIL, "4:1", "a tab; indent with spaces"),
    "anchor": (whole(seeds="seeds: &s [0]"), "5:8", "anchors and aliases are not used here"),
    "alias": (whole(seeds="seeds: *s"), "5:8", "anchors and aliases are not used here"),
    "merge key": (whole(overrides="overrides: {<<: {training.steps: 5}}"), "6:13", "merge keys"),
    "bomb": (BOMB, "1:4", "anchors and aliases are not used here"),
    "deep nesting": (whole(overrides="overrides: " + "[" * 40 + "]" * 40), "6:32", "nested deeper than"),
    "python object": (
        whole(question="question: !!python/object/apply:os.system [ls]"),
        "1:11",
        "only plain values are",
    ),
    "python name": (whole(question="question: !!python/name:os.system x"), "1:11", "is not allowed"),
    "unclosed bracket": (whole(seeds="seeds: [0, 1"), "6:1", ""),
    "unclosed quote": (whole(question="question: 'q"), "6:1", ""),
    "two documents": (whole() + "---\n" + whole(), "6:1", ""),
    "numeric key": (whole(more="5: six"), "6:1", "a key must be text, not 5"),
    "bad indentation": (HEAD + "axes:\n  quality.metric: [product]\n seeds: [0]\n", "5:2", ""),
}
