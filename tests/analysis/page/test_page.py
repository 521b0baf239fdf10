"""The page in a real browser: it works from disk alone, sorts, filters, zooms by keys, and hostile texts stay texts."""

from __future__ import annotations

import json
import re

import pytest

from analysis.page.content import content
from analysis.page.present import NAME, is_present
from analysis.page.write import duration, render, write_page
from analysis.report import write
from tests.analysis.synthetic import Cell, usual_world, write_sweep
from tests.browser import chromium, opened, started

pytestmark = pytest.mark.slow
HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>{{ 7 * 7 }}&amp;"
RUN = {
    "stage_seconds": 5400.0,
    "gpu_hours": 0.0,
    "seconds_without_sharing": 10_800.0,
    "saved_by_sharing": 0.5,
    "stages": {
        "train": {"stages": 12, "done": 11, "attempts": 13, "seconds": 5000.0, "gpu_seconds": 0, "bytes": 10**6}
    },
    "commits": ["0123abc"],
    "versions": {"torch": ["2.0"]},
}


@pytest.fixture(scope="module")
def browser():
    program = chromium()
    if program is None:
        pytest.skip("waits for a Chromium on this machine")
    with started(program) as running:
        yield running


@pytest.fixture(scope="module")
def page_of(tmp_path_factory):
    """Write a sweep, its tables and its page; the page's path."""

    def made(world, question=None, rename=None):
        runs = tmp_path_factory.mktemp("page")
        folder = write_sweep(runs, world)
        cells = folder / "cells.json"
        content = json.loads(cells.read_text())
        content["question"] = question or content["question"]
        for cell in content["cells"]:
            cell["name"], cell["base"] = (rename or {}).get(cell["name"], cell["name"]), cell["base"]
        cells.write_text(json.dumps(content))
        (folder / "run.json").write_text(json.dumps(RUN))
        write(runs, folder)
        return write_page(runs, folder)

    return made


@pytest.fixture(scope="module")
def usual(page_of):
    world = usual_world(prompts={"evaluation": 14, "seen": 4})
    world.cells.insert(3, Cell("metric=ratio", 0.1, axes={"quality.metric": "ratio"}, diverged=(1,)))
    return page_of(world)


def test_it_is_written_again_only_when_what_it_shows_changes(usual) -> None:
    folder = usual.parent
    assert is_present(folder)
    (folder / "run.json").write_text(json.dumps({**RUN, "gpu_hours": 1.0}))
    assert not is_present(folder)
    (folder / "run.json").write_text(json.dumps(RUN))
    assert is_present(folder)
    assert usual.name == NAME


def test_a_run_that_is_not_finished_states_no_saving(usual) -> None:
    text = render({**content(usual.parent.parent.parent, usual.parent), "shows": ""})
    assert "without sharing between cells it would have been 3 h 0 min (50 % saved)." in text
    unfinished = {**RUN, "seconds_without_sharing": None, "saved_by_sharing": None}
    text = render({**content(usual.parent.parent.parent, usual.parent), "shows": "", "run": unfinished})
    assert "1 h 30 min of stages.</p>" in text


def test_nothing_is_reported_and_nothing_is_asked_of_a_network(usual, browser) -> None:
    with opened(browser, usual) as (page, reports):
        page.mouse.wheel(0, 20_000)
        page.wait_for_selector(".tile")
        assert page.locator("h1").inner_text() == "Does the product form of Q matter, or is any score gap enough?"
        assert page.locator("#compute").inner_text().count("1 h 30 min of stages") == 1
        assert "metric=ratio seed 1: diverged" in page.locator("#states").inner_text().replace("\n", " ")
        assert reports == []


def test_tables_sort_by_their_numbers(usual, browser) -> None:
    with opened(browser, usual) as (page, _):
        table = page.locator("table.sortable").first
        button = table.get_by_role("button", name="Mean", exact=True)

        def means() -> list[float]:
            texts = table.locator("tbody tr td:nth-child(2)").all_inner_texts()
            return [float(text) for text in texts if text != "—"]

        before = means()
        button.focus()
        page.keyboard.press("Enter")
        assert means() == sorted(before)
        assert table.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
        page.keyboard.press("Enter")
        assert means() == sorted(before, reverse=True)
        assert means() != before
        last = table.locator("tbody tr").last.inner_text()
        assert "metric=ratio" in last, "a cell without a mean stays last"
        difference = table.get_by_role("button", name="vs base model", exact=True)
        difference.focus()
        for direction in ("ascending", "descending"):
            page.keyboard.press("Enter")
            assert table.locator("th[aria-sort]").get_attribute("aria-sort") == direction
            lines = table.locator("tbody tr").all_inner_texts()
            assert "diverged 1 of 3" in lines[-2], f"{direction}: a text among numbers stays behind them"
            assert "base model" in lines[-1]


def test_one_field_filters_tables_pictures_and_curves(usual, browser) -> None:
    with opened(browser, usual) as (page, _):
        page.fill("#cell-filter", "METRIC=")
        names = page.locator("table.sortable").first.locator("tbody tr:visible th").all_inner_texts()
        assert len(names) == 4
        assert all("metric=" in name for name in names)
        assert page.locator("#cell-count").inner_text() == "4 of 6 cells"
        page.locator("#pictures").scroll_into_view_if_needed()
        page.wait_for_selector(".tile")
        assert len(page.locator(".heads .head").all_inner_texts()) == 4
        assert page.locator(".prompt").first.locator(".tile").count() == 4
        assert len(page.locator("#plot .legend li").all_inner_texts()) == 4
        page.fill("#caption-filter", "panda")
        shown = page.locator(".prompt:visible .words").all_inner_texts()
        assert shown
        assert all("panda" in words for words in shown)


def test_the_steps_below_a_curve_are_whole_and_named_once(page_of, browser) -> None:
    with opened(browser, page_of(usual_world(prompts={"evaluation": 14}, steps=4))) as (page, _):
        assert page.locator("#plot text.step").all_text_contents() == ["1", "2", "3", "4"]


def test_a_picture_opens_by_key_and_arrows_lead_to_its_neighbours(usual, browser) -> None:
    with opened(browser, usual) as (page, _):
        page.locator("#pictures").scroll_into_view_if_needed()
        page.wait_for_selector(".tile")
        page.locator(".tile").first.focus()
        page.keyboard.press("Enter")
        dialog = page.locator("#zoom")
        assert dialog.is_visible()
        first = (page.locator("#zoom-title").inner_text(), page.locator("#zoom-caption").inner_text())
        scores = page.locator("#zoom-scores dd").all_inner_texts()
        assert len(scores) == 3
        assert all(re.fullmatch(r"-?[\d.e-]+", score) for score in scores)
        page.keyboard.press("ArrowRight")
        assert page.locator("#zoom-title").inner_text() != first[0]
        page.keyboard.press("ArrowDown")
        assert page.locator("#zoom-caption").inner_text() != first[1]
        page.keyboard.press("Escape")
        assert not dialog.is_visible()


def test_prompts_come_in_the_order_that_is_chosen(usual, browser) -> None:
    with opened(browser, usual) as (page, _):
        data = json.loads(page.locator("#gallery-data").text_content())
        names = [order["name"] for order in data["orders"]]
        assert names[0] == "judges contradict each other most"
        assert len(names) == 4
        page.select_option("#order", label=names[1])
        page.locator("#pictures").scroll_into_view_if_needed()
        page.wait_for_selector(".tile")
        order = [int(row) for row in page.locator(".prompt").evaluate_all("all => all.map(one => one.dataset.prompt)")]
        values = [data["orders"][1]["values"][prompt] for prompt in order]
        assert values == sorted(values, reverse=True)
        assert order != list(range(len(order)))


def test_a_narrow_window_scrolls_tables_and_not_the_page(usual, browser) -> None:
    with opened(browser, usual, width=360, height=700) as (page, reports):
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.locator(".wide").first.evaluate("one => one.scrollWidth > one.clientWidth")
        assert reports == []


def test_hostile_texts_stay_texts(page_of, browser, monkeypatch) -> None:
    monkeypatch.setattr("tests.analysis.synthetic.THINGS", (HOSTILE,))
    world = usual_world(prompts={"evaluation": 4})
    path = page_of(world, question=HOSTILE, rename={"metric=ratio": HOSTILE, "metric=difference": HOSTILE})
    with opened(browser, path) as (page, reports):
        page.locator("#pictures").scroll_into_view_if_needed()
        page.wait_for_selector(".tile")
        page.locator(".tile").first.click()
        assert page.evaluate("window.hacked") is None
        assert page.locator("h1").inner_text() == HOSTILE
        assert HOSTILE in page.locator("#zoom-caption").inner_text()
        assert HOSTILE in page.locator("table.sortable").first.inner_text()
        assert reports == []


def test_fifty_cells_and_two_hundred_prompts_stay_quick(page_of, browser) -> None:
    """A picture's row appears, cells are filtered and prompts are ordered, each within a few frames' worth of work."""
    cells = [Cell(f"cell={number:02}", seeds=(0,), axes={"lora.rank": number}) for number in range(49)]
    cells.append(Cell("base model", role="base", seeds=(None,)))
    path = page_of(
        usual_world(cells=cells, baseline="cell=00", prompts={"evaluation": 200}, images=1, pixels=16, pairs=400)
    )
    assert path.stat().st_size < 48 * 2**20
    with opened(browser, path) as (page, reports):
        page.locator("#pictures").scroll_into_view_if_needed()
        page.wait_for_selector(".tile")
        filled = page.locator(".prompt:has(.tile)").count()
        assert filled < 60, "rows out of sight are not filled"
        page.select_option("#order", index=1)
        page.fill("#cell-filter", "cell=1")
        page.wait_for_selector(".heads .head:nth-child(11)")
        assert page.locator(".heads .head").count() == 10
        page.locator("#pictures").evaluate("one => { one.scrollTop = one.scrollHeight }")
        page.wait_for_selector(".prompt:last-child .tile:nth-child(11)")
        assert reports == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (42, "42 s"), (185, "3 min 5 s"), (7800, "2 h 10 min"), (273_600, "3 d 4 h")]
)
def test_durations_read_as_people_say_them(seconds, text) -> None:
    assert duration(seconds) == text


def test_the_verdict_is_below_the_question(page_of):
    text = page_of(usual_world(prompts={"evaluation": 12}, pixels=16)).read_text(encoding="utf-8")
    assert re.search(r"</h1>\s*<p class=\"verdict\"><strong>Verdict\.</strong> By judge on evaluation, ", text)
