from __future__ import annotations

import hashlib
import importlib.metadata
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel_builder.errors import FetchError, ToolchainMissingError
from kernel_builder.progress import Event, StepFinished, ignore_progress
from kernel_builder.toolchains import fetch
from kernel_builder.toolchains.catalog import PinnedWheel, Release, find_release, list_releases
from kernel_builder.toolchains.fetch import fetch_release, find_fetched
from kernel_builder.version import MinorVersion

VERSION = MinorVersion(1, 0)
Publish = Callable[[str], Release]


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Put a wheel with one file into a directory that pip is configured for, and give the release that pins it."""
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("KERNEL_BUILDER_CACHE", str(tmp_path / "cache"))
    for name in ("KERNEL_BUILDER_OFFLINE", "UV_OFFLINE"):
        monkeypatch.delenv(name, raising=False)

    def make(content: str) -> Release:
        wheel = index / "demo_toolkit-1.0-py3-none-any.whl"
        files = {
            "demo/bin/compiler": content,
            "demo_toolkit-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: demo-toolkit\nVersion: 1.0\n",
            "demo_toolkit-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{name},,\n" for name in (*files, "demo_toolkit-1.0.dist-info/RECORD"))
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, text in {**files, "demo_toolkit-1.0.dist-info/RECORD": record}.items():
                archive.writestr(name, text)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        return Release("demo", VERSION, 1, (PinnedWheel("demo-toolkit", "1.0", (digest,)),), (VERSION,))

    return make


def test_what_is_fetched_once_needs_no_index_again(publish: Publish, tmp_path: Path) -> None:
    release = publish("first")
    events: list[Event] = []
    directory = fetch_release(release, events.append)
    assert (directory / "demo/bin/compiler").read_text() == "first"
    assert [event.step for event in events if isinstance(event, StepFinished)] == ["fetch demo 1.0 (1 MB)"]
    (tmp_path / "index/demo_toolkit-1.0-py3-none-any.whl").unlink()
    assert fetch_release(release, ignore_progress) == directory == find_fetched(release)


def test_a_wheel_that_is_not_the_pinned_one_is_refused(publish: Publish, tmp_path: Path) -> None:
    pinned = publish("what was pinned")
    publish("what somebody put in its place")
    with pytest.raises(FetchError, match=r"serves other wheels for demo 1\.0 than the pinned ones"):
        fetch_release(pinned, ignore_progress)
    assert find_fetched(pinned) is None
    assert not [path for path in (tmp_path / "cache/toolchains").iterdir() if path.is_dir()]


def test_a_wheel_that_nobody_has_is_told_by_name(publish: Publish, tmp_path: Path) -> None:
    release = publish("first")
    (tmp_path / "index/demo_toolkit-1.0-py3-none-any.whl").unlink()
    with pytest.raises(FetchError, match=r"demo 1\.0 could not be fetched:\n.*demo-toolkit"):
        fetch_release(release, ignore_progress)


def test_what_an_interrupted_fetch_left_is_done_anew(publish: Publish) -> None:
    release = publish("first")
    broken = fetch.toolchains_dir() / release.directory_name
    broken.mkdir(parents=True)
    (broken / "half").touch()
    directory = fetch_release(release, ignore_progress)
    assert (directory / "demo/bin/compiler").is_file()
    assert not (directory / "half").exists()


def test_nothing_is_fetched_offline(publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    release = publish("first")
    monkeypatch.setenv("KERNEL_BUILDER_OFFLINE", "1")
    with pytest.raises(FetchError, match="not in the cache, and this machine is set to be offline"):
        fetch_release(release, ignore_progress)


def test_without_pip_and_uv_there_is_a_remedy(publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    release = publish("first")

    def find_nothing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", find_nothing)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolchainMissingError, match="ensurepip"):
        fetch_release(release, ignore_progress)


def test_every_wheel_of_the_catalog_is_pinned() -> None:
    for kind in ("cuda", "cutlass"):
        releases = list_releases(kind)
        assert releases
        assert len({release.directory_name for release in releases}) == len(releases)
        for release in releases:
            assert release.wheels
            for wheel in release.wheels:
                assert wheel.sha256
                assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in wheel.sha256)
                assert str(wheel).startswith(f"{wheel.name}=={wheel.version} --hash=sha256:")


def test_a_release_line_is_served_by_the_wheel_that_says_so() -> None:
    old = find_release("cutlass", MinorVersion(2, 10))
    assert old is not None
    assert old.version == MinorVersion(3, 5)
    assert find_release("cutlass", MinorVersion(9, 9)) is None
