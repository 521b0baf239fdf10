"""What ``ablate plan`` says of power: sources of variances, the line, ``--detect`` and its price, and wrong input."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ablations.cost.estimate import find_site
from ablations.grid.spec import read_sweep
from ablations.planning.plan import Plan, make_plan
from ablations.power.prices import Prices
from ablations.power.replication import replication
from ablations.store.artefacts import Store
from analysis.data.variances import Judged, Variances, finished_family
from analysis.statistics.power import detectable, variances
from qsd.stages import spec as real_stages
from tests.ablations.command import ablate
from tests.ablations.conftest import SWEEP
from tests.conftest import ROOT

STATED = "seeds=4.9e-5,prompts=0.0012,both=0.0042"
THREE_SEEDS = SWEEP.replace("[0, 1]", "[0, 1, 2]")


@pytest.fixture
def prompts(assets: Path) -> Path:
    """A project with 40 prompts in the primary split, of which a sweep uses all."""
    lines = [f"p{number},prompt {number},evaluation" for number in range(40)]
    (assets / "world" / "prompts.csv").write_text("\n".join(["prompt_id,caption,split", *lines, "s,seen,seen"]) + "\n")
    (assets / "sweeps" / "good.yaml").write_text(THREE_SEEDS)
    return assets


def estimate(seed_variance: float = 4e-4) -> dict[str, Any]:
    return {"seed_variance": seed_variance, "prompt_variance": 0.002, "residual_variance": 0.004}


def write_rows(root: Path, name: str, cells: dict[str, Any], **changes: Any) -> None:
    """``rows.json`` of a finished sweep: the baseline and ``cells``, each {"difference", "estimate"}."""
    rows = []
    for cell, comparison in {"baseline": None, **cells}.items():
        versus = comparison and {"by_seed": {"0": 0.0, "1": 0.0, "2": 0.0}, "mark": {"given": False}, **comparison}
        rows.append(
            {
                "cell": cell,
                "is_baseline": cell == "baseline",
                "axes": json.dumps({"x": cell}),
                "scorer": "aesthetic_emoji",
                "split": "evaluation",
                "images_per_prompt": 2,
                "prompts": 40,
                "versus_baseline": versus,
                **changes,
            }
        )
    folder = root / "runs" / "sweeps" / name
    folder.mkdir(parents=True)
    (folder / "rows.json").write_text(json.dumps(rows))


def power_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert ablate("plan", "good", "--json", *arguments) == 0
    figures: dict[str, Any] = json.loads(capsys.readouterr().out)["power"]
    return figures


def plan_of(text: str = THREE_SEEDS) -> Plan:
    Path("sweeps/planned.yaml").write_text(text)
    return make_plan(read_sweep(Path("sweeps/planned.yaml")), real_stages)


def test_without_a_source_one_line_says_what_would_give_one(prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate("plan", "good") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "detectable" in line]
    assert line.startswith("smallest detectable difference: unknown: no sweep of tiny in this store has finished ")
    assert all(
        way in line for way in ("two or more seeds", "--pilot", "--variances", "'variances' in the sweep's file")
    )
    assert ablate("plan", "good", "--detect", "0.01") == 2
    assert "--detect needs variances: unknown: no sweep of tiny" in capsys.readouterr().err


def test_stated_variances_give_the_figures_of_the_rule(prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    components = Variances(4.9e-5, 0.0012, 0.0042)
    figures = power_of(capsys, "--variances", STATED)
    assert (figures["seeds"], figures["prompts"], figures["comparisons"]) == (3, 40, 3)
    assert figures["alone"] == pytest.approx(detectable(components, 3, 40, 3, corrected=False))
    assert figures["holm"] == pytest.approx(detectable(components, 3, 40, 3))
    assert ablate("plan", "good", "--variances", STATED) == 0
    output = capsys.readouterr().out
    assert (
        f"{figures['alone']:.3g} for one comparison, {figures['holm']:.3g} with Holm over 3 comparisons (level 0.05/3)"
        in (output)
    )
    assert "under aesthetic_emoji with 3 seeds x 40 prompts; variances: stated on the command line" in output


def test_variances_of_the_file_yield_to_those_of_the_command_line(
    prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (prompts / "sweeps" / "good.yaml").write_text(THREE_SEEDS + "variances: {seeds: 1, prompts: 0, both: 2e-3}\n")
    assert power_of(capsys)["origin"] == "stated in sweeps/good.yaml"
    assert power_of(capsys)["variances"] == {"seeds": 1.0, "prompts": 0.0, "both": 0.002}
    assert power_of(capsys, "--variances", STATED)["variances"]["seeds"] == 4.9e-5


def test_an_earlier_sweep_is_found_and_the_one_whose_seeds_say_most_is_taken(
    prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(prompts, "little@tiny", {"a": {"difference": 0.1, "estimate": estimate(9.0)}})
    write_rows(
        prompts,
        "much@tiny",
        {
            name: {"difference": 0.001, "estimate": estimate(value)}
            for name, value in (("a", 1e-4), ("b", 4e-4), ("c", 9e-4))
        },
    )
    write_rows(prompts, "other@elsewhere", {name: {"difference": 5.0, "estimate": estimate(7.0)} for name in "abcde"})
    figures = power_of(capsys)
    assert figures["origin"] == "3 comparisons of much@tiny (with 2 images per prompt instead of 1: an upper bound)"
    family = finished_family(prompts / "runs" / "sweeps" / "much@tiny", Judged("aesthetic_emoji", "evaluation"))
    assert family is not None
    own = variances(family.observed)
    assert figures["variances"] == pytest.approx({"seeds": own.seeds, "prompts": 2 * own.prompts, "both": 2 * own.both})
    assert own.seeds == pytest.approx(4e-4 * 2 / 1.386294 - own.both / 40, rel=1e-5)


def test_a_pilot_is_taken_at_its_upper_limit(prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(prompts, "first@tiny", {"a": {"difference": 0.1, "estimate": estimate()}}, images_per_prompt=1)
    plain, pilot = power_of(capsys), power_of(capsys, "--pilot", "first")
    assert pilot["origin"] == "upper 80 % limits from 1 comparison of first@tiny"
    assert pilot["holm"] > 1.3 * plain["holm"]
    assert power_of(capsys, "--pilot", "first@tiny") == pilot == power_of(capsys, "--pilot", "runs/sweeps/first@tiny")


def test_a_sweep_that_cannot_see_what_earlier_ones_found_is_warned_of(
    prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = {"a": {"difference": -0.009, "estimate": estimate()}, "b": {"difference": 0.004, "estimate": estimate()}}
    write_rows(prompts, "first@tiny", cells)
    assert power_of(capsys)["largest_found"] == {"cell": "a", "sweep": "first@tiny", "difference": 0.009}
    assert ablate("plan", "good") == 0
    output = capsys.readouterr().out
    assert (
        "warning: this sweep can miss a difference as large as the largest that earlier sweeps found, 0.009" in output
    )
    assert "'ablate plan good --detect 0.009'" in output
    assert power_of(capsys, "--variances", "seeds=1e-9,prompts=0,both=1e-9")["largest_found"] is None


def test_differences_of_replicates_are_none_to_look_for(tmp_path: Path) -> None:
    write_rows(tmp_path, "aa@tiny", {"a": {"difference": 0.5, "estimate": estimate()}}, axes='{"replicate": 1}')
    family = finished_family(tmp_path / "runs" / "sweeps" / "aa@tiny", Judged("aesthetic_emoji", "evaluation"))
    assert family is not None
    assert (len(family.observed), family.largest) == (1, None)


@pytest.mark.parametrize("content", ["", "[]", "{}", "[1]", '[{"cell": "a"}]', "null"])
def test_a_damaged_table_of_another_sweep_stops_no_plan(
    prompts: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    write_rows(prompts, "first@tiny", {})
    (prompts / "runs" / "sweeps" / "first@tiny" / "rows.json").write_text(content)
    assert power_of(capsys)["unknown"].startswith("unknown: no sweep of tiny")


def test_a_table_of_an_earlier_version_says_how_it_is_renewed(
    prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(prompts, "first@tiny", {"a": {"difference": 0.1, "estimate": {"seed_variance": 1e-4}}})
    assert "'ablate table first --experiment tiny' writes it again" in power_of(capsys)["unknown"]
    assert ablate("plan", "good", "--pilot", "first") == 2
    assert "error: --pilot first: the table of first@tiny is of an earlier version" in capsys.readouterr().err


def test_unfinished_comparisons_give_no_variances(prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(prompts, "first@tiny", {"a": {"difference": 0.1, "estimate": estimate(), "mark": None}})
    assert power_of(capsys)["unknown"].startswith("unknown: no sweep of tiny")
    assert ablate("plan", "good", "--pilot", "first") == 2
    assert "has no comparison with its baseline of two or more finished training seeds" in capsys.readouterr().err


def test_one_seed_detects_nothing_and_says_why(prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate("plan", "good", "--seeds", "0", "--variances", STATED, "--detect", "0.05") == 0
    output = capsys.readouterr().out
    assert "smallest detectable difference: none with 1 seed x 40 prompts, because with one training seed" in output
    assert "to detect a true difference of 0.05 with a chance of 80 %, at the lowest price:" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--detect", "0"),
            "--detect must be a difference above 0 in the primary scorer's unit, such as 0.01, not '0'",
        ),
        (("--detect", "-0.1"), "not '-0.1'"),
        (("--detect", "much"), "not 'much'"),
        (("--detect", "nan"), "not 'nan'"),
        (("--detect", "inf"), "not 'inf'"),
        (("--variances", "seeds=-1,prompts=1,both=1"), "--variances: seeds must be a number of at least 0, not '-1'"),
        (("--variances", "seeds=1,prompts=x,both=1"), "prompts must be a number of at least 0, not 'x'"),
        (("--variances", "seeds=1,prompts=1"), "--variances: both is missing; for example --variances seeds="),
        (("--variances", "seed=1"), "unknown part 'seed' (did you mean 'seeds'?)"),
        (("--variances", "seeds=1,seeds=2,both=1"), "--variances: 'seeds' is given twice"),
        (("--variances", "seeds=0,prompts=0,both=0"), "at least one must be above 0"),
        (("--pilot", "a", "--variances", STATED), "--pilot and --variances cannot be used together"),
        (("--pilot", "a"), "--pilot: no results of 'a' in runs/sweeps; known: none"),
    ],
)
def test_wrong_input_is_answered_with_the_place_and_the_remedy(
    prompts: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert ablate("plan", "good", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("written", "place", "message"),
    [
        ("{seeds: -1, prompts: 1, both: 1}", "9:20", "variances.seeds must be a number of at least 0, not -1"),
        ("{seeds: true, prompts: 1, both: 1}", "9:20", "variances.seeds must be a number of at least 0, not true"),
        ("{seeds: 1}", "9:12", "variances: prompts, both are missing; for example  variances: {seeds: "),
        ("{sed: 1}", "9:13", "unknown key 'sed' in variances (did you mean 'seeds'?)"),
        ("0.1", "9:12", "variances must be a mapping of dotted names, not 0.1"),
    ],
)
def test_wrong_variances_in_a_file_are_named_with_their_place(
    prompts: Path, capsys: pytest.CaptureFixture[str], written: str, place: str, message: str
) -> None:
    (prompts / "sweeps" / "good.yaml").write_text(f"{SWEEP}variances: {written}\n")
    assert ablate("plan", "good") == 2
    assert f"error: sweeps/good.yaml:{place}: {message}" in capsys.readouterr().err


@pytest.mark.slow
def test_the_answer_to_detect_is_enough_and_the_cheapest(prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Against a search of all numbers of seeds and prompts, with the same prices."""
    from analysis.statistics.power import power

    options = power_of(capsys, "--variances", STATED, "--detect", "0.04")["detect"]
    components, plan = Variances(4.9e-5, 0.0012, 0.0042), plan_of()
    prices = Prices(plan, Store(Path("runs"), real_stages.key_of), find_site("local", None, "cpu"))
    for name, corrected in (("alone", False), ("holm", True)):
        option = options[name]
        enough = [
            (prices.price(seeds, count).amount, seeds, count)
            for seeds in range(2, 13)
            for count in range(2, 41)
            if power(0.04, components, seeds, count, 3, corrected) >= 0.8
        ]
        assert (option["seeds"], option["prompts"]) == min(enough)[1:]
        assert sum(option["seconds"].values()) == pytest.approx(min(enough)[0])
    assert sum(options["holm"]["seconds"].values()) > sum(options["alone"]["seconds"].values())


def test_a_difference_that_these_prompts_cannot_show(prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate("plan", "good", "--variances", STATED, "--detect", "0.0001") == 0
    output = capsys.readouterr().out
    smallest = detectable(Variances(4.9e-5, 0.0012, 0.0042), 20, 40, 3)
    assert f"not within 20 seeds x 40 prompts, which detect {smallest:.3g}" in output


def test_the_price_of_the_planned_sweep_is_the_planners(prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the planned seeds and all prompts, the price is the estimate of the whole plan, kind by kind."""
    assert ablate("plan", "good", "--json") == 0
    stages = json.loads(capsys.readouterr().out)["estimate"]["stages"]
    prices = Prices(plan_of(), Store(Path("runs"), real_stages.key_of), find_site("local", None, "cpu"))
    price = prices.price(3, 40)
    assert {stage: seconds / 3600 for stage, seconds in price.seconds.items()} == pytest.approx(
        {stage: kind["hours"] for stage, kind in stages.items()}
    )
    more = prices.price(6, 40).seconds
    assert more["train"] == pytest.approx(2 * price.seconds["train"])
    assert more["score"] == pytest.approx(price.seconds["score"])
    assert price.seconds["generate"] < more["generate"] < 2 * price.seconds["generate"], "the base model's images once"
    fewer = prices.price(3, 10).seconds
    assert fewer["train"] == price.seconds["train"]
    assert fewer["generate"] < price.seconds["generate"]


def test_the_family_counts_each_evaluation_once(prompts: Path) -> None:
    assert replication(plan_of()).comparisons == 3
    merged = THREE_SEEDS.replace("  - {selection.strategy: random}", "  - {quality.metric: winner_only}")
    assert replication(plan_of(merged)).comparisons == 2
    alone = THREE_SEEDS.replace("[product, difference, winner_only]", "[product]")
    alone = alone.replace("controls:\n  - {selection.strategy: random}\n", "")
    assert replication(plan_of(alone)).comparisons == 0
    limited = replication(plan_of(THREE_SEEDS + "overrides: {evaluation.prompts_per_split: 7}\n"))
    assert (limited.prompts, limited.prompts_available) == (7, 40)


def test_nothing_to_compare_is_said(prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = THREE_SEEDS.replace("[product, difference, winner_only]", "[product]")
    (prompts / "sweeps" / "good.yaml").write_text(alone.replace("controls:\n  - {selection.strategy: random}\n", ""))
    assert power_of(capsys, "--variances", STATED)["unknown"] == "there is no other cell to compare with the baseline"


def test_the_size_of_a_family_is_of_little_weight_in_time(prompts: Path) -> None:
    """Ten thousand comparisons are one call of the same arrays: the figure is finite and above that of one."""
    components = Variances(4.9e-5, 0.0012, 0.0042)
    large, small = detectable(components, 3, 312, 10_000), detectable(components, 3, 312, 10)
    assert large is not None
    assert small is not None
    assert small < large < math.inf


_PROBE = """
import sys
sys.argv = ["ablate", "plan", "good", *sys.argv[1:]]
from ablations.cli import main
try:
    main()
except SystemExit as exit_:
    assert not exit_.code, exit_.code
print([name for name in ("torch", "pandas", "scipy", "scipy.stats", "matplotlib") if name in sys.modules])
"""


@pytest.mark.slow
def test_a_plan_loads_no_torch_and_scipy_only_where_there_are_variances(prompts: Path) -> None:
    def loaded(*arguments: str) -> str:
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{_PROBE}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]

    assert loaded() == "[]"
    assert loaded("--variances", STATED, "--detect", "0.05") == "['scipy']"
