"""A cluster profile: the YAML that says what a site is like and what each kind of stage asks of it.

``experiments/clusters/NAME.yaml``; every mistake names its line and column.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.grid.values import show
from ablations.slurm import yaml_types
from qsd.config.yaml_nodes import Node, load
from qsd.errors import UserError
from qsd.registry import suggest
from qsd.stages.spec import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CLUSTERS = Path("experiments") / "clusters"
LOCAL = "local"
"""The word for no cluster: this machine."""
FINISH = "finish"
"""The last job of a launch (``ablations.slurm.finish_job``); has resources like a stage."""


@dataclass(frozen=True)
class Resources:
    """What one job of a kind of stage asks for.

    Attributes:
        gpus: GPUs per job; 0 for none.
        cpus: cores per job.
        memory_gb: main memory per job, in GiB.
        minutes: time limit; a stage that needs longer is interrupted, requeued, and goes on.
        gpu_type: the site's name of a GPU model, such as a100; None for any.
        partition, account, qos, constraint: as for sbatch; None for the site's default.
        parallel: elements of one array that run at a time (%P).
    """

    gpus: int
    cpus: int
    memory_gb: float
    minutes: int
    gpu_type: str | None
    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    parallel: int

    def __str__(self) -> str:
        gpus = f"{self.gpus} x {self.gpu_type or 'GPU'}" if self.gpus else "no GPU"
        where = f" in {self.partition}" if self.partition else ""
        return f"{gpus}, {self.cpus} CPUs, {self.memory_gb:g} GB, {self.minutes} min{where}"


@dataclass(frozen=True)
class Profile:
    """A site, as its file says; attributes that are not explained here are as in the file.

    Attributes:
        path: the file.
        parallel: elements of one array that run at a time, unless a kind of stage says otherwise.
        max_array_size: elements of one array; None: ask the controller.
        max_submit: jobs that a user may have in the queue; None: ask the controller.
        signal_seconds: warning before the time limit or preemption, in which a stage saves its state.
        requeue: whether SLURM may start a job again after preemption or the loss of its node.
        python: command that starts Python on a node; None: the interpreter that submits.
        setup: shell lines before Python starts, such as ``module load cuda``.
        environment: variables set for every job; never secrets.
        options: further options of sbatch, by their long names.
    """

    path: Path
    parallel: int
    max_array_size: int | None
    max_submit: int | None
    signal_seconds: int
    requeue: bool
    python: str | None
    setup: tuple[str, ...]
    environment: Mapping[str, str]
    options: Mapping[str, str | int | bool]
    default: Resources
    stages: Mapping[str, Resources]

    def resources(self, stage: str) -> Resources:
        """What a job of a kind of stage asks for."""
        return self.stages.get(stage, self.default)


def find_profile(name: str) -> Path:
    """The file of a profile given by name (``experiments/clusters/NAME.yaml``) or by path.

    Raises:
        UserError: there is no such profile.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and len(path.parts) == 1:
        path = CLUSTERS / f"{name}.yaml"
    if path.is_file():
        return path
    known = [LOCAL, *sorted(file.stem for file in CLUSTERS.glob("*.yaml"))]
    raise UserError(f"unknown cluster {name!r}: there is no {path}{suggest(name, known)}; known: {', '.join(known)}")


def read_profile(path: Path) -> Profile:
    """Read and check a profile.

    Raises:
        UserError: what is wrong and where: ``path:line:column: ...``.
    """
    root = load(path)
    site = _checked(root, "", _SITE, required=("resources",))
    site = {**_DEFAULTS, **site}
    sections: Mapping[str, Node] = site.pop("resources")
    shared = {name: site.pop(name, None) for name in _PLACES} | {"parallel": site["parallel"]}
    first = _checked(sections["default"], "default", _RESOURCES, required=_REQUIRED)
    default = Resources(**{"gpu_type": None, **shared, **first})
    stages = {
        name: replace(default, **_checked(node, name, _RESOURCES))
        for name, node in sections.items()
        if name != "default"
    }
    for name, asked in {"default": default, **stages}.items():
        if asked.minutes * 60 <= site["signal_seconds"]:
            raise sections[name].error(
                f"{asked.minutes} minutes are no longer than the warning of {site['signal_seconds']} s (signal_seconds)"
            )
    if FINISH not in stages:
        stages[FINISH] = replace(default, gpus=0, gpu_type=None, cpus=1)
    return Profile(path=path, default=default, stages=stages, **site)


def _checked(
    node: Node, name: str, known: Mapping[str, Callable[[str, Node], Any]], required: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Key -> checked value of a mapping with known keys."""
    if not isinstance(node.value, dict):
        raise node.error(f"{name} must be a mapping, not {show(node.plain())}")
    found: dict[str, Any] = {}
    for key, key_node, value in node.items():
        if key not in known:
            raise key_node.error(f"unknown key '{key}'{suggest(key, known)}; known: {', '.join(known)}")
        found[key] = known[key](key, value)
    for key in required:
        if key not in found:
            raise node.error(f"'{key}' is missing" + (f" in '{name}'" if name else ""))
    return found


def _sections(name: str, node: Node) -> dict[str, Node]:
    known = ("default", *STAGES, FINISH)
    found = {key: value for key, _, value in yaml_types.mapping(name, node).items()}
    for key, key_node, _ in node.items():
        if key not in known:
            raise key_node.error(f"unknown stage '{key}'{suggest(key, known)}; known: {', '.join(known)}")
    if "default" not in found:
        raise node.error(f"'default' is missing in '{name}'")
    return found


_PLACES: Mapping[str, Callable[[str, Node], Any]] = {
    "partition": yaml_types.text,
    "account": yaml_types.text,
    "qos": yaml_types.text,
    "constraint": yaml_types.text,
}
_REQUIRED = ("gpus", "cpus", "memory_gb", "minutes")
_RESOURCES: Mapping[str, Callable[[str, Node], Any]] = {
    "gpus": yaml_types.whole(0, 64),
    "cpus": yaml_types.whole(1, 1024),
    "memory_gb": yaml_types.gigabytes,
    "minutes": yaml_types.whole(1, 60 * 24 * 60),
    "gpu_type": yaml_types.text,
    **_PLACES,
    "parallel": yaml_types.whole(1, 100_000),
}
_SITE: Mapping[str, Callable[[str, Node], Any]] = {
    **_PLACES,
    "parallel": yaml_types.whole(1, 100_000),
    "max_array_size": yaml_types.whole(1, 10_000_000, optional=True),
    "max_submit": yaml_types.whole(2, 10_000_000, optional=True),
    "signal_seconds": yaml_types.whole(1, 3600),
    "requeue": yaml_types.truth,
    "python": yaml_types.text,
    "setup": yaml_types.lines,
    "environment": yaml_types.environment,
    "options": yaml_types.options,
    "resources": _sections,
}
_DEFAULTS: Mapping[str, Any] = {
    "parallel": 256,
    "max_array_size": None,
    "max_submit": None,
    "signal_seconds": 120,
    "requeue": True,
    "python": None,
    "setup": (),
    "environment": {},
    "options": {},
}
