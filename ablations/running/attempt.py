"""One try at running a stage, in a process of its own: claim, run, seal, and leave a record of how it went.

``python -m ablations.running.attempt JOB.json`` and the local runner's workers enter by the same :func:`main`.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.files import write_json
from ablations.running import error_record, execution_overrides, precompute
from ablations.running.log_file import log_to
from ablations.running.precompute import PRECOMPUTE
from ablations.running.processes import FailedProcessError, ProcessGroup
from ablations.running.progress_file import ProgressFile
from ablations.running.stopping import Stop
from ablations.running.verify_job import check_code, check_inputs, check_meaning
from ablations.store import attempts
from ablations.store.jobs import Job, load_table
from ablations.store.owner import Owner
from ablations.store.provenance import code_state, environment, slurm_job, versions
from qsd.errors import UserError
from qsd.files import remove_leftovers
from qsd.run_store import Record
from qsd.runtime import Interrupted, StageContext
from qsd.surroundings import explained

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ablations.store.artefacts import Store
    from ablations.store.claims import Claim
    from qsd.runtime import Report

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_BUSY = 75
EXIT_INTERRUPTED = 143


def main(arguments: Sequence[str]) -> int:
    """Run the job whose file is the only argument; the exit status of the process.

    0: the stage is done. 1: it failed. 75: another process works on it. 143: this process was asked to end.
    """
    (path,) = arguments
    try:
        job = Job.read(Path(path))
        os.chdir(job.root)
        return run(job)
    except OSError as error:  # the attempt's own files cannot be written; what the stage raises is recorded below
        explanation = explained(error)
        if explanation is None:
            raise
        print(f"error: {explanation}", file=sys.stderr, flush=True)
        return EXIT_FAILED
    except UserError as error:  # no claim can be made here
        print(f"error: {error}", file=sys.stderr, flush=True)
        return EXIT_FAILED


def run(job: Job) -> int:
    """Run one stage unless it is done or another process works on it; returns as :func:`main`."""
    store = job.store()
    if store.is_done(job.stage, job.key):
        return EXIT_DONE
    claim = store.claims.take(job.key)
    if claim is None:
        return EXIT_BUSY
    if store.is_done(job.stage, job.key) or store.finish_interrupted_seal(job.stage, job.key):
        claim.forget()
        return EXIT_DONE
    return _attempt(job, store, claim)


def _attempt(job: Job, store: Store, claim: Claim) -> int:
    stop = Stop()
    stop.watch()
    folder = attempts.new_folder(store.attempts(job.stage, job.key))
    log_to(folder / attempts.LOG)
    begin = time.monotonic()
    origin = _origin(job)
    write_json(folder / attempts.ATTEMPT, origin)
    report = ProgressFile(folder / attempts.PROGRESS, stop)
    group = ProcessGroup(job.processes, folder / attempts.PROCESSES, report, stop)
    ending = _Ending("done", EXIT_DONE)
    try:
        try:
            adjusted = execution_overrides.read(store, job.stage, job.key)
            if adjusted:
                write_json(folder / attempts.ATTEMPT, {**origin, "adjusted": adjusted})
            _run_stage(job, store, {**job.values, **adjusted}, report, stop, group, folder)
            claim.forget()
        finally:
            stop.unwatch()
    except BaseException as fault:
        ending = _ending(fault)
    report.flush()
    write_json(
        folder / attempts.EXIT,
        {
            "state": ending.state,
            "reason": ending.reason,
            "seconds": round(time.monotonic() - begin, 3),
            "max_rss_bytes": group.max_rss_bytes(),
            "max_cuda_bytes": group.max_cuda_bytes(),
            "end": datetime.now(UTC).isoformat(timespec="seconds"),
            "signal": group.stopped_by() if ending.state == "interrupted" else None,
            "progress": group.progress(),
            "error": ending.error,
        },
    )
    if ending.code != EXIT_DONE:
        claim.release()
    return ending.code


@dataclass(frozen=True)
class _Ending:
    """How an attempt ended; ``error`` as in ``error_record``."""

    state: str
    code: int
    reason: str | None = None
    error: dict[str, Any] | None = None


def _ending(fault: BaseException) -> _Ending:
    """What an exception means for the attempt; prints it where the log does not have it yet."""
    if isinstance(fault, Interrupted):
        return _Ending("interrupted", EXIT_INTERRUPTED, str(fault))
    if isinstance(fault, FailedProcessError):
        return _Ending("failed", EXIT_FAILED, fault.reason, fault.error)
    if isinstance(fault, UserError):
        print(f"error: {fault}", flush=True)
        return _Ending("failed", EXIT_FAILED, str(fault), error_record.error_record(fault))
    traceback.print_exception(fault)
    return _Ending("failed", EXIT_FAILED, error_record.one_line(fault), error_record.error_record(fault))


def _origin(job: Job) -> dict[str, Any]:
    return {
        "stage": job.stage,
        "key": job.key,
        "start": datetime.now(UTC).isoformat(timespec="seconds"),
        "owner": Owner.here().fields(),
        "git": code_state(Path(job.root), job.snapshot),
        "versions": versions(),
        "slurm": slurm_job(),
        "snapshot": Path(job.snapshot).name if job.snapshot else None,
        "adjusted": {},
        "environment": environment(),
        "processes": job.processes,
    }


def _run_stage(
    job: Job,
    store: Store,
    values: Mapping[str, Any],
    report: ProgressFile,
    stop: Stop,
    group: ProcessGroup,
    folder: Path,
) -> None:
    _limit_threads(int(values["threads"]))
    table = load_table(job.table)
    check_code(job)
    if job.stage == PRECOMPUTE:
        precompute.run(job, store, table, report)
        return
    check_meaning(job, table)
    check_inputs(job, store)
    if table.STAGES[job.stage].examines_model:
        from qsd.models.whole import check_whole

        check_whole(str(values["model.path"]))
    from qsd.config.load import build

    module, _, function = table.STAGES[job.stage].entry.partition(":")
    output = store.partial(job.stage, job.key)
    output.mkdir(parents=True, exist_ok=True)
    remove_leftovers(output)  # of an attempt that was killed while it wrote a file
    inputs = {name: store.artefact(name, key) for name, key in job.inputs.items()}
    shared = store.shared(job.stage, job.version, job.inputs) if table.STAGES[job.stage].precompute else None

    def work(report: Report) -> None:
        errors = store.reference_errors
        context = StageContext(build(values), inputs, output, report, stop.stopping, shared, errors, folder)
        getattr(importlib.import_module(module), function)(context)

    group.run(work)
    store.seal(Record(job.stage, job.version, job.key, job.meaning, job.inputs, files={}))


def _limit_threads(threads: int) -> None:
    """The same thread count everywhere: sums in another order are other bytes."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
