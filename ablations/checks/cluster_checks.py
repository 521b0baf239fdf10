"""Checks of a cluster: SLURM's commands, its controller, and whether its partitions take what the profile asks for."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablations.checks.doctor import FAIL, OK, WARN, Finding
from ablations.slurm import query
from qsd.registry import suggest
from qsd.stages.spec import STAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ablations.slurm.profile import Profile, Resources

_NEEDED = ("sbatch", "squeue", "scontrol", "srun", "scancel", "sinfo")
_LIMIT = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")


@dataclass(frozen=True)
class Partition:
    """A partition, as sinfo shows it.

    Attributes:
        name: its name.
        default: whether jobs go there that name none.
        up: whether it starts jobs.
        minutes: its longest time limit; None if it has none.
        gres: what its nodes have beside cores and memory.
    """

    name: str
    default: bool
    up: bool
    minutes: float | None
    gres: tuple[str, ...]


def binaries() -> Iterator[Finding]:
    """SLURM's commands; sacct is a help, not a need."""
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    if missing:
        fix = "run ablate on a login node of the cluster, or load its SLURM module"
        yield Finding(FAIL, "slurm", f"not on PATH: {', '.join(missing)}", fix)
        return
    yield Finding(OK, "slurm", f"{', '.join(_NEEDED)} were found")
    if _output("sacct", "--noheader", "--jobs=1") is None:
        yield Finding(OK, "accounting", "sacct does not answer; states come from the project's files and squeue")
    else:
        yield Finding(OK, "accounting", "sacct answers")


def controller(profile: Profile) -> Iterator[Finding]:
    """The controller, and the limits of arrays and jobs against those of the profile."""
    config = query.config()
    if config is None:
        yield Finding(
            FAIL, "controller", "does not answer", "try 'scontrol ping'; SLURM_CONF must name its configuration"
        )
        return
    yield Finding(OK, "controller", f"{config.get('ClusterName', 'cluster')}, SLURM {config.get('SLURM_VERSION', '?')}")
    for name, field, ours in (
        ("MaxArraySize", "max_array_size", profile.max_array_size),
        ("MaxJobCount", "max_submit", profile.max_submit),
    ):
        theirs = (config.get(name, "").split() or [""])[0]
        if ours is not None and theirs.isdecimal() and ours > int(theirs):
            fix = f"lower {field}, or leave it null: the controller is asked then"
            yield Finding(WARN, field, f"{ours:,} in {profile.path}, {name} is {int(theirs):,} here", fix)
        else:
            yield Finding(
                OK, field, f"{name} {theirs or 'unknown'}" + (f", at most {ours:,} requested" if ours else "")
            )


def partitions(profile: Profile) -> Iterator[Finding]:
    """Whether every kind of stage is sent to a partition that is there, is up, is long enough and has the GPUs."""
    text = _output("sinfo", "--noheader", "--format=%P|%a|%l|%G")
    if text is None:
        yield Finding(FAIL, "partitions", "sinfo does not answer", "try 'sinfo'")
        return
    known = read_partitions(text)
    kinds: dict[Resources, list[str]] = {profile.default: ["default"]}
    for stage, resources in profile.stages.items():
        kinds.setdefault(resources, []).append(stage)
    for resources, stages in kinds.items():
        yield _partition_finding(resources, ", ".join(stages), known)


def idle_gpus(profile: Profile) -> Iterator[Finding]:
    """Whether a kind of stage that runs in one process asks for several GPUs; silent if none does."""
    wasteful = [stage for stage, spec in STAGES.items() if spec.processes is None and profile.resources(stage).gpus > 1]
    if wasteful:
        able = ", ".join(stage for stage, spec in STAGES.items() if spec.processes is not None)
        text = f"{', '.join(wasteful)} would use one GPU of {profile.resources(wasteful[0]).gpus}"
        yield Finding(WARN, "idle GPUs", text, f"set gpus: 1 for them in {profile.path}; only {able} uses several")


def read_partitions(text: str) -> dict[str, Partition]:
    """Name -> partition from sinfo's lines ``name*|state|limit|gres``, one per kind of node."""
    partitions_by_name: dict[str, Partition] = {}
    for row in text.splitlines():
        name, state, limit, gres = [*(part.strip() for part in row.split("|")), "", "", ""][:4]
        default, name = name.endswith("*"), name.removesuffix("*")
        before = partitions_by_name[name].gres if name in partitions_by_name else ()
        partitions_by_name[name] = Partition(name, default, state == "up", _minutes(limit), (*before, gres))
    return partitions_by_name


def _partition_finding(resources: Resources, stages: str, known: dict[str, Partition]) -> Finding:
    check = f"partition of {stages}"
    if resources.partition is None:
        partition = next((each for each in known.values() if each.default), None)
        if partition is None:
            return Finding(FAIL, check, "none is set, and the site has no default", f"set one of {', '.join(known)}")
    else:  # several may be named; SLURM takes the first that is free
        names = [name.strip() for name in resources.partition.split(",")]
        unknown = [name for name in names if name not in known]
        if unknown:
            fix = f"set one of {', '.join(known)}"
            return Finding(FAIL, check, f"unknown partition '{unknown[0]}'{suggest(unknown[0], known)}", fix)
        partition = known[names[0]]
    if not partition.up:
        return Finding(WARN, check, f"{partition.name} is not up: jobs will wait", "'sinfo' shows its state")
    if partition.minutes is not None and resources.minutes > partition.minutes:
        text = f"{resources.minutes} min requested, {partition.name} allows {partition.minutes:.0f}"
        return Finding(
            FAIL, check, text, "lower 'minutes': a stage that needs longer is interrupted, requeued and continued"
        )
    if resources.gpus and not any("gpu" in gres for gres in partition.gres):
        fix = "choose another partition, or set gpus: 0"
        return Finding(FAIL, check, f"{resources.gpus} GPUs requested, {partition.name} offers none", fix)
    if resources.gpu_type and not any(resources.gpu_type in gres for gres in partition.gres):
        offered = ", ".join(sorted({gres for gres in partition.gres if "gpu" in gres}))
        return Finding(
            FAIL, check, f"GPU type '{resources.gpu_type}' requested, {partition.name} has {offered}", "set gpu_type"
        )
    return Finding(OK, check, f"{partition.name}: {resources}")


def _minutes(limit: str) -> float | None:
    match = _LIMIT.fullmatch(limit)
    if match is None:  # infinite, n/a
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return (days * 24 + hours) * 60 + minutes + seconds / 60


def _output(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
