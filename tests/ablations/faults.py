"""Real faults for the stages of a test: each raises, or ends its process, as the true thing does."""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Callable
from pathlib import Path


def cuda_memory() -> None:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a capacity of 79 GiB")


def cpu_tensor() -> None:
    import torch

    torch.empty(1 << 60)


def host_memory() -> None:
    bytearray(1 << 62)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def disk_full() -> None:
    with Path("/dev/full").open("w") as stream:
        stream.write("x" * 100_000)


def missing_file() -> None:
    Path("weights/unet.safetensors").read_bytes()


def missing_module() -> None:
    importlib.import_module("flash_attention_of_the_future")


def diverged() -> None:
    from qsd.training.jsonl_log import NonFiniteLossError

    raise NonFiniteLossError(3, "loss", float("nan"))


def terminated() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def bug() -> None:
    [][0]


def crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


FAULTS: dict[float, Callable[[], None]] = {
    601: cuda_memory,
    602: cpu_tensor,
    603: host_memory,
    604: killed,
    605: disk_full,
    606: missing_file,
    607: missing_module,
    608: diverged,
    609: terminated,
    610: bug,
    611: crash,
}
"""``loss.beta`` -> fault."""
EXPECTED: dict[float, str] = {
    601: "cuda-oom",
    602: "host-oom",
    603: "host-oom",
    604: "host-oom",
    605: "disk-full",
    606: "missing-file",
    607: "missing-module",
    608: "non-finite",
    609: "cancelled",
    610: "user-code",
    611: "user-code",
}


def faulty(*betas: float, seeds: str = "[0]") -> str:
    axes = f"axes: {{loss.beta: [100, {', '.join(map(str, betas))}]}}\nbaseline: {{loss.beta: 100}}\n"
    return f"question: q\nexperiment: tiny\n{axes}seeds: {seeds}\n"
