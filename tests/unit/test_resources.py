from __future__ import annotations

from pathlib import Path

import pytest

from kernel_builder import resources
from kernel_builder.resources import BYTES_PER_JOB, count_heavy_jobs, count_jobs, probe_cores, probe_free_memory

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 64 cores and 32 GiB free; files of control groups can be added."""
    (tmp_path / "meminfo").write_text(f"MemTotal: 99\nMemAvailable: {32 << 20} kB\n", encoding="ascii")
    monkeypatch.setattr(resources, "_CGROUP", tmp_path)
    monkeypatch.setattr(resources, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64 + pid)))
    return tmp_path


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="ascii")


def test_without_limits_all_is_ours(machine: Path) -> None:
    del machine
    assert probe_cores() == 64
    assert probe_free_memory() == 32 * GIB


@pytest.mark.parametrize(("quota", "cores"), [("150000 100000", 2), ("max 100000", 64), ("10000 100000", 1), ("x", 64)])
def test_a_container_gives_a_share_of_the_cores(machine: Path, quota: str, cores: int) -> None:
    write(machine, cpu_DOT_max=quota)
    assert probe_cores() == cores


def test_old_control_groups_spell_it_in_two_files(machine: Path) -> None:
    write(machine, cpu__cpu_DOT_cfs_quota_us="400000", cpu__cpu_DOT_cfs_period_us="100000")
    assert probe_cores() == 4
    write(machine, cpu__cpu_DOT_cfs_quota_us="-1")
    assert probe_cores() == 64


def test_a_container_gives_a_share_of_the_memory(machine: Path) -> None:
    write(machine, memory_DOT_max=str(8 * GIB), memory_DOT_current=str(6 * GIB))
    assert probe_free_memory() == 2 * GIB
    write(machine, memory_DOT_stat=f"anon 5\ninactive_file {3 * GIB}")
    assert probe_free_memory() == 5 * GIB
    write(machine, memory_DOT_max="max")
    assert probe_free_memory() == 32 * GIB


def test_an_unlimited_old_control_group_is_no_limit(machine: Path) -> None:
    write(machine, memory__memory_DOT_limit_in_bytes="9223372036854771712", memory__memory_DOT_usage_in_bytes="5")
    assert probe_free_memory() == 32 * GIB


def test_where_nobody_tells_nothing_is_assumed(machine: Path) -> None:
    (machine / "meminfo").unlink()
    assert probe_free_memory() is None


@pytest.mark.parametrize(
    ("cores", "free", "wanted", "jobs"),
    [
        (8, 100 * BYTES_PER_JOB, None, 8),
        (8, 3 * BYTES_PER_JOB, None, 3),
        (8, 0, None, 1),
        (8, None, None, 8),
        (8, 0, 20, 20),
        (8, None, 0, 1),
        (8, None, 10**20, 1024),
    ],
)
def test_jobs_are_what_cores_and_memory_allow(cores: int, free: int | None, wanted: int | None, jobs: int) -> None:
    assert count_jobs(cores, free, wanted=wanted) == jobs


@pytest.mark.parametrize(
    ("jobs", "free", "heavy"), [(8, None, 8), (2, 24 * GIB, 2), (16, 24 * GIB, 11), (3, 4 * GIB, 1), (2, GIB, 1)]
)
def test_heavy_compilers_are_as_many_as_the_memory_holds(jobs: int, free: int | None, heavy: int) -> None:
    assert count_heavy_jobs(jobs, free) == heavy
    assert free is None or heavy == 1 or heavy * 2_000_000_000 + (jobs - heavy) * 600_000_000 <= free
