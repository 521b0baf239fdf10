"""What an attempt that ended leaves behind for triage: its error, and the most memory it took."""

from __future__ import annotations

import resource
import sys
import traceback
from pathlib import Path
from typing import Any

from qsd.errors import first_line
from qsd.training.jsonl_log import NonFiniteLossError

_CODE = Path(__file__).resolve().parents[2]
_RUNNER = (
    "ablations/running/attempt.py",
    "ablations/running/processes.py",
    "ablations/running/verify_job.py",
)
_MOST_FRAMES = 40


def error_record(error: BaseException) -> dict[str, Any]:
    """{"type": qualified name, "message": first line, "frames": ["qsd/training/loop.py:step", ...], "diverged": bool}.

    ``diverged`` is true where a training diverged, which is a result and no fault. Frames come innermost last, without
    line numbers and relative to the project or the library folder, so that the same fault has the same frames on every
    machine and after unrelated edits.
    """
    frames = [
        f"{_place(frame.f_code.co_filename)}:{frame.f_code.co_name}"
        for frame, _line in traceback.walk_tb(error.__traceback__)
    ]
    own = [frame for frame in frames if frame.partition(":")[0] not in _RUNNER]
    return {
        "type": _name(type(error)),
        "message": first_line(error),
        "frames": own[-_MOST_FRAMES:],
        "diverged": isinstance(error, NonFiniteLossError),
    }


def one_line(error: BaseException) -> str:
    """The error for a table: its type and the first line of its message."""
    message = first_line(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def max_rss_bytes() -> int:
    """The most memory that this process has taken.

    On Linux from its own memory map: getrusage also counts what the process that started it had taken before exec.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def max_cuda_bytes() -> int | None:
    """The most memory that this process has reserved on any one GPU; None if it used none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return max(int(torch.cuda.max_memory_reserved(device)) for device in range(torch.cuda.device_count()))


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _place(file: str) -> str:
    path = Path(file)
    if "site-packages" in path.parts:
        return "/".join(path.parts[path.parts.index("site-packages") + 1 :])
    if path.is_relative_to(_CODE):
        return path.relative_to(_CODE).as_posix()
    return path.name
