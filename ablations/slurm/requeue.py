"""Whether a stopped stage goes back into SLURM's queue: only while it gets further from one stop to the next.

Each stop of a SLURM job is noted in ``runs/stops/<stage>/<key>.<job>.json``; a new submission is a new job, and starts
without stops.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.files import numbered, write_json
from ablations.json_shapes import fields, listing, optional, read_shaped, text, whole
from ablations.slurm.query import job_state
from ablations.store import attempts
from ablations.store.provenance import slurm_job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ablations.store.jobs import Job

NO_PROGRESS = "no progress"
"""How the reason begins for a stage that was stopped because it made no progress."""
_PATIENCE_S = 60
_STOPS = listing(fields(done=whole, total=optional(whole), unit=optional(text)))


def is_ours(folder: Path) -> bool:
    """True for an attempt that this very run of this SLURM job made."""
    this_job, made_by = slurm_job(), attempts.origin(folder).get("slurm")
    return this_job is not None and made_by == this_job


def note_stop(job: Job) -> None:
    """Note how far the stage has come in this run of the SLURM job, which is about to end."""
    if slurm_job() is not None:
        write_json(_stops_file(job), [*_stops(job), _reached(job)])


def stuck(job: Job) -> str | None:
    """Why a stage must not be tried again in this SLURM job; None while its tries get further.

    It is stuck if it stopped at the same place twice in a row, or twice in a row behind its best.
    """
    if slurm_job() is None:
        return None
    stops = _stops(job)
    done = [int(stop["done"]) for stop in stops]
    # A stop counts as progress only if it is beyond all stops before it.
    moved = [number > max(done[:place], default=0) for place, number in enumerate(done)]
    if len(stops) < 2 or moved[-1] or (moved[-2] and done[-1] != done[-2]):
        return None
    last = stops[-1]
    place = f"{last['done']} of {last['total']} {last['unit']}" if last["done"] else "its beginning"
    return (
        f"{NO_PROGRESS}: stopped at {place} again, without progress since the previous stop; give the stage more time"
    )


def wanted(signals: Sequence[int]) -> bool:
    """Whether a job that got these signals should put itself back into the queue.

    USR2 announces the time limit or preemption. SIGTERM comes with ``scancel``, which must stay an end, but also with
    the grace time of a preemption. The scheduler knows which: a cancelled job is not running any more to it.
    """
    this_job = slurm_job()
    if this_job is None or signal.SIGINT in signals:
        return False
    state = job_state(this_job["job"])
    if state is None:  # without an answer, a SIGTERM may be a cancellation: rather end than come back uncalled for
        return signal.SIGTERM not in signals and signal.SIGHUP not in signals
    return state.state == "RUNNING"


def requeue() -> bool:
    """Put this job back into the queue; False where the site does not let a node do that."""
    this_job = slurm_job()
    if this_job is None or shutil.which("scontrol") is None:
        print("no scontrol on this node; `ablate resume` submits the rest", flush=True)
        return False
    try:
        subprocess.run(["scontrol", "requeue", this_job["job"]], timeout=_PATIENCE_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"scontrol requeue: {error}; `ablate resume` submits the rest", flush=True)
        return False
    return True


def _stops_file(job: Job) -> Path:
    this_job = slurm_job()
    assert this_job is not None
    return Path(job.runs) / "stops" / job.stage / f"{job.key}.{this_job['job']}.json"


def _stops(job: Job) -> list[dict[str, Any]]:
    return read_shaped(_stops_file(job), _STOPS) or []


def _reached(job: Job) -> dict[str, Any]:
    """The last report of this run's attempt; it may have been killed before it ended in order, or never have begun."""
    folder = job.store().attempts(job.stage, job.key)
    for number in reversed(numbered(folder)):
        own = folder / str(number)
        if is_ours(own):
            progress = (attempts.outcome(own) or {}).get("progress") or attempts.last_report(own)
            return {name: progress[name] for name in ("done", "total", "unit")} if progress else {"done": 0}
    return {"done": 0}
