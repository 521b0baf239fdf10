"""Who works on a stage, seen from another node: gone only by SLURM's own word."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from ablations.files import write_json
from ablations.slurm import query
from ablations.slurm.query import described
from ablations.store.claims import Claims
from ablations.store.owner import Owner
from ablations.store.provenance import slurm_job
from ablations.store.scheduler import JobState
from tests.conftest import ROOT

OTHER = replace(Owner.here(), host="node7", boot="other", pid=1, slurm_job="123_4", restarts=1, cluster="")


@pytest.fixture(autouse=True)
def _outside_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JOB_ID", "ARRAY_JOB_ID", "ARRAY_TASK_ID", "RESTART_COUNT", "CLUSTER_NAME"):
        monkeypatch.delenv(f"SLURM_{name}", raising=False)


def inside(monkeypatch: pytest.MonkeyPatch, job: str, restarts: int, cluster: str = "") -> None:
    array, _, element = job.partition("_")
    monkeypatch.setenv("SLURM_JOB_ID", "999")
    monkeypatch.setenv("SLURM_CLUSTER_NAME", cluster)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", array)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", element)
    if restarts:  # SLURM does not set it in the first run
        monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))


@pytest.mark.parametrize(
    ("state", "restarts", "gone"),
    [
        ("RUNNING", 1, False),
        ("RUNNING", 2, True),
        ("COMPLETING", 1, False),
        ("SUSPENDED", 1, False),
        ("CONFIGURING", 1, False),
        ("A_WORD_OF_TOMORROW", 1, False),
        ("PENDING", 1, True),
        ("REQUEUE_HOLD", 1, True),
        ("COMPLETED", 1, True),
        ("CANCELLED", 1, True),
        ("TIMEOUT", 1, True),
        ("NODE_FAIL", 1, True),
        ("OUT_OF_MEMORY", 0, True),
        ("GONE", 0, True),
    ],
)
def test_a_process_on_another_node_is_gone_when_slurm_says_so(state: str, restarts: int, gone: bool) -> None:
    asked = []

    def answer(job: str) -> JobState:
        asked.append(job)
        return described(job, state, restarts=restarts)

    assert OTHER.is_dead(answer) == gone
    assert asked == ["123_4"]


def test_a_later_process_with_the_same_number_is_another_one() -> None:
    owner = Owner.here()
    assert owner.started > 0
    assert not owner.is_dead()
    assert replace(owner, started=owner.started - 1).is_dead()
    assert replace(owner, pid=2**22 + 1).is_dead(), "no process has this number"


def test_a_start_that_was_not_recorded_proves_nothing() -> None:
    assert not replace(Owner.here(), started=-1).is_dead()


@pytest.mark.parametrize("error", [psutil.AccessDenied, psutil.NoSuchProcess], ids=["denied", "hidden by hidepid"])
def test_a_process_that_the_system_hides_counts_as_alive(
    error: type[psutil.Error], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's: it may be any process, also the one that was recorded."""
    owner = replace(Owner.here(), started=1)

    def denied(*_arguments: int) -> None:
        raise PermissionError

    def hidden(pid: int) -> None:
        raise error(pid)

    monkeypatch.setattr(os, "kill", denied)
    monkeypatch.setattr(psutil, "Process", hidden)
    assert not owner.is_dead()


@pytest.mark.parametrize(
    ("user", "hidden", "gone"),
    [(os.geteuid(), True, True), (os.geteuid() + 1, True, False), (os.geteuid() + 1, False, True), (-1, True, False)],
    ids=["own", "hidden", "visible", "of an earlier version"],
)
def test_no_such_process_proves_nothing_where_others_are_hidden(
    user: int, hidden: bool, gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some sandboxes say it of every process that they hide."""

    def no_such_process(*_arguments: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", no_such_process)
    monkeypatch.setattr("ablations.store.owner._others_are_hidden", lambda: hidden)
    assert replace(Owner.here(), user=user).is_dead() == gone


_AS_ANOTHER_USER = """
import json, os, sys
from ablations.store import owner
fields = json.loads(sys.argv[1])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
print(os.path.exists(f"/proc/{fields['pid']}"), owner.Owner.of(fields).is_dead(), owner._others_are_hidden())
"""


@pytest.mark.slow
@pytest.mark.parametrize("options", ["hidepid=2", "hidepid=2,subset=pid"])
def test_a_real_process_under_hidepid_counts_as_alive(options: str) -> None:
    """This very test's, looked at by another user who does not see it."""
    mount = ["unshare", "-m", "sh", "-c", f'mount -t proc -o {options} proc /proc && exec "$@"', "sh"]
    if os.geteuid() or subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("waits for root: only root can mount /proc")
    here = json.dumps(Owner.here().fields())
    command = [*mount, sys.executable, "-c", _AS_ANOTHER_USER, here]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    seen = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert seen.stdout.split() == ["False", "False", "True"], seen.stderr


def test_setting_the_clock_makes_no_other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Owner.here()
    later = psutil.boot_time() + 3600
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: later)
    assert psutil.boot_time() == later
    assert Owner.here() == owner
    assert not owner.is_dead()


def test_a_clock_set_between_two_looks_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = replace(Owner.here(), started=1)
    times = iter(range(1_000, 10_000_000, 1_000))
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: float(next(times)))
    assert not owner.is_dead()


def test_without_an_answer_no_process_is_dead() -> None:
    assert not OTHER.is_dead(lambda _: None)
    assert not replace(OTHER, slurm_job="").is_dead(lambda job: described(job, "GONE"))


def test_the_default_question_goes_to_the_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "job_state", lambda job: described(job, "COMPLETED"))
    assert OTHER.is_dead()
    monkeypatch.setattr(query, "job_state", lambda _: None)
    assert not OTHER.is_dead()


def test_another_container_on_this_machine_is_judged_by_slurm_too() -> None:
    other = replace(Owner.here(), namespace="pid:[1]", slurm_job="5")
    assert other.is_dead(lambda job: described(job, "COMPLETED"))
    assert not other.is_dead(lambda job: described(job, "RUNNING"))


def test_a_controller_of_another_cluster_knows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = replace(OTHER, cluster="big")
    for name, gone in (("big", True), ("small", False), (None, False)):
        monkeypatch.setattr(query, "cluster", lambda name=name: name)
        assert owner.is_dead(lambda job: described(job, "GONE")) == gone
    inside(monkeypatch, "7_1", 0, cluster="big")
    assert owner.is_dead(lambda job: described(job, "GONE"))


@pytest.mark.parametrize(("restarts", "gone"), [(0, False), (1, False), (2, True)])
def test_a_requeued_job_follows_its_own_earlier_run(restarts: int, gone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    inside(monkeypatch, "123_4", restarts)

    def ask(job: str) -> JobState:
        raise AssertionError(f"{job}: no question is needed")

    assert OTHER.is_dead(ask) == gone


def test_a_claim_names_the_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    inside(monkeypatch, "123_4", 3, cluster="big")
    claims = Claims(tmp_path)
    assert claims.take("k") is not None
    owner = claims.owner("k")
    assert owner == Owner.here()
    assert owner is not None
    assert (owner.slurm_job, owner.restarts, owner.cluster) == ("123_4", 3, "big")
    assert str(owner).endswith("(SLURM job 123_4)")


def test_a_job_that_is_no_array(monkeypatch: pytest.MonkeyPatch) -> None:
    assert slurm_job() is None
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    job = slurm_job()
    assert job is not None
    assert (job["job"], job["restarts"]) == ("77", 0)


def test_a_claim_of_before_this_version_is_read(tmp_path: Path) -> None:
    fields = {name: value for name, value in Owner.here().fields().items() if name in ("host", "boot", "namespace")}
    write_json(tmp_path / "k" / "1", {"owner": {**fields, "pid": 2**22 + 1, "started": 1}})
    assert Claims(tmp_path).take("k") is not None


def test_one_answer_serves_many_claims(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    for key, state in (("a", "RUNNING"), ("b", "TIMEOUT")):
        write_json(tmp_path / key / "1", {"owner": replace(OTHER, slurm_job=state).fields()})
    known = {state: described(state, state, restarts=1) for state in ("RUNNING", "TIMEOUT")}
    assert claims.holder("a", known.get) == replace(OTHER, slurm_job="RUNNING")
    assert claims.holder("b", known.get) is None
    assert claims.owner("b") is not None, "as written, gone or not"


def test_a_number_is_never_used_twice(tmp_path: Path) -> None:
    """A process with an old listing of a shared folder must not create a number that was there."""
    claims = Claims(tmp_path)
    for number in (1, 2, 3):
        claim = claims.take("k")
        assert claim is not None
        assert claim.path.name == str(number)
        claim.release()
    assert sorted(path.name for path in (tmp_path / "k").iterdir()) == ["1", "2", "3"]


@pytest.mark.parametrize(
    "damage",
    [{"pid": 0}, {"pid": -1}, {"pid": 2**31}, {"pid": "5"}, {"pid": None}, {"started": 1e300}, {"user": "x"}],
)
def test_a_damaged_claim_names_no_process(damage: dict[str, Any], tmp_path: Path) -> None:
    """kill(2) takes 0 for a group of processes and -1 for all: 'ablate cancel' must not come to signal one."""
    write_json(tmp_path / "k" / "1", {"owner": {**Owner.here().fields(), **damage}})
    holder = Claims(tmp_path).holder("k")
    assert holder is not None
    assert not holder.is_known
    assert not holder.is_here()
    assert str(holder) == "an unknown process (its claim cannot be read)"


FIRST, CONTAINER = "pid:[4026531836]", "pid:[4026532200]"


@pytest.mark.parametrize(
    ("namespace", "now", "gone"),
    [(FIRST, FIRST, True), (CONTAINER, CONTAINER, False), (FIRST, CONTAINER, False), (CONTAINER, FIRST, False)],
)
def test_a_container_of_the_same_name_on_another_machine_is_not_this_one_restarted(
    namespace: str, now: str, gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name and machine id are the image's, and even the number of the namespace may be the same."""
    monkeypatch.setattr("ablations.store.owner._namespace", lambda: now)
    monkeypatch.setattr("ablations.store.owner._machine", lambda: "of the image")
    there = replace(Owner.here(), boot="another", namespace=namespace, machine="of the image")
    assert there.machine_restarted() == there.is_dead() == gone


@pytest.mark.parametrize("shared", ["pid", "uts", ""])
def test_a_container_has_no_machine_of_its_own(shared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it shares one of the namespaces with its machine."""
    names = {"pid": FIRST, "uts": "uts:[4026531838]"}
    if Path("/etc/machine-id").exists():
        monkeypatch.setattr("ablations.store.owner._link", names.get)
        assert Owner.here().machine
    inside = {**dict.fromkeys(names, "kind:[4026532200]"), **({shared: names[shared]} if shared else {})}
    monkeypatch.setattr("ablations.store.owner._link", inside.get)
    assert Owner.here().machine == ""


@pytest.mark.skipif(sys.platform != "linux", reason="waits for Linux: other systems have no boot id")
@pytest.mark.parametrize("hidden", ["_boot", "_namespace"])
def test_where_the_boot_is_hidden_a_missing_process_proves_nothing(
    hidden: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in containers whose /proc shows processes alone: the same name may be another machine's."""
    monkeypatch.setattr(f"ablations.store.owner.{hidden}", lambda: "")
    gone = replace(Owner.here(), pid=2**22 + 1)
    assert not gone.is_here()
    assert not gone.is_dead()
