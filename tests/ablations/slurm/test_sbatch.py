"""What reaches a job of the submitter's environment, and what SLURM's refusals become."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from ablations.secret_scan import secret_variable
from ablations.slurm import submit as submission
from ablations.slurm.profile import Profile, read_profile
from ablations.slurm.sbatch import Sbatch, clean_environment, expanded_on_node
from ablations.slurm.scripts import lines, scripts
from ablations.store.artefacts import Store
from qsd.errors import UserError
from tests.ablations import fake_stages
from tests.ablations.conftest import SMALL, Planner
from tests.conftest import ROOT


def test_secrets_and_the_variables_of_another_job_stay_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = ("WANDB_API_KEY", "HF_TOKEN", "MY_SECRET", "SLURM_JOB_ID", "SBATCH_PARTITION", "CUDA_VISIBLE_DEVICES")
    for name in (*hidden, "SLURM_CONF", "HF_HOME"):
        monkeypatch.setenv(name, "x")
    with clean_environment():
        assert not [name for name in hidden if name in os.environ]
        assert (os.environ["SLURM_CONF"], os.environ["HF_HOME"]) == ("x", "x")
    assert all(os.environ[name] == "x" for name in hidden)


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("TOKENIZERS_PARALLELISM", False),
        ("MAX_TOKENS", False),
        ("MONKEY_PATCH", False),
        ("HF_TOKEN", True),
        ("hftoken", True),
        ("WANDB_API_KEY", True),
        ("OPENAIAPIKEY", True),
        ("SSH_KEY", True),
        ("DBPASSWORD", True),
        ("SLURM_JWT", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("GITHUB_TOKEN_FILE", True),
    ],
)
def test_secrets_are_known_by_whole_words(name: str, secret: bool) -> None:
    assert secret_variable(name) == secret


def fake_sbatch(folder: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program ``sbatch`` that keeps the script that it is given, beside a ``srun`` that is only looked for."""
    binaries = folder / "bin"
    binaries.mkdir()
    line = f'for last; do :; done; cp "$last" {copy}; echo "Submitted batch job 7"'
    (binaries / "sbatch").write_text(f"#!/bin/sh\n{line}\n")
    (binaries / "srun").write_text("#!/bin/sh\nexit 1\n")
    for program in ("sbatch", "srun"):
        (binaries / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
    monkeypatch.setenv("_TEST_SLURM", "1")


def script(profile: Profile, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of the script that a submission gives to sbatch."""
    copy = folder / "script.sh"
    fake_sbatch(folder, copy, monkeypatch)
    job = Sbatch(profile, folder / "submitit", ROOT, folder)
    job.submit(print, ["a"], "name", profile.resources("train"))
    return copy.read_text().splitlines()


@pytest.mark.parametrize("count", [1, 3])
def test_a_printed_script_is_the_one_that_is_submitted(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(
        "python: srun-python\noptions: {nice: 100}\nsetup: [module load a]\nenvironment: {A: $HOME/b}\n"
        "resources: {default: {gpus: 2, gpu_type: a100, cpus: 3, memory_gb: 1.5, minutes: 7, parallel: 2}}\n"
    )
    profile = read_profile(path)
    resources = profile.resources("train")
    job = Sbatch(profile, tmp_path / "submitit", ROOT, tmp_path)
    printed = job.script(count, "name", resources, "afterok:7", hold=True)
    assert not (tmp_path / "submitit").exists()
    submitted = tmp_path / "script.sh"
    fake_sbatch(tmp_path, submitted, monkeypatch)
    job.submit(print, [str(number) for number in range(count)], "name", resources, "afterok:7", hold=True)
    assert printed == submitted.read_text()
    assert ("--array=0-2%2" in printed) == (count > 1)


@pytest.mark.slow  # a snapshot is read
def test_a_launch_is_printed_without_slurm_and_without_a_trace(
    plan_of: Planner, store: Store, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world / "site.yaml").write_text(
        "resources: {default: {gpus: 0, cpus: 1, memory_gb: 1, minutes: 5}}\nmax_array_size: 2\n"
    )
    plan = plan_of(SMALL)
    monkeypatch.setenv("PATH", str(world))  # no scontrol, no sbatch
    before = sorted(world.rglob("*"))
    result = scripts(plan, store, read_profile(world / "site.yaml"), fake_stages.HERE)
    assert sorted(world.rglob("*")) == before
    assert any("no SLURM answers here" in note for note in result.notes)
    assert sum(script.elements for script in result.scripts) == len(plan.nodes) + 1
    assert max(script.elements for script in result.scripts) == 2
    first, *_, last = result.scripts
    assert (first.job, last.stage) == ("JOB1", "finish")
    assert "--dependency" not in first.text
    assert f"#SBATCH --job-name={first.stage}:{plan.sweep.name}:UNIQUE\n" in first.text
    waits_for = re.search(r"--dependency=afterany:([JOB0-9:]+)\n", last.text)
    assert waits_for is not None
    assert set(waits_for[1].split(":")) <= {script.job for script in result.scripts[:-1]}
    shown = "\n".join(lines(result))
    assert shown.startswith(f"# ---- JOB1: {first.stage}, ")
    assert all(script.text.rstrip() in shown for script in result.scripts)


@pytest.mark.parametrize(
    ("options", "memory", "present", "absent"),
    [
        ("{}", "48", ["--mem=49152M"], ["--wckey", "--mem-per-cpu"]),
        ("{wckey: mine}", "48", ["--wckey=mine"], ["--wckey=submitit"]),
        ("{mem-per-cpu: 4G}", "null", ["--mem-per-cpu=4G"], ["--mem="]),
        ("{}", "null", [], ["--mem", "--wckey"]),
    ],
)
def test_lines_that_a_site_does_not_want_can_be_left_out(
    options: str, memory: str, present: list[str], absent: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many sites refuse a job with an unknown wckey, and sbatch one with both kinds of memory."""
    path = tmp_path / "site.yaml"
    path.write_text(
        f"options: {options}\nresources:\n  default: {{gpus: 1, cpus: 8, memory_gb: {memory}, minutes: 60}}\n"
    )
    lines = [line for line in script(read_profile(path), tmp_path, monkeypatch) if line.startswith("#SBATCH")]
    for text in present:
        assert any(line.startswith(f"#SBATCH {text}") for line in lines), lines
    for text in absent:
        assert not any(line.startswith(f"#SBATCH {text}") for line in lines), lines
    names = Counter(line.split()[1].partition("=")[0] for line in lines)
    assert set(names.values()) == {1}, "no line twice"


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("~/hf", "/people/ada/hf"),
        ("${SCRATCH}/x", "/scratch/a b/x"),
        ("$SCRATCH:$HOME", "/scratch/a b:/people/ada"),
        ('it\'s `id` "5$" $(id) a~/b', 'it\'s `id` "5$" $(id) a~/b'),
        ("", ""),
    ],
)
def test_a_node_replaces_its_own_variables_and_nothing_else(value: str, seen: str) -> None:
    command = f'export X={expanded_on_node(value)}; printf %s "$X"'
    environment = {"HOME": "/people/ada", "SCRATCH": "/scratch/a b", "PATH": os.environ["PATH"]}
    shell = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=True)
    assert shell.stdout == seen


def test_a_variable_that_a_node_lacks_ends_the_job_by_its_name() -> None:
    command = f"export X={expanded_on_node('$SCRATCH/x')}; echo on"
    shell = subprocess.run(["bash", "-c", command], env={}, capture_output=True, text=True, check=False)
    assert (shell.returncode != 0, shell.stdout) == (True, "")
    assert "SCRATCH: is not set on this node" in shell.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        # SLURM would write the logs of runs/50%j into runs/50123.
        ("runs 50%j", r"runs 50%j: SLURM replaces '%' in the paths of its logs; choose .*--runs"),
        # What follows a line break would be a line of sbatch's script, which a shell runs.
        ("runs\ntouch x", r"runs\\x0atouch x: sbatch takes no such characters"),
    ],
)
def test_a_path_of_the_store_that_slurm_would_not_take_as_it_is_is_refused(
    name: str, message: str, plan_of: Planner, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: name)
    path = world / "site.yaml"
    path.write_text("resources: {default: {gpus: 0, cpus: 1, memory_gb: 1, minutes: 9}}\n")
    with pytest.raises(UserError, match=message):
        submission.submit(plan_of(SMALL), Store(world / name, lambda *_: ""), read_profile(path), {}, print)
