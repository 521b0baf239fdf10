"""What a process may still take: of a node, of control groups, of a SLURM job."""

from __future__ import annotations

from pathlib import Path

import pytest

from qsd.scoring import memory_groups
from qsd.scoring.host_memory import free_bytes

MIB = 2**20
UNLIMITED_V1 = 9223372036854771712
GROUP_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    2: ("memory.max", "memory.current", ""),
}


def node(root: Path, groups: str = "") -> Path:
    """``/proc`` of a node with 8000 MiB free, of a process that has taken 100 MiB and is in these control groups."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 16384000 kB\nMemAvailable: {8000 * 1024} kB\nHugePages_Total: 0\n")
    (root / "proc/self/status").write_text(f"Name:\tpython\nVmHWM:\t  204800 kB\nVmRSS:\t  {100 * 1024} kB\n")
    (root / "proc/self/cgroup").write_text(groups)
    return root


def group(root: Path, version: int, path: str, limit: object, used: int, cache: int = 0) -> None:
    """A control group: its limit as the kernel writes it, MiB that it has taken, and MiB of those in page cache."""
    folder = root / ("sys/fs/cgroup/memory" if version == 1 else "sys/fs/cgroup") / path
    folder.mkdir(parents=True, exist_ok=True)
    limit_file, used_file, prefix = GROUP_FILES[version]
    (folder / limit_file).write_text(f"{limit}\n")
    (folder / used_file).write_text(f"{used * MIB}\n")
    half = cache // 2 * MIB
    lines = [f"anon {used * MIB}", f"{prefix}active_file {half}", f"{prefix}inactive_file {half}"]
    (folder / "memory.stat").write_text("\n".join(lines) + "\n")


def test_a_node_alone(tmp_path: Path) -> None:
    assert free_bytes(node(tmp_path), {}) == 8000 * MIB


def test_a_system_that_does_not_tell(tmp_path: Path) -> None:
    assert free_bytes(tmp_path, {}) == 2**62
    assert free_bytes(tmp_path, {"SLURM_MEM_PER_NODE": "10"}) == 10 * MIB


@pytest.mark.parametrize("version, line", [(1, "4:cpu,memory:/slurm/job_7/step_0"), (2, "0::/slurm/job_7/step_0")])
def test_the_tightest_group_above_a_process_decides(tmp_path: Path, version: int, line: str) -> None:
    """The limit stands at the job, above the step; of 500 MiB taken there, 200 are page cache."""
    root = node(tmp_path, f"3:cpuset:/elsewhere\n{line}\n")
    none = UNLIMITED_V1 if version == 1 else "max"
    group(root, version, "", none, 9000)
    group(root, version, "slurm/job_7/step_0", none, 400)
    assert free_bytes(root, {}) == 8000 * MIB
    group(root, version, "slurm/job_7", 2000 * MIB, 500, cache=200)
    assert free_bytes(root, {}) == (2000 - 500 + 200) * MIB
    group(root, version, "slurm", 1900 * MIB, 600)
    assert free_bytes(root, {}) == 1300 * MIB
    group(root, version, "slurm/job_8", 10 * MIB, 5)
    group(root, version, "elsewhere", 10 * MIB, 5)
    assert free_bytes(root, {}) == 1300 * MIB, "groups of others do not count"
    group(root, version, "slurm", 1900 * MIB, 1950)
    assert free_bytes(root, {}) == 0


@pytest.mark.parametrize("line", ["0::/", "0::/../outside", "0::/not/seen/from/here"])
def test_a_container_has_its_limit_at_the_top(tmp_path: Path, line: str) -> None:
    root = node(tmp_path, line + "\n")
    group(root, 2, "", 1000 * MIB, 400)
    assert free_bytes(root, {}) == 600 * MIB


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({"SLURM_MEM_PER_NODE": "3000"}, 2900),
        ({"SLURM_MEM_PER_CPU": "500", "SLURM_CPUS_ON_NODE": "4"}, 1900),
        ({"SLURM_MEM_PER_NODE": "3000", "SLURM_MEM_PER_CPU": "500", "SLURM_CPUS_ON_NODE": "4"}, 2900),
        ({"SLURM_MEM_PER_CPU": "500"}, 8000),
        ({"SLURM_MEM_PER_NODE": "0"}, 8000),
        ({"SLURM_MEM_PER_NODE": "50"}, 0),
        ({"SLURM_MEM_PER_NODE": "20000"}, 8000),
    ],
)
def test_the_share_of_a_slurm_job(tmp_path: Path, environment: dict[str, str], expected: int) -> None:
    """Without control groups: what the job was given on this node, but for the 100 MiB of this process."""
    assert free_bytes(node(tmp_path), environment) == expected * MIB


def test_a_job_is_counted_as_a_whole_where_groups_count_it(tmp_path: Path) -> None:
    """Another process of the job has 1500 of its 2000 MiB."""
    root = node(tmp_path, "0::/job_7\n")
    group(root, 2, "job_7", 2000 * MIB, 1600)
    assert free_bytes(root, {"SLURM_MEM_PER_NODE": "2000"}) == 400 * MIB


def test_reward_models_on_a_cpu_share_what_the_job_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """This very process, in a job of one more MiB than nothing."""
    assert memory_groups.free_bytes("cpu") > 0
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1")
    assert memory_groups.free_bytes("cpu") == 0
