"""What reaches a job of the submitter's environment, and what SLURM's refusals become."""

from __future__ import annotations

import os

import pytest

from ablations.slurm.sbatch import clean_environment


def test_secrets_and_the_variables_of_another_job_stay_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = ("WANDB_API_KEY", "HF_TOKEN", "MY_SECRET", "SLURM_JOB_ID", "SBATCH_PARTITION", "CUDA_VISIBLE_DEVICES")
    for name in (*hidden, "SLURM_CONF", "HF_HOME"):
        monkeypatch.setenv(name, "x")
    with clean_environment():
        assert not [name for name in hidden if name in os.environ]
        assert (os.environ["SLURM_CONF"], os.environ["HF_HOME"]) == ("x", "x")
    assert all(os.environ[name] == "x" for name in hidden)
