"""One sbatch through submitit: a function of one path, once or as an array."""

from __future__ import annotations

import contextlib
import math
import os
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from ablations.secret_scan import secret_variable
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from submitit import SlurmExecutor

    from ablations.slurm.profile import Profile, Resources

_OF_A_JOB = (
    "SLURM",
    "SBATCH_",
    "SRUN_",
    "SUBMITIT_",
    "CUDA_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
    "ROCR_VISIBLE_DEVICES",
)
_KEPT = ("SLURM_CONF",)
_PATIENCE_S = 300
_REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*)\}|\$([A-Za-z_]\w*)")
"""A variable of the shell in a value of the profile's environment."""


class RefusedError(UserError):
    """sbatch refused; the message is its own."""


class Sbatch:
    """Submits for one launch.

    Args:
        profile: the site.
        folder: for submitit's scripts, pickles and logs; on a disk that nodes see.
        code: folder put first on Python's path.
        root: where jobs run.
    """

    def __init__(self, profile: Profile, folder: Path, code: Path, root: Path) -> None:
        self._profile, self._folder, self._code, self._root = profile, folder.resolve(), code, root

    def submit(
        self,
        function: Callable[[str], None],
        paths: Sequence[str],
        name: str,
        resources: Resources,
        dependency: str | None = None,
        hold: bool = False,
    ) -> str:
        """Submit ``function(path)`` for every path, as an array unless there is but one; the id.

        Raises:
            RefusedError: sbatch failed.
        """
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        with clean_environment():
            executor = self._executor(name, resources, dependency, hold)
            try:
                first = executor.map_array(function, paths)[0] if len(paths) > 1 else executor.submit(function, *paths)
            except (FailedJobError, FailedSubmissionError, OSError) as error:
                raise RefusedError(_message(error)) from None
        return str(first.job_id).partition("_")[0]

    def script(
        self, count: int, name: str, resources: Resources, dependency: str | None = None, hold: bool = False
    ) -> str:
        """The script that :meth:`submit` gives to sbatch for ``count`` paths; works without SLURM."""
        with clean_environment():
            executor = self._executor(name, resources, dependency, hold)
            if count > 1:
                executor.parameters["map_count"] = count
            return str(executor._make_submission_file_text(executor._submitit_command_str, ""))

    def _executor(self, name: str, resources: Resources, dependency: str | None, hold: bool) -> SlurmExecutor:
        from submitit import SlurmExecutor

        class Executor(SlurmExecutor):
            @classmethod
            def affinity(cls) -> int:
                return 1  # submitit refuses to begin without srun; ``submit`` has looked for it before

        executor = Executor(self._folder, python=self._profile.python or shlex.quote(sys.executable))
        executor.update_parameters(**self._parameters(name, resources, dependency, hold))
        return executor

    def _parameters(self, name: str, resources: Resources, dependency: str | None, hold: bool) -> dict[str, Any]:
        profile = self._profile
        further: dict[str, Any] = {
            "chdir": str(self._root),
            "kill-on-invalid-dep": "yes",
            "requeue" if profile.requeue else "no-requeue": True,
            **{name: value for name, value in profile.options.items() if name != "wckey"},
        }
        if hold:
            further["hold"] = True
        gpus: str | int = f"{resources.gpu_type}:{resources.gpus}" if resources.gpu_type else resources.gpus
        return {
            "job_name": name,
            "time": resources.minutes,
            "cpus_per_task": resources.cpus,
            "mem": None if resources.memory_gb is None else f"{math.ceil(resources.memory_gb * 1024)}M",
            "gpus_per_node": gpus if resources.gpus else None,
            "partition": resources.partition,
            "account": resources.account,
            "qos": resources.qos,
            "constraint": resources.constraint,
            "dependency": dependency,
            "array_parallelism": resources.parallel,
            "signal_delay_s": profile.signal_seconds,
            "setup": [*profile.setup, *self._exports()],
            "srun_args": [f"--cpus-per-task={resources.cpus}"],  # not inherited from sbatch since SLURM 22.05
            "wckey": profile.options.get("wckey"),  # submitit's own default would be charged to "submitit"
            "additional_parameters": further,
        }

    def _exports(self) -> Iterator[str]:
        """After the site's own lines, which may change Python's path."""
        for variable, value in self._profile.environment.items():
            yield f"export {variable}={expanded_on_node(value)}"
        yield f"export PYTHONPATH={shlex.quote(str(self._code))}${{PYTHONPATH:+:$PYTHONPATH}}"
        yield "export PYTHONSAFEPATH=1  # the code of this launch, not that of the current folder"


def expanded_on_node(value: str) -> str:
    """A word of the shell that replaces ``~/`` at the beginning, ``$NAME`` and ``${NAME}``, and nothing else.

    The shell ends, and names the variable, where one of them is not set.
    """
    value = f"$HOME{value[1:]}" if value == "~" or value.startswith("~/") else value
    words, end = [], 0
    for reference in _REFERENCE.finditer(value):
        words += [value[end : reference.start()], f'"${{{reference[1] or reference[2]}:?is not set on this node}}"']
        end = reference.end()
    words.append(value[end:])
    return "".join(word if number % 2 else shlex.quote(word) for number, word in enumerate(words) if word) or "''"


@contextlib.contextmanager
def clean_environment() -> Iterator[None]:
    """Hide what must not reach a job: the variables of a job that submits another one, and secrets."""
    hidden = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name not in _KEPT and (name.startswith(_OF_A_JOB) or secret_variable(name))
    }
    try:
        yield
    finally:
        os.environ.update(hidden)


def scontrol(commands: Sequence[str]) -> None:
    """Give commands to one scontrol.

    Raises:
        RefusedError: one of them failed.
    """
    text = "\n".join([*commands, "quit", ""])
    try:
        done = subprocess.run(
            ["scontrol"], input=text, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RefusedError(f"scontrol: {error}") from None
    if done.returncode or done.stderr.strip():
        raise RefusedError(done.stderr.strip().splitlines()[0] if done.stderr.strip() else "scontrol failed")


def scancel(*arguments: str) -> None:
    """Cancel jobs; that there are none is no mistake."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(["scancel", "--quiet", *arguments], capture_output=True, timeout=_PATIENCE_S, check=False)


def _message(error: Exception) -> str:
    """The error message of sbatch, in one line."""
    messages = [line.strip() for line in str(error).splitlines() if "error:" in line]
    return " ".join(messages) or str(error).strip().splitlines()[0]
