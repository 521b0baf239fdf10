"""Looking at the queue and at stages while a test waits."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from ablations.planning.plan import Plan
from ablations.slurm.profile import FINISH
from ablations.store.artefacts import Store
from ablations.store.launches import latest_jobs


def command(*words: str) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


def queue() -> dict[str, str]:
    """Job -> state of the jobs that wait or run, without the last job of a launch."""
    lines = command("squeue", "--noheader", "--array", "--format=%i|%T|%j").splitlines()
    rows = [line.split("|") for line in lines]
    return {job: state for job, state, name in rows if not name.startswith(FINISH)}


def scancel_all() -> None:
    """Cancel everything and wait until it is gone."""
    subprocess.run(["scancel", "--state=PENDING"], check=False)
    subprocess.run(["scancel", "--full", "--signal=KILL", "--state=RUNNING"], check=False)
    subprocess.run(["scancel", "--me"], check=False)
    wait_for(lambda: not command("squeue", "--noheader"), "an empty queue", 60)


def wait_for(condition: Callable[[], object], what: str, seconds: float = 300, scene: bool = True) -> None:
    """Poll until ``condition`` holds; ``scene`` adds what SLURM says to the message."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}\n{_scene() if scene else ''}"
        time.sleep(0.2)


def _scene() -> str:
    return command("squeue", "--array") + command("sinfo", "--Node", "--long")


def wait_for_end(seconds: float = 600) -> None:
    """Until no stage waits or runs; requeued jobs are made eligible at once."""

    def ended() -> bool:
        release_requeued()
        return not queue()

    wait_for(ended, "the end of all stages", seconds)


def release_requeued() -> None:
    """SLURM lets a requeued job wait two minutes; here two seconds.

    Started within the second in which it was stopped, its node would refuse it: "Job credential revoked".
    """
    asked = "--Format=JobArrayID:|,Reason:|,EligibleTime:|"
    for line in command("squeue", "--noheader", "--array", "--states=PENDING", asked).splitlines():
        job, reason, eligible = (part.strip() for part in line.split("|")[:3])
        if reason == "BeginTime" and datetime.fromisoformat(eligible) > datetime.now() + timedelta(seconds=20):  # noqa: DTZ005
            subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now+2"], check=False)


def job_of(plan: Plan, store: Store, stage: str, index: int = 0) -> str:
    """The job of the ``index``-th stage of a kind."""
    keys = [key for key, node in plan.nodes.items() if node.stage == stage]
    return latest_jobs(store)[keys[index]].job


def undone(plan: Plan, store: Store) -> list[str]:
    """Labels of the stages that are not done."""
    return [plan.label(node) for key, node in plan.nodes.items() if not store.is_done(node.stage, key)]


def runs(fake_log: Path) -> Counter[str]:
    """Stage -> how often it was started, by what the stages themselves noted."""
    lines = fake_log.read_text().splitlines()
    return Counter(line.split()[1] for line in lines if line.startswith("run "))


def logs(store: Store) -> str:
    """The ends of submitit's logs, for messages."""
    files = sorted((store.root / "submitit").rglob("*_log.*"))
    return "\n".join(f"-- {path.name}\n{path.read_text()[-1500:]}" for path in files)
