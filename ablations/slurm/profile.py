"""A cluster profile: the YAML that says what a site is like and what each kind of stage asks of it.

``experiments/clusters/NAME.yaml``. Its fields are declared as those of an experiment are (``qsd.config``), so a mistake
is reported with line and column; only lists and free mappings are checked here.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.grid.values import show
from ablations.secret_scan import secret_variable, url_with_password
from qsd.config.check import convert
from qsd.config.fields import REQUIRED, execution, fields_of
from qsd.config.load import defaults, flatten
from qsd.config.yaml_nodes import Node, load
from qsd.errors import UserError
from qsd.registry import suggest
from qsd.regular_files import check_regular
from qsd.stages.spec import STAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

CLUSTERS = Path("experiments") / "clusters"
LOCAL = "local"
"""The word for no cluster: this machine."""
FINISH = "finish"
"""The last job of a launch (``ablations.slurm.finish_job``); has resources like a stage."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPTION = re.compile(r"[a-z][a-z0-9-]*")
_SET_BY_RUNNER = re.compile(
    "account|array|chdir|constraint|cpus-per-task|dependency|error|export|gpus|gpus-per-(node|socket|task)|hold|"
    "job-name|kill-on-invalid-dep|mem|nodes|no-requeue|ntasks|ntasks-per-node|open-mode|output|parsable|partition|"
    "qos|requeue|signal|time|wait"
)
_INSTEAD_OF_MEM = ("mem-per-cpu", "mem-per-gpu")
"""sbatch refuses these beside --mem."""

_FREE = ("setup", "environment", "options", "resources")
"""The keys of a profile that no schema describes: lists, and mappings with keys of the site's own."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where jobs go; null is the site's default. Given for the whole site, for ``default`` or for a kind of stage."""

    partition: str | None = execution(None, "as for sbatch; several may be named, separated by commas")
    account: str | None = execution(None, "as for sbatch: who pays")
    qos: str | None = execution(None, "as for sbatch")
    constraint: str | None = execution(None, "as for sbatch: features of nodes")
    parallel: int = execution(256, "elements of one array that run at a time (%P)", least=1, most=100_000)


@dataclass(frozen=True, kw_only=True)
class Resources(Placement):
    """What one job of a kind of stage asks for."""

    gpus: int = execution(REQUIRED, "GPUs per job; 0 for none", least=0, most=64)
    cpus: int = execution(REQUIRED, "cores per job", least=1, most=1024)
    memory_gb: float | None = execution(
        REQUIRED, "main memory per job, in GiB; null leaves --mem out", above=0, most=100_000
    )
    # A stage that needs longer is interrupted, requeued, and goes on.
    minutes: int = execution(REQUIRED, "time limit", least=1, most=60 * 24 * 60)
    gpu_type: str | None = execution(None, "the site's name of a GPU model, such as a100; null for any")

    def __str__(self) -> str:
        gpus = f"{self.gpus} x {self.gpu_type or 'GPU'}" if self.gpus else "no GPU"
        where = f" in {self.partition}" if self.partition else ""
        memory = "" if self.memory_gb is None else f"{self.memory_gb:g} GB, "
        return f"{gpus}, {self.cpus} CPUs, {memory}{self.minutes} min{where}"


@dataclass(frozen=True, kw_only=True)
class SiteSettings(Placement):
    """What holds for all jobs of a site."""

    max_array_size: int | None = execution(
        None, "elements of one array; null asks the controller", least=1, most=10_000_000
    )
    max_submit: int | None = execution(
        None, "jobs that a user may have in the queue; null asks the controller", least=2, most=10_000_000
    )
    # A stage saves its state in this time.
    signal_seconds: int = execution(120, "warning before the time limit or preemption", least=1, most=3600)
    requeue: bool = execution(True, "whether SLURM may start a job again after preemption or the loss of its node")
    python: str | None = execution(
        None, "command that starts Python on a node; null: the interpreter that submits", shell=True
    )


@dataclass(frozen=True, kw_only=True)
class Profile(SiteSettings):
    """A site, as its file says.

    Attributes:
        path: the file.
        setup: shell lines before Python starts, such as ``module load cuda``.
        environment: variables set for every job, as the file writes them; never secrets. ``~/`` at the beginning,
            ``$NAME`` and ``${NAME}`` are replaced on the node.
        options: further options of sbatch, by their long names.
        default: what a job asks for whose kind of stage is not in ``stages``.
        stages: kind of stage, or ``FINISH`` -> what its jobs ask for.
    """

    path: Path
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
    check_regular(path)
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
    nodes = {name: value for name, _, value in root.items()}
    if "resources" not in nodes:
        raise root.error("'resources' is missing")
    declared = replace(root, value={name: item for name, item in root.value.items() if name not in _FREE})
    site = SiteSettings(**_values("the profile", declared, SiteSettings))
    sections = _sections(nodes["resources"])
    placement = {field.name: getattr(site, field.name) for field in fields(Placement)}
    default = Resources(**_values("default", sections["default"], Resources, placement))
    stages = {
        name: Resources(**_values(name, node, Resources, asdict(default)))
        for name, node in sections.items()
        if name != "default"
    }
    for name, asked in {"default": default, **stages}.items():
        if asked.minutes * 60 <= site.signal_seconds:
            raise sections[name].error(
                f"{asked.minutes} minutes are no longer than the warning of {site.signal_seconds} s (signal_seconds)"
            )
    if FINISH not in stages:
        stages[FINISH] = replace(default, gpus=0, gpu_type=None, cpus=1)
    if "options" in nodes:
        _refuse_twins(_mapping("options", nodes["options"]), {"default": default, **stages})
    return Profile(
        **asdict(site),
        path=path,
        setup=_lines(nodes["setup"]) if "setup" in nodes else (),
        environment=_environment(nodes["environment"]) if "environment" in nodes else {},
        options=_options(nodes["options"]) if "options" in nodes else {},
        default=default,
        stages=stages,
    )


def _values(name: str, node: Node, schema: type, over: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The fields of a schema: as a mapping gives them, or else as ``over`` does, or else the schema's defaults."""
    if not isinstance(node.value, dict):
        raise node.error(f"{name} must be a mapping, not {show(node.plain())}")
    known = fields_of(schema)
    leaves = flatten(node, schema)
    for key, leaf in leaves.items():
        if isinstance(leaf.value, str) and not leaf.value.isprintable():  # it would be another line of sbatch's script
            raise leaf.error(f"{key} must be one line of text, not {show(leaf.value)}")
    given = {key: convert(known[key], leaf.plain()) for key, leaf in leaves.items()}
    values = {**defaults(schema), **(over or {}), **given}
    missing = next((key for key in known if key not in values), None)
    if missing is not None:
        raise node.error(f"'{missing}' is missing in '{name}' ({known[missing].why})")
    return values


def _refuse_twins(options: Node, resources: Mapping[str, Resources]) -> None:
    """Refuse options that sbatch does not take beside a line that the runner writes."""
    asked = next((name for name, each in resources.items() if each.memory_gb is not None), None)
    for name, key, _ in options.items():
        if name in _INSTEAD_OF_MEM and asked is not None:
            raise key.error(
                f"sbatch takes '{name}' or --mem, not both; leave --mem out with memory_gb: null in resources.{asked}"
            )


def _sections(node: Node) -> dict[str, Node]:
    """The sections of ``resources`` by kind of stage."""
    known = ("default", *STAGES, FINISH)
    sections = {}
    for key, key_node, value in _mapping("resources", node).items():
        if key not in known:
            raise key_node.error(f"unknown stage '{key}'{suggest(key, known)}; known: {', '.join(known)}")
        sections[key] = value
    if "default" not in sections:
        raise node.error("'default' is missing in 'resources'")
    return sections


def _lines(node: Node) -> tuple[str, ...]:
    """The shell lines of ``setup``."""
    if not isinstance(node.value, list):
        raise node.error(f"setup must be a list of shell lines, not {show(node.plain())}")
    for line in node.value:
        if not isinstance(line.value, str) or not line.value.strip() or not line.value.isprintable():
            raise line.error(f"a line of setup must be one line of text, not {show(line.plain())}")
    return tuple(line.value for line in node.value)


def _environment(node: Node) -> dict[str, str]:
    """Variables and their values, as they are written; names that look like secrets are refused."""
    variables: dict[str, str] = {}
    for name, key, value in _mapping("environment", node).items():
        if not _VARIABLE.fullmatch(name):
            raise key.error(f"'{name}' is not a name of a variable")
        if secret_variable(name):
            raise key.error(f"'{name}' looks like a secret; keep secrets out of profiles (docs/slurm.md)")
        if value.value is None or isinstance(value.value, list | dict):
            raise value.error(f"the variable {name} must be text or a number, not {show(value.plain())}")
        variables[name] = value.text  # not what YAML makes of 12.10, 00123, 1e6 or a date
        if url_with_password(variables[name]):
            raise value.error(f"the variable {name} holds a password; keep secrets out of profiles (docs/slurm.md)")
    return variables


def _options(node: Node) -> dict[str, str | int | bool]:
    """Long options of sbatch that the runner does not set itself."""
    options: dict[str, str | int | bool] = {}
    for name, key, value in _mapping("options", node).items():
        if not _OPTION.fullmatch(name):
            raise key.error(f"'{name}' is not a long option of sbatch; write it without dashes in front")
        if _SET_BY_RUNNER.fullmatch(name):
            raise key.error(f"'{name}' is set by the runner and cannot be chosen")
        if value.value is not True and (isinstance(value.value, bool) or not isinstance(value.value, str | int)):
            raise value.error(f"the option {name} must be text, a whole number or true, not {show(value.plain())}")
        options[name] = value.value
    return options


def _mapping(name: str, node: Node) -> Node:
    """The node itself, if it is a mapping."""
    if not isinstance(node.value, dict):
        raise node.error(f"{name} must be a mapping, not {show(node.plain())}")
    return node
