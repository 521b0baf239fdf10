"""Ids, names and tags: what W&B accepts, and different for different cells."""

from __future__ import annotations

import re

import pytest

from ablations.tracking import run_names


def test_an_id_is_readable_where_it_can_be() -> None:
    assert run_names.run_id("loss", "emoji", "0123456789ab", 2) == "loss-emoji-0123456789ab-s2"
    assert run_names.run_id("loss", "emoji", "0123456789ab", None) == "loss-emoji-0123456789ab-base"
    assert run_names.report_id("loss", "emoji") == "loss-emoji-report"


@pytest.mark.parametrize(
    "one, other",
    [
        (("a-b", "c"), ("a", "b-c")),
        (("a b", "c"), ("a:b", "c")),
        (("s" * 200 + "1", "e"), ("s" * 200 + "2", "e")),
        (("s", "e" * 200 + "1"), ("s", "e" * 200 + "2")),
    ],
)
def test_different_sweeps_have_different_ids_that_wandb_accepts(one: tuple[str, str], other: tuple[str, str]) -> None:
    for make in (lambda pair: run_names.run_id(*pair, "c", 0), lambda pair: run_names.report_id(*pair)):
        ids = [make(one), make(other)]
        assert len(set(ids)) == 2
        assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", run_id) for run_id in ids)


def test_cells_and_seeds_of_a_long_sweep_keep_their_ends() -> None:
    ids = {run_names.run_id("s" * 300, "e", cell, seed) for cell in ("c1", "c2") for seed in (0, 1, None)}
    assert len(ids) == 6
    assert {len(run_id) for run_id in ids} == {128}


@pytest.mark.parametrize("shorten, most", [(run_names.name, 128), (run_names.tag, 64)])
def test_what_is_cut_stays_different(shorten, most) -> None:
    texts = ["x" * most, "x" * (most + 1), "x" * (most + 2), "x" * 500]
    cut = [shorten(text) for text in texts]
    assert cut[0] == texts[0]
    assert {len(text) for text in cut} == {most}
    assert len(set(cut)) == 4
