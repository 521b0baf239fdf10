"""Malformed training seeds of a sweep, fixed or in looks, with the place and the words of the answer."""

from __future__ import annotations

from tests.ablations.sound_sweep import whole

SEEDS: dict[str, tuple[str, str, str]] = {
    "looks with another key": (
        whole(seeds="seeds: {looks: [3, 5], margins: 0.1}"),
        "5:24",
        "unknown key 'margins' in seeds (did you mean 'margin'?); known: looks, margin",
    ),
    "no looks": (whole(seeds="seeds: {margin: 0.1}"), "5:8", "seeds has no 'looks'; for example  seeds: {looks: [3,"),
    "one look": (whole(seeds="seeds: {looks: [3]}"), "5:16", "looks needs at least two numbers of seeds; a fixed"),
    "looks that shrink": (whole(seeds="seeds: {looks: [3, 5, 5]}"), "5:23", "more seeds than the one before it, but 5"),
    "a look at one seed": (whole(seeds="seeds: {looks: [1, 5]}"), "5:17", "a number of seeds from 2 to 1000, not 1"),
    "looks is a number": (whole(seeds="seeds: {looks: 5}"), "5:16", "looks must be a list of numbers of seeds, not 5"),
    "a margin of nothing": (
        whole(seeds="seeds: {looks: [3, 5], margin: 0}"),
        "5:32",
        "margin is a difference above 0 in the unit of the primary scorer, not 0",
    ),
    "seeds is a number": (
        whole(seeds="seeds: 3"),
        "5:8",
        "seeds must be a list of whole numbers, not 3; for example  seeds: [3]",
    ),
    "seeds without brackets": (
        whole(seeds="seeds: 0,1"),
        "5:8",
        "seeds must be a list of whole numbers, not 0,1; for example  seeds: [0, 1]",
    ),
    "seeds is text": (whole(seeds="seeds: some"), "5:8", "not some; for example  seeds: [0, 1, 2]"),
    "seeds is empty": (whole(seeds="seeds: []"), "5:8", "seeds is empty"),
    "seed is text": (whole(seeds="seeds: [0, one]"), "5:12", "a seed must be a whole number"),
    "seed is negative": (whole(seeds="seeds: [-1]"), "5:9", "a seed must be a whole number from 0"),
    "seed is true": (whole(seeds="seeds: [true]"), "5:9", "a seed must be a whole number"),
    "seed is broken": (whole(seeds="seeds: [0.5]"), "5:9", "a seed must be a whole number"),
}
