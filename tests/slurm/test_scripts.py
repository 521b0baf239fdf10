"""``ablate run --dry-run`` prints what a launch submits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ablations.slurm.profile import Profile
from ablations.slurm.scripts import JOB, LAUNCH, UNIQUE, scripts
from ablations.store.artefacts import Store
from tests.ablations import fake_stages
from tests.ablations.conftest import SWEEP, Planner
from tests.slurm.conftest import Submit
from tests.slurm.one_node import OneNode

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("canary", [False, True])
def test_printed_scripts_are_those_that_slurm_gets(
    canary: bool, slurm: OneNode, plan_of: Planner, store: Store, profile: Profile, submit_plan: Submit
) -> None:
    plan = plan_of(SWEEP)
    printed = scripts(plan, store, profile, fake_stages.HERE, canary)
    assert not (store.root / "launches").exists()
    submitted = submit_plan(plan, profile, canary)
    assert submitted.launch is not None
    folders = [Path(path) for path in (store.root / "submitit", store.rehearsals / "submitit")]
    files = [file for folder in folders for file in folder.glob("*/*_submission.sh")]
    files.sort(key=lambda file: int(file.name.partition("_")[0]))
    ids = {file.name.partition("_")[0]: f"{JOB}{number}" for number, file in enumerate(files, 1)}
    assert len(files) == len(printed.scripts)
    for file, script in zip(files, printed.scripts, strict=True):
        text = file.read_text().replace(file.parent.name, LAUNCH)
        text = re.sub(rf"(--job-name=\w+:{plan.sweep.name}:)[0-9a-f]{{8}}", rf"\g<1>{UNIQUE}", text)
        head, mark, dependencies = text.partition("--dependency=")
        line, end, rest = dependencies.partition("\n")
        line = re.sub(r"(?<=:)\d+", lambda job: ids[job[0]], line)
        assert head + mark + line + end + rest == script.text
