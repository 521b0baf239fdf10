"""Tables for papers: what LaTeX takes as its own is escaped, every line is whole, and bold is only what is marked."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.data.load import load
from analysis.render.latex import escaped, to_latex
from analysis.statistics.build_rows import build_rows
from tests.analysis.synthetic import Cell, World, write_sweep

HOSTILE = r"a_b & 50 % of {x}~$y^2$ #1 \input{/etc/passwd} <b>|é"
_ESCAPED = re.compile(r"\\(?:[&%$#_{}]|[A-Za-z]+\{\})")


def rows_of(tmp_path, seeds=(0, 1, 2), prompts=None, **settings):
    cells = [
        Cell("metric=product", effect=0.0, seeds=seeds),
        Cell("metric=ratio", effect=3.0, seeds=seeds),
        Cell("strategy=random", effect=-3.0, role="control", seeds=seeds),
        Cell("base model", role="base", seeds=(None,)),
    ]
    world = World(cells, "metric=product", prompts=prompts or {"evaluation": 12}, pictures=False, **settings)
    results = load(tmp_path, write_sweep(tmp_path, world))
    return results.sweep, build_rows(results)


def body(text: str) -> list[str]:
    """The lines of cells of the first table."""
    lines = text.split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines()
    return [line for line in lines if line != r"\addlinespace"]


@pytest.mark.slow
@given(st.text())
def test_no_sign_is_left_that_latex_takes_as_its_own(text: str) -> None:
    left = re.sub(r"\$\^?\\?[A-Za-z-]+\$|\$-\$|\\,\\%", "", escaped(text))
    left = _ESCAPED.sub("", left)
    assert not set(left) & set("&%$#_{}~^\\<>|")


@pytest.mark.slow
def test_every_line_is_a_cell_with_its_half_width_and_mark(tmp_path) -> None:
    sweep, rows = rows_of(tmp_path)
    text = to_latex(sweep, rows)
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 3
    lines = body(text)
    assert len(lines) == 4
    assert all(len(re.findall(r"(?<!\\)&", line)) == 4 and line.endswith(r" \\") for line in lines)
    for row, line in zip(rows, lines, strict=False):
        versus = row.versus_baseline
        if versus is None:
            continue
        interval = versus.estimate.interval
        match = re.search(r"\$([+-][\d.]+) \\pm ([\d.]+)\$(\\rlap\{\$\^\{\{\*\}\}\$\})?", line)
        assert float(match[1]) == pytest.approx(versus.difference, abs=0.05)
        assert float(match[2]) == pytest.approx((interval.high - interval.low) / 2, abs=0.05)
        assert bool(match[3]) == versus.marked
    assert sum(r"\textbf" in line for line in lines) == 1
    assert r"\textbf" in lines[1], "the best cell, whose difference is marked"


@pytest.mark.slow
def test_the_highest_mean_is_plain_without_a_mark(tmp_path) -> None:
    sweep, rows = rows_of(tmp_path, seeds=(0,))
    text = to_latex(sweep, rows)
    assert r"\textbf" not in text
    assert r"\pm" not in text.split(r"\begin{minipage}")[0]
    assert "with one training seed" in text
    ratio = body(text)[1]
    assert re.search(r"\$\+[\d.]+\$ \$\[\+", ratio), "its interval over prompts"
    below = re.search(r"\$-[\d.]+\$ (\S+ \S+) &", body(text)[2])
    assert re.fullmatch(r"\$\[-[\d.]+, -[\d.]+\]\$", below[1]), "signs that are minus, not hyphens"


@pytest.mark.slow
def test_what_makes_a_table_doubtful_is_below_it(tmp_path) -> None:
    """As in the other formats: few prompts, and images that count in no cell."""
    sweep, rows = rows_of(tmp_path, seeds=(0,), prompts={"evaluation": 1})
    rows = [dataclasses.replace(row, images_left_out=1, left_out_by=("'metric=ratio' seed 0: 1",)) for row in rows]
    text = to_latex(sweep, rows)
    assert "Only 1 prompt: with fewer than 10, no interval is to be trusted." in text
    assert "1 images are left out of every cell" in text
    assert r"1 prompt $\times$" in text
    assert r"\pm" not in text, "brackets are explained there, half widths are not"
    assert re.search(r"\$\+[\d.]+\$ --- &", body(text)[1]), "one prompt has no interval"


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="waits for pdflatex on this machine")
def test_latex_sets_hostile_names(tmp_path) -> None:
    sweep, rows = rows_of(tmp_path)
    rows = [dataclasses.replace(row, cell=HOSTILE) for row in rows]
    text = to_latex(dataclasses.replace(sweep, question=HOSTILE), rows)
    page = "\n".join([r"\documentclass{article}\usepackage{booktabs}\begin{document}", text, r"\end{document}"])
    (tmp_path / "page.tex").write_text(page)
    line = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
