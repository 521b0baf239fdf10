"""``ablate doctor --cluster`` against a real controller."""

from __future__ import annotations

from dataclasses import replace

from ablations.checks import cluster_checks
from ablations.checks.doctor import FAIL, OK, Finding
from ablations.slurm.profile import Profile
from tests.slurm.one_node import OneNode


def of_partitions(profile: Profile) -> dict[str, Finding]:
    return {finding.check: finding for finding in cluster_checks.partitions(profile)}


def test_a_sound_profile(slurm: OneNode, profile: Profile) -> None:
    findings = [*cluster_checks.binaries(), *cluster_checks.controller(profile), *cluster_checks.partitions(profile)]
    assert {finding.level for finding in findings} == {OK}
    assert any("sacct does not answer" in finding.text for finding in findings)
    default = replace(profile.default, partition=None)
    assert of_partitions(replace(profile, default=default, stages={}))["partition of default"].text.startswith("low: ")


def test_what_the_site_would_refuse(slurm: OneNode, profile: Profile) -> None:
    bad = {
        "train": replace(profile.default, partition="lwo"),
        "score": replace(profile.default, minutes=61),
        "generate": replace(profile.default, gpus=1, gpu_type="z999"),
    }
    findings = of_partitions(replace(profile, stages=bad))
    assert findings["partition of default"].level == OK
    assert findings["partition of train"] == Finding(
        FAIL, "partition of train", "unknown partition 'lwo' (did you mean 'low'?)", "set one of low, high"
    )
    assert "61 min requested, low allows 60" in findings["partition of score"].text
    assert "GPU type 'z999' requested, low has gpu:2" in findings["partition of generate"].text
    large = {finding.check: finding for finding in cluster_checks.controller(replace(profile, max_array_size=10**6))}
    assert large["max_array_size"].level == "warn"
