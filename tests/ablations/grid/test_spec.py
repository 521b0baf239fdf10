"""Every mistake in a sweep file is answered with its place, without a traceback, with exit status 2."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablations.grid.expand import expand
from ablations.grid.spec import read_sweep
from qsd.config.load import defaults
from qsd.errors import UserError
from tests.ablations import fake_stages
from tests.ablations.command import ablate
from tests.ablations.malformed import MALFORMED


@pytest.mark.slow
@pytest.mark.parametrize("name", MALFORMED)
def test_mistake_is_named_with_its_place(name: str, world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, place, message = MALFORMED[name]
    (world / "sweeps" / "x.yaml").write_text(text)
    assert ablate("plan", "x") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: sweeps/x.yaml:{place}: "), error
    assert message in error
    assert "Traceback" not in error
    assert error.count("\n") == 1


REQUIRED = {"reward.model": "clip_emoji", "evaluation.scorers": ["clip_emoji"], "training.steps": 3}
WHOLE = """\
question: q
experiment: tiny
axes:
  loss.name: [dpo, sft]
  loss.beta: [100, 2e3]
zip:
  - {lora.rank: [4, 8], lora.alpha: [null, 16]}
when: {loss.beta: {loss.name: dpo}}
exclude:
  - {loss.name: sft, lora.rank: [8]}
include: [{lora.rank: 64}]
controls: [{selection.strategy: random}]
baseline: {loss.name: dpo, loss.beta: 100, lora.rank: 4}
seeds: [0, 1]
overrides: {training: {steps: 7}, lora.targets: [to_q]}
"""


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_damage_to_a_file_gives_a_traceback(world: Path, data: st.DataObject) -> None:
    """Pieces cut out, doubled, or replaced by what YAML finds hard: it is read, or refused with its place."""
    text = WHOLE
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        stop = data.draw(st.integers(start, min(len(text), start + 30)))
        hard = [
            "",
            ":",
            "- ",
            "[",
            "]",
            "{",
            "}",
            "\t",
            "null",
            "true",
            "-1",
            "1e400",
            "'",
            '"',
            "&a ",
            "*a",
            "!!x ",
            "\n",
            "? ",
            "~",
        ]
        piece = data.draw(
            st.sampled_from([*hard, text[start:stop] * 2, "loss.name", "lora.rank", "[[to_q]]", "2001-01-01"])
        )
        text = text[:start] + piece + text[stop:]
    path = Path("sweeps/x.yaml")
    path.write_text(text)
    refusal = ""
    try:
        sweep = read_sweep(path)
    except UserError as error:
        refusal = str(error)
    if refusal:
        assert re.fullmatch(r"sweeps/x\.yaml:\d+:\d+: .+", refusal)
    else:
        expand(sweep, defaults() | REQUIRED, fake_stages)


@pytest.mark.parametrize(
    "raw",
    [b"question: \xff\xfe\n", b"question: a\x00b\n", b"question: " + b"x" * 1_100_000],
    ids=["latin-1", "null character", "too large"],
)
def test_unreadable_bytes(raw: bytes, world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "sweeps" / "x.yaml").write_bytes(raw)
    assert ablate("plan", "x") == 2
    assert capsys.readouterr().err.startswith("error: sweeps/x.yaml:1:1: ")


def test_unknown_sweep_names_a_near_one(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate("plan", "goood") == 2
    assert "unknown sweep 'goood': there is no sweeps/goood.yaml (did you mean 'good'?)" in capsys.readouterr().err


def test_a_folder_without_sweeps_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ablate("plan", "good") == 2
    expected = f"there is no sweeps/good.yaml; {tmp_path} has no folder sweeps/: run this in the project's folder"
    assert expected in capsys.readouterr().err


def test_a_path_names_a_near_one(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate("plan", "sweeps/good.yml") == 2
    assert "there is no sweeps/good.yml (did you mean 'sweeps/good.yaml'?)" in capsys.readouterr().err


def test_unknown_cluster_and_seeds(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate("run", "good", "--cluster", "mars") == 2
    assert "unknown cluster 'mars'" in capsys.readouterr().err
    assert ablate("plan", "good", "--seeds", "0,zero") == 2
    assert "--seeds must be different whole numbers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ("0,00", "without leading zeros, not '0,00'"),
        ("1,1", "different whole numbers"),
        ("\u0661", "different whole numbers"),
        ("2147483648", "from 0 to 2147483647, not 2147483648"),
        ("9" * 5000, f"from 0 to 2147483647, not {'9' * 40}\n"),
    ],
)
def test_seeds_on_the_command_line_are_checked_like_those_of_a_file(
    world: Path, capsys: pytest.CaptureFixture[str], seeds: str, message: str
) -> None:
    assert ablate("plan", "good", "--seeds", seeds) == 2
    assert message in capsys.readouterr().err


def test_control_characters_of_a_question_are_escaped(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (world / "sweeps" / "good.yaml").read_text()
    changed = re.sub(r"question:.*", lambda _: r'question: "does\n it \x1b[31m work \u202e?"', text)
    (world / "sweeps" / "odd.yaml").write_text(changed)
    assert read_sweep(Path("sweeps/odd.yaml")).question == r"does it \x1b[31m work \u202e?"
    assert ablate("plan", "\x1b[31m") == 2
    assert "\x1b" not in capsys.readouterr().err


def test_mistake_in_the_experiment_is_named_there(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (world / "experiments" / "tiny.yaml").read_text().replace("steps: 3", "steps: many")
    (world / "experiments" / "tiny.yaml").write_text(text)
    assert ablate("plan", "good") == 2
    assert capsys.readouterr().err.startswith(
        "error: experiments/tiny.yaml:4:19: training.steps must be a whole number"
    )


def test_every_clause_is_read_as_written(world: Path) -> None:
    text = """
question: q
experiment: tiny
axes:
  loss.name: [dpo, sft]
  loss.beta: [100, 200]
  lora.targets: [[to_q], [to_q, to_v]]
zip:
  - {lora.rank: [4, 8], lora.alpha: [8, null]}
when:
  loss.beta: {loss.name: dpo}
exclude:
  - {lora.targets: [to_q, to_v], lora.rank: 8}
  - {lora.targets: [[to_q, to_v]], loss.beta: [200]}
include:
  - {lora.rank: 64, loss.beta: [300, 400]}
baseline: {loss.name: dpo, loss.beta: 100, lora.targets: [to_q], lora.alpha: null}
seeds: [0]
"""
    (world / "sweeps" / "full.yaml").write_text(text)
    sweep = read_sweep(Path("sweeps/full.yaml"))
    assert sweep.zips == ({"lora.rank": (4, 8), "lora.alpha": (8.0, None)},)
    assert sweep.when == {"loss.beta": {"loss.name": ("dpo",)}}
    assert sweep.exclude == (
        {"lora.targets": (["to_q", "to_v"],), "lora.rank": (8,)},
        {"lora.targets": (["to_q", "to_v"],), "loss.beta": (200.0,)},
    )
    assert sweep.include == ({"lora.rank": (64,), "loss.beta": (300.0, 400.0)},)
    assert sweep.baseline == {
        "loss.name": "dpo",
        "loss.beta": 100.0,
        "lora.targets": ["to_q"],
        "lora.rank": 8,
        "lora.alpha": None,
    }, "the rest of a zip group follows from what is given of it"


def test_axes_are_not_needed_beside_zip_and_a_baseline_needs_no_axis_that_is_not_there(world: Path) -> None:
    text = """
question: q
experiment: tiny
zip: [{loss.name: [dpo, sft], lora.rank: [4, 8]}]
axes: {loss.beta: [100, 200]}
when: {loss.beta: {loss.name: [dpo]}}
baseline: {loss.name: sft}
seeds: [0]
"""
    (world / "sweeps" / "z.yaml").write_text(text)
    assert read_sweep(Path("sweeps/z.yaml")).baseline == {"loss.name": "sft", "lora.rank": 8}
    (world / "sweeps" / "z.yaml").write_text(
        "question: q\nexperiment: tiny\nzip: [{lora.rank: [4, 8], lora.alpha: [4, 8]}]\n"
        "baseline: {lora.rank: 4}\nseeds: [0]\n"
    )
    assert read_sweep(Path("sweeps/z.yaml")).axes == {}


def test_a_sound_sweep_is_read_as_written(world: Path) -> None:
    text = """
question: "  why?  "
experiment: tiny
axes:
  selection.fraction: [5, 10.5]
  lora.targets: [[to_q], [to_q, to_v]]
  lora.rank: [4]
controls:
  - {selection.strategy: random, lora.rank: 16}
baseline: {selection.fraction: 5, lora.targets: [to_q]}
seeds: [3, 1]
overrides: {training: {steps: 7}, generation.batch_size: 2}
"""
    (world / "sweeps" / "full.yaml").write_text(text)
    sweep = read_sweep(Path("sweeps/full.yaml"))
    assert sweep.name == "full"
    assert sweep.question == "why?"
    assert sweep.axes == {
        "selection.fraction": (5.0, 10.5),
        "lora.targets": (["to_q"], ["to_q", "to_v"]),
        "lora.rank": (4,),
    }
    assert sweep.controls == ({"selection.strategy": "random", "lora.rank": 16},)
    assert sweep.baseline == {"selection.fraction": 5.0, "lora.targets": ["to_q"], "lora.rank": 4}
    assert sweep.seeds == (3, 1)
    assert sweep.overrides == {"training.steps": 7, "generation.batch_size": 2}
