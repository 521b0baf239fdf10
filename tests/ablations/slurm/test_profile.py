"""Cluster profiles: what the shipped ones say, and a place for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablations.slurm.profile import FINISH, Profile, find_profile, read_profile
from qsd.errors import UserError
from tests.conftest import ROOT

GOOD = """\
partition: gpu
parallel: 4
signal_seconds: 60
setup: ["module load cuda"]
environment: {HF_HOME: /shared/hub, THREADS: 4, RATE: 1.0}
options: {reservation: paper, exclusive: true}
resources:
  default: {gpus: 1, cpus: 8, memory_gb: 32, minutes: 60}
  select: {gpus: 0, partition: cpu, parallel: 1}
"""
MISTAKES = {
    "": "1:1: the file is empty",
    "- a": "1:1: the top level must be a mapping",
    "partition: gpu": "1:1: 'resources' is missing",
    "resources: 3": "1:12: resources must be a mapping, not 3",
    "resources: {}": "1:12: 'default' is missing in 'resources'",
    "resources: {train: {gpus: 1}}": "1:12: 'default' is missing in 'resources'",
    "resources: {default: {}}": "1:22: 'gpus' is missing in 'default' (GPUs per job; 0 for none)",
    "resources: {default: [1]}": "1:22: default must be a mapping, not [1]",
    GOOD.replace("memory_gb: 32", "memory_mb: 32"): "8:31: unknown key 'memory_mb' (did you mean 'memory_gb'?)",
    GOOD.replace("gpus: 1", "gpus: one"): "8:19: gpus must be a whole number, not 'one'",
    GOOD.replace("gpus: 1", "gpus: true"): "8:19: gpus must be a whole number, not True",
    GOOD.replace("cpus: 8", "cpus: 0"): "8:28: cpus must be at least 1 and at most 1024, not 0",
    GOOD.replace("memory_gb: 32", "memory_gb: -1"): "8:42: memory_gb must be above 0 and at most 100000, not -1",
    GOOD.replace("memory_gb: 32", "memory_gb: 32G"): "8:42: memory_gb must be a number, not '32G'",
    GOOD.replace("minutes: 60", "minutes: 1"): "8:12: 1 minutes are no longer than the warning of 60 s",
    GOOD.replace("minutes: 60", "minutes: 1:00:00"): "8:55: minutes must be a whole number, not '1:00:00'",
    GOOD.replace("select", "selects"): "9:3: unknown stage 'selects' (did you mean 'select'?)",
    GOOD.replace("partition: gpu", "partition: [gpu]"): "1:12: partition must be text, not ['gpu']",
    GOOD.replace("partition: gpu", 'partition: "a\\nb"'): "1:12: partition must be one line of printable text",
    GOOD.replace("partition: gpu", "partitions: gpu"): "1:1: unknown key 'partitions' (did you mean 'partition'?)",
    GOOD.replace("partition: gpu", "partition: gpu\npartition: x"): "2:1: duplicate key 'partition'",
    GOOD.replace("partition: gpu", "requeue: maybe"): "1:10: requeue must be true or false, not 'maybe'",
    GOOD.replace("partition: gpu", "max_submit: 1"): "1:13: max_submit must be at least 2 and at most",
    GOOD.replace("partition: gpu", "python: 3"): "1:9: python must be text, not 3",
    GOOD.replace(
        "partition: gpu", "account: 00123"
    ): "1:10: account must be text, not 00123; put it in quotes: '00123'",
    GOOD.replace("partition: gpu", "account: 123"): "1:10: account must be text, not 123; put it in quotes",
    GOOD.replace("parallel: 4", "parallel: 0"): "2:11: parallel must be at least 1 and at most",
    GOOD.replace('["module load cuda"]', "module load"): "4:8: setup must be a list of shell lines, not module load",
    GOOD.replace("module load cuda", " "): "4:9: a line of setup must be one line of text",
    GOOD.replace("gpus: 0, partition: cpu", "gpu_type: 4"): "9:22: gpu_type must be text, not 4",
    GOOD.replace("gpus: 0, partition: cpu", "gpus: null"): "9:18: gpus must be a whole number, not null",
    GOOD.replace("HF_HOME", "WANDB_API_KEY"): "5:15: 'WANDB_API_KEY' looks like a secret",
    GOOD.replace("HF_HOME", "hf_token"): "5:15: 'hf_token' looks like a secret",
    GOOD.replace("HF_HOME", "MY_PASSWORD"): "5:15: 'MY_PASSWORD' looks like a secret",
    GOOD.replace("/shared/hub", "http://ada:pw" + "@proxy:3128"): "5:24: the variable HF_HOME holds a password",
    GOOD.replace(
        "reservation: paper", "mem-per-cpu: 4G"
    ): "6:11: sbatch takes 'mem-per-cpu' or --mem, not both; leave --mem out with memory_gb: null in resources.default",
    GOOD.replace("memory_gb: 32", "memory_gb: null")
    .replace("partition: cpu", "memory_gb: 2")
    .replace(
        "reservation: paper", "mem-per-gpu: 4G"
    ): "6:11: sbatch takes 'mem-per-gpu' or --mem, not both; leave --mem out with memory_gb: null in resources.select",
    GOOD.replace("reservation: paper", "nodes: 2"): "6:11: 'nodes' is set by the runner",
    GOOD.replace("reservation: paper", "gpus: 2"): "6:11: 'gpus' is set by the runner",
    GOOD.replace("HF_HOME", "HF-HOME"): "5:15: 'HF-HOME' is not a name of a variable",
    GOOD.replace("/shared/hub", "[a]"): "5:24: the variable HF_HOME must be text or a number, not [a]",
    GOOD.replace("{HF_HOME: /shared/hub, THREADS: 4, RATE: 1.0}", "3"): "5:14: environment must be a mapping, not 3",
    GOOD.replace("reservation", "--reservation"): "6:11: '--reservation' is not a long option of sbatch",
    GOOD.replace("reservation", "dependency"): "6:11: 'dependency' is set by the runner",
    GOOD.replace(
        "exclusive: true", "exclusive: false"
    ): "6:42: the option exclusive must be text, a whole number or true",
    GOOD.replace("  default", "\tdefault"): "8:1: a tab; indent with spaces",
}


def read(folder: Path, text: str) -> Profile:
    path = folder / "site.yaml"
    path.write_text(text)
    return read_profile(path)


def test_stages_differ_from_the_default_only_where_they_say_so(tmp_path: Path) -> None:
    profile = read(tmp_path, GOOD)
    train, select, finish = (profile.resources(stage) for stage in ("train", "select", FINISH))
    assert (train.gpus, train.partition, train.parallel, train.minutes) == (1, "gpu", 4, 60)
    assert (select.gpus, select.partition, select.parallel, select.memory_gb) == (0, "cpu", 1, 32.0)
    assert (finish.gpus, finish.cpus) == (0, 1)
    assert profile.environment == {"HF_HOME": "/shared/hub", "THREADS": "4", "RATE": "1.0"}
    assert profile.options == {"reservation": "paper", "exclusive": True}
    assert (profile.max_array_size, profile.requeue, profile.python) == (None, True, None)


def test_variables_have_the_text_that_is_written(tmp_path: Path) -> None:
    written = (
        "CUDA_VERSION: 12.10, SITE_ID: 00123, START: 1:30, BIG: 1e6, D: 2024-01-01, N: 0x10, U: 1_000, F: yes, "
        "TOKENIZERS_PARALLELISM: false_, "
        'H: "${SCRATCH}/x", Q: "012"'
    )
    profile = read(tmp_path, GOOD.replace("HF_HOME: /shared/hub, THREADS: 4, RATE: 1.0", written))
    assert list(profile.environment.values()) == (
        ["12.10", "00123", "1:30", "1e6", "2024-01-01", "0x10", "1_000", "yes", "false_", "${SCRATCH}/x", "012"]
    )


@pytest.mark.parametrize("text, message", MISTAKES.items(), ids=range(len(MISTAKES)))
def test_every_mistake_has_a_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as mistake:
        read(tmp_path, text)
    assert f"site.yaml:{message}" in str(mistake.value)


@pytest.mark.parametrize(
    "path", [*(ROOT / "experiments" / "clusters").glob("*.yaml"), ROOT / "tests/slurm/one_node.yaml"]
)
def test_shipped_profiles_are_right(path: Path) -> None:
    assert read_profile(path).resources("train").gpus == 1


def test_a_profile_is_found_by_name_or_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert find_profile("generic") == find_profile("experiments/clusters/generic.yaml")
    with pytest.raises(UserError, match=r"unknown cluster 'genric'.*did you mean 'generic'.*known: local, generic"):
        find_profile("genric")
