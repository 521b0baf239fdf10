"""The command: quick and light where it only looks, and honest about what it finds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablations.cli import app
from ablations.inspection.status import status, status_lines
from ablations.planning.cells import find_cell
from ablations.planning.explain import explain
from ablations.running.slots import local_gpus
from ablations.store.artefacts import Store
from ablations.store.states import states
from qsd.errors import UserError
from tests.ablations.command import ablate
from tests.ablations.conftest import SMALL, Planner, write_assets
from tests.ablations.local_run import run_plan

ROOT = Path(__file__).resolve().parents[3]
HEAVY = ("torch", "pandas", "numpy", "wandb", "pyarrow", "omegaconf", "diffusers", "matplotlib", "yaml")
COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
HELPS = [
    pytest.param(["--help"], id="--help"),
    *(pytest.param([name, "--help"], id=name, marks=pytest.mark.slow) for name in COMMANDS),
]
"""Four seconds each; the quick checks take the first, which imports the modules of all commands."""
_PROBE = """
import resource, sys
sys.argv = ["ablate", *{arguments!r}]
from ablations.cli import main
try:
    main()
except SystemExit as exit_:
    assert not exit_.code, exit_.code
heavy = [name for name in {heavy!r} if name in sys.modules]
used = resource.getrusage(resource.RUSAGE_SELF)
print("PROBE", used.ru_utime + used.ru_stime, heavy)
"""


def probe(arguments: list[str], heavy: tuple[str, ...]) -> tuple[float, str]:
    """Processor seconds from the start of Python, and which of the heavy libraries were imported."""
    code = _PROBE.format(arguments=arguments, heavy=heavy)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    _, seconds, modules = done.stdout.splitlines()[-1].split(" ", 2)
    return float(seconds), modules


@pytest.mark.slow
@pytest.mark.parametrize("arguments", HELPS)
def test_help_is_quick_and_imports_nothing_heavy(arguments: list[str], yardstick: float) -> None:
    for _ in range(3):  # of a busy machine's processor, one of three is enough
        seconds, modules = probe(arguments, HEAVY)
        assert modules == "[]"
        if seconds < 0.5 * yardstick:
            return
    raise AssertionError(f"{seconds:.2f} s of processor time, of {0.5 * yardstick:.2f} s")


@pytest.mark.parametrize("program", ["ablate", "qsd"])
def test_the_list_of_commands_cuts_no_description(program: str) -> None:
    command = [sys.executable, "-m", "ablations.cli" if program == "ablate" else "qsd.cli", "--help"]
    env = {**os.environ, "COLUMNS": "80"}
    shown = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    commands = shown[shown.index("Commands:") :].splitlines()[1:]
    assert len(commands) > 10
    assert not [line for line in commands if line.endswith("...")]


def test_planning_imports_no_framework(plan_of: Planner, world: Path) -> None:
    plan_of(name="light")
    code = """
import sys
from pathlib import Path
from ablations.planning.plan import make_plan
from ablations.grid.spec import read_sweep
from ablations.store.states import states
from ablations.store.artefacts import Store
from tests.ablations import fake_stages
plan = make_plan(read_sweep(Path("sweeps/light.yaml")), fake_stages)
states(Store(Path("runs"), fake_stages.key_of), plan.nodes)
print([name for name in ("torch", "pandas", "wandb", "matplotlib", "pyarrow", "omegaconf") if name in sys.modules])
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=world, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.slow
@pytest.mark.parametrize("read_first", [0, 10], ids=["at once", "after some bytes"])
@pytest.mark.parametrize("arguments", [["plan", "demo"], ["cells", "large_grid"], ["plan", "--help"]], ids=" ".join)
def test_a_closed_pipe_ends_a_command_quietly(arguments: list[str], read_first: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ablations.cli", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(read_first)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() in (0, 141)
    process.stderr.close()


@pytest.mark.parametrize("command", ["run", "retry", "dryrun"])
def test_a_gpu_that_is_not_here_is_refused(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """CUDA would hide the others too, and stages with ``device: auto`` would run on the CPU."""
    write_assets(world)
    monkeypatch.setenv("PATH", str(world))
    assert ablate(command, "good", "--gpus", "0") == 2
    assert "--gpus 0: nvidia-smi lists no GPU on this machine" in capsys.readouterr().err
    program = world / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-7abc)'\necho '  MIG 1g (UUID: MIG-12)'\n")
    program.chmod(0o755)
    assert ablate(command, "good", "--gpus", "0,3") == 2
    assert "--gpus 3: this machine has 0; " in capsys.readouterr().err
    assert local_gpus("0, GPU-7a") == ("0", "GPU-7a")
    assert local_gpus("MIG-12") == ("MIG-12",)
    assert local_gpus(None) == ()


def test_table_before_the_run_says_what_to_do(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_assets(world)
    assert ablate("table", "good") == 2
    error = capsys.readouterr().err
    assert "good@tiny: no cell is evaluated yet (" in error
    assert "'ablate run good' evaluates them" in error
    assert not (world / "runs" / "sweeps").exists()
    assert ablate("status", "good") == 0
    assert "metric=product" in capsys.readouterr().out
    assert ablate("explain", "good", "metric=prodct") == 2
    assert "unknown cell 'metric=prodct' (did you mean 'metric=product'?)" in capsys.readouterr().err
    assert ablate("explain", "good") == 0
    lines = capsys.readouterr().out.splitlines()
    train = next(number for number, line in enumerate(lines) if line.startswith("train "))
    assert lines[train + 1 : train + 3] == ["    not run yet", "    no train stage has finished in this store"]


@pytest.mark.slow
def test_explain_names_the_field_that_differs(plan_of: Planner, store: Store, fake_log: Path) -> None:
    run_plan(
        plan_of("question: q\nexperiment: tiny\naxes: {lora.rank: [4]}\nbaseline: {lora.rank: 4}\nseeds: [0]\n"), store
    )
    plan = plan_of(
        "question: q\nexperiment: tiny\naxes: {lora.rank: [8, 16]}\nbaseline: {lora.rank: 8}\nseeds: [0]\n", "other"
    )
    state_of = states(store, plan.nodes)
    lines = list(explain(plan, find_cell(plan, "rank=16"), store, state_of))
    text = "\n".join(lines)
    assert ": done" in text[: text.index("\ntrain")]
    train = text[text.index("\ntrain") :]
    assert "lora.rank: wanted 16, found 4" in train
    default = "\n".join(explain(plan, find_cell(plan, None), store, state_of))
    assert "lora.rank: wanted 8 (the default), found 4" in default
    generate = text[text.index("\ngenerate") :]
    assert "input train: wanted" in generate
    assert "(see train of rank=16 above)" in generate
    cell = plan.cells[0]
    assert find_cell(plan, cell.cell_id) is cell
    assert find_cell(plan, cell.label) is cell


@pytest.mark.slow
def test_explain_tells_a_damaged_artefact(plan_of: Planner, store: Store, fake_log: Path) -> None:
    plan = plan_of(SMALL)
    run_plan(plan, store)
    cell = plan.cells[0]
    (store.artefact("train", cell.stages["train"].key) / "result.txt").unlink()
    state_of = states(store, plan.nodes)
    assert state_of[cell.stages["train"].key] == "new"
    text = "\n".join(explain(plan, cell, store, state_of))
    assert "the artefact exists but is not valid: its file result.txt is missing" in text
    assert run_plan(plan, store).ran == 1, "only the damaged stage is made anew; what was made from it is still valid"


@pytest.mark.slow
def test_status_tells_failures_and_running_stages(plan_of: Planner, store: Store, fake_log: Path) -> None:
    plan = plan_of(
        "question: q\nexperiment: tiny\naxes: {loss.beta: [100, 666]}\nbaseline: {loss.beta: 100}\nseeds: [0]\n"
    )
    run_plan(plan, store)
    claim = store.claims.take(plan.cells[1].stages["evaluate"].key)
    assert claim is not None
    overview = json.loads(json.dumps(status(plan, store)))
    cells = {cell["name"]: cell for cell in overview["cells"]}
    assert cells["beta=100"]["state"] == "done"
    assert cells["beta=100"]["stage"] is None
    assert (cells["beta=666"]["state"], cells["beta=666"]["stage"]) == ("failed", "train")
    assert [entry["stage"] for entry in overview["running"]] == ["evaluate"]
    (failed,) = overview["failures"]
    assert failed["label"] == "train beta=666 seed 0"
    assert Path(failed["log"]).is_file()
    assert overview["running"][0]["pid"] == os.getpid()
    output = "\n".join(status_lines(overview))
    assert "failed: train beta=666 seed 0: the loss is not finite" in output
    assert "'ablate failures a' groups them" in output


def test_unknown_cell_lists_some(plan_of: Planner) -> None:
    with pytest.raises(UserError, match=r"sweeps/a.yaml: unknown cell 'x'; known: metric=product, "):
        find_cell(plan_of(), "x")


@pytest.mark.slow
def test_second_run_is_quick_to_see_that_all_is_done(
    plan_of: Planner, store: Store, fake_log: Path, yardstick: float
) -> None:
    plan = plan_of(SMALL)
    run_plan(plan, store)
    begin = time.process_time()
    assert run_plan(plan, store).ran == 0
    assert time.process_time() - begin < 1.5 * yardstick
