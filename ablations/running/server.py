"""A warm process that starts attempts by forking: the libraries are imported once, not once per stage.

Run as ``python -m ablations.running.server PARENT_PID MODULE...``. It reads commands as JSON lines from standard input
and writes events as JSON lines to standard output:

    {"run": ID, "job": PATH, "environment": {NAME: VALUE}}
        ->  {"id": ID, "code": exit status, or minus the signal that ended it}
    {"signal": ID, "number": N}

It ends when its standard input closes. It starts no threads and does not touch CUDA, so that its children are sound.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.running import attempt, forkserver_info
from ablations.running.process_lifetime import end_with_parent, run_as_child
from ablations.store.provenance import git_state, versions

if TYPE_CHECKING:
    from collections.abc import Sequence

PRELOAD = (
    "omegaconf",
    "torch",
    "safetensors.torch",
    "PIL.Image",
    "peft",
    "transformers.models.clip.modeling_clip",
    "diffusers.models.autoencoders.autoencoder_kl",
    "diffusers.models.unets.unet_2d_condition",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "open_clip.model",
)
"""What the stages of ``qsd`` import. None of these starts a thread; pyarrow would, and is quick to import."""
_POLL_S = 0.05
_BEGIN = time.monotonic()


class Server:
    """The loop of the warm process."""

    def __init__(self) -> None:
        self._pending = b""
        self._children: dict[int, int] = {}
        self._events = os.dup(1)  # the attempts' own output must not mix with events
        os.dup2(2, 1)

    def serve(self) -> None:
        """Serve until standard input closes."""
        while True:
            ready, _, _ = select.select([0], [], [], _POLL_S)
            if ready:
                data = os.read(0, 65536)
                if not data:
                    return
                *lines, self._pending = (self._pending + data).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))
            self._reap()

    def _obey(self, command: dict[str, Any]) -> None:
        if "run" in command:
            self._start(command["run"], command["job"], command["environment"])
            return
        for pid, identity in self._children.items():
            if identity == command["signal"]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, command["number"])

    def _start(self, identity: int, job: str, environment: dict[str, str]) -> None:
        server = os.getpid()
        pid = os.fork()
        if pid:
            self._children[pid] = identity
            return

        def body() -> int:
            os.close(self._events)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.environ.update(environment)  # in time for CUDA, which reads it when it is first used
            return attempt.main([job])

        run_as_child(server, body)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            event = {"id": self._children.pop(pid), "code": os.waitstatus_to_exitcode(status)}
            os.write(self._events, json.dumps(event).encode() + b"\n")


def main(arguments: Sequence[str]) -> None:
    """Import the modules named after the parent's process number, then serve."""
    parent, *modules = arguments
    end_with_parent(int(parent))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for module in modules:
        with contextlib.suppress(ImportError):  # the stage that needs it will say so in its log
            importlib.import_module(module)
    git_state(Path.cwd())  # remembered by the children: it is this process that holds the code they run
    versions()
    forkserver_info.set_forkserver(time.monotonic() - _BEGIN)
    gc.freeze()  # keeps the collector from touching, and so copying, the shared pages
    Server().serve()
    # Ending the interpreter would only list what compiled libraries did not free.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
