"""Starts attempts by forking a process that has imported the libraries: once a launch, not once a stage.

The process is the fork server of ``multiprocessing``. It starts no threads and does not touch CUDA, so its children
are sound. It ends with the launcher, and the attempts end with it, however the launcher ends.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time
from multiprocessing import forkserver, get_context
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.running import attempt
from ablations.running.process_lifetime import run_as_child
from qsd.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from multiprocessing.context import ForkServerProcess

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
    "ablations.running.preload_clip",
    "pandas",
    "pyarrow.dataset",
)
"""What the stages of ``qsd`` import. None of these starts a thread (``_NO_THREAD``)."""
_NO_THREAD = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""pyarrow's allocator would start one when it is imported, and a fork must not be made with threads."""
EXIT_UNKNOWN = 255
"""``multiprocessing``'s exit status of a process whose fork server is gone: the kernel has killed the process too."""
_OWN = ("ablations.running.fork_server", "ablations.running.workers", "ablations.cli")
"""Imported by the fork server before all else. A child imports the launcher's main program, so ``ablations.cli``."""
_QUIET_TRACKER = "ignore::UserWarning:multiprocessing.resource_tracker"
"""The fork server is killed at the end, with the semaphores that libraries made in it. multiprocessing's own process
for such leftovers removes them, and would report it below the table."""
_TRIES = 20
_PAUSE_S = 0.1


class Workers:
    """Starts attempts in processes of their own, which die with this process.

    ``multiprocessing`` has one fork server per process, so there is one instance at a time.

    Args:
        preload: modules that the fork server imports before its first attempt.
        threads: threads per attempt, for the libraries that read it when they are loaded.

    Raises:
        UserError: the fork server cannot be started.
    """

    def __init__(self, preload: Sequence[str], threads: int) -> None:
        pools = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        self._limits = pools | _NO_THREAD
        self._context = get_context("forkserver")
        self._running: dict[int, ForkServerProcess] = {}
        self._context.set_forkserver_preload([*_OWN, *preload])
        try:
            with _variables({**self._limits, "PYTHONWARNINGS": _QUIET_TRACKER}):
                forkserver.ensure_running()  # does not wait for the imports
        except OSError as error:  # its socket is a file: the name may be too long, or every temporary folder full
            raise UserError(
                f"the process that starts attempts cannot be started: {error}; set TMPDIR to a folder with free space "
                "and a path of less than 60 characters"
            ) from None

    def start(self, identity: int, job: Path, environment: Mapping[str, str]) -> None:
        """Start the attempt at a job with more environment variables; ``identity`` names it from then on.

        The first call waits until the fork server has imported the libraries. A killed one is started again.

        Raises:
            UserError: the fork server does not start.
        """
        # All of it, and not only what differs: the fork server may be older than a change of this process's variables.
        variables = {**os.environ, **self._limits, **environment}
        process = self._context.Process(target=_attempt, args=(str(job.resolve()), variables))
        for _ in range(_TRIES):
            # It has died, or is dying: multiprocessing starts another one as soon as the kernel reports its death.
            with contextlib.suppress(OSError, EOFError), _variables({**self._limits, "PYTHONWARNINGS": _QUIET_TRACKER}):
                process.start()
                self._running[identity] = process
                return
            time.sleep(_PAUSE_S)
        socket = _socket()
        if socket is not None and not socket.exists():
            raise UserError(
                f"{socket}, by which attempts are started, was deleted while the launch ran; the same command "
                "continues it, and TMPDIR chooses a folder that is not cleaned up"
            )
        raise UserError(
            "the process that starts attempts ended before it started one: an import failed or was killed; 'ablate "
            "doctor' checks this machine, and python -c 'import torch, diffusers' shows the error"
        )

    def signal(self, identity: int, number: int) -> None:
        """Send a signal to an attempt, if it still runs."""
        process = self._running.get(identity)
        if process is not None and process.exitcode is None:
            assert process.pid is not None
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)

    def ended(self, timeout: float) -> list[tuple[int, int]]:
        """Wait up to ``timeout`` seconds for attempts to end: (identity, exit status or minus the signal's number).

        The exit status is ``EXIT_UNKNOWN`` where the fork server was killed, and the attempt with it.
        """
        ready = wait([process.sentinel for process in self._running.values()], timeout)
        ended = [identity for identity, process in self._running.items() if process.sentinel in ready]
        return [(identity, self._forget(identity)) for identity in ended]

    def close(self) -> None:
        """End whatever attempt still runs, and the fork server."""
        for process in self._running.values():
            process.kill()
        for identity in list(self._running):
            self._forget(identity)
        server = forkserver._forkserver
        pid = getattr(server, "_forkserver_pid")  # noqa: B009  # not in the type stubs
        if pid is not None:
            # Ending the interpreter would only list what compiled libraries did not free.
            os.kill(pid, signal.SIGKILL)
            socket = _socket()
            if socket is not None and not socket.exists():  # multiprocessing would fail to delete it, and its folder
                socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                socket.touch()
            getattr(server, "_stop")()  # noqa: B009

    def _forget(self, identity: int) -> int:
        """Wait for the end of an attempt and free what is held for it; its exit status."""
        process = self._running.pop(identity)
        process.join()
        code = process.exitcode
        process.close()
        assert code is not None
        return code


def _socket() -> Path | None:
    """The file by which the fork server is reached; None: there is no fork server."""
    address = getattr(forkserver._forkserver, "_forkserver_address")  # noqa: B009
    return Path(address) if address else None


def _attempt(job: str, environment: dict[str, str]) -> None:
    """All that a child of the fork server does."""
    # The fork server alone imports this module: importing it acts.
    server: int = sys.modules["ablations.running.fork_server"].PROCESS

    def body() -> int:
        # Held open here, this pipe would keep the fork server from noticing that the launcher is gone.
        os.close(getattr(forkserver._forkserver, "_forkserver_alive_fd"))  # noqa: B009
        gc.freeze()  # keeps the collector from touching, and so copying, the pages shared with the fork server
        os.environ.clear()
        os.environ.update(environment)  # in time for CUDA, which reads it when it is first used
        return attempt.main([job])

    run_as_child(server, body)


@contextlib.contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
