"""Slices of wheels from an index over HTTP, good and bad: what is fetched, what is refused, what is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_builder.backend import Backend
from kernel_builder.errors import BuilderError, ExitCode, FetchError, ToolchainMissingError
from kernel_builder.host import HostPlatform
from kernel_builder.sdk.settings import load_settings
from kernel_builder.torch_sdk import TorchSdk
from kernel_builder.version import MinorVersion
from tests.sdk.loopback_index import LoopbackIndex, serve_index
from tests.sdk.places import Place, list_files
from tests.sdk.wheels import LARGE, VERSION_HEADER, WheelRecipe, make_wheel

HEADER = "torch/include/ATen/ops/op_7.h"


@pytest.fixture(scope="session")
def good_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_wheel(WheelRecipe(), tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "wheels").mkdir()
    return Place(tmp_path / "wheels", tmp_path / "cache")


@pytest.fixture
def index(place: Place, good_wheel: Path) -> Iterator[LoopbackIndex]:
    shutil.copy(good_wheel, place.wheels)
    with serve_index(place.wheels) as served:
        yield served


def check_is_whole(sdk: TorchSdk) -> None:
    files = set(list_files(sdk.root))
    assert {"version.py", "include/ATen/ATen.h", "share/cmake/Torch/TorchConfig.cmake"} <= files
    assert sum(name.startswith("include/ATen/ops/") for name in files) == 40
    assert {f"lib/lib{name}.so" for name in ("c10", "c10_cuda", "torch", "torch_cpu", "torch_cuda")} <= files
    assert sdk.version == "2.11.0+cu130"
    assert sdk.accelerators == {Backend.CUDA: MinorVersion(13, 0)}


def test_a_slice_costs_its_headers_and_little_more(place: Place, index: LoopbackIndex) -> None:
    sdk = place.obtain(index.url)
    check_is_whole(sdk)
    received, requests = place.traffic()
    assert requests == len(index.requests)
    assert index.count_files() <= 5
    assert received < (place.wheels / "torch-2.11.0-cp310-cp310-manylinux_2_28_x86_64.whl").stat().st_size / 2
    assert not (sdk.root / "nn.py").exists()
    assert (sdk.library_dir / "libtorch_cpu.so").stat().st_size < 2000, "the stub, not the library"
    assert place.strays == []


@pytest.mark.parametrize("as_json", [False, True], ids=["html", "json"])
@pytest.mark.parametrize("suffix", [False, True], ids=["from the front", "from the end"])
def test_whatever_the_index_speaks_the_slice_is_the_same(
    place: Place, index: LoopbackIndex, *, as_json: bool, suffix: bool
) -> None:
    index.manners.as_json, index.manners.suffix = as_json, suffix
    check_is_whole(place.obtain(index.url))


def test_once_cached_nothing_is_asked_for(place: Place, index: LoopbackIndex) -> None:
    first = place.obtain(index.url)
    asked = len(index.requests)
    assert place.obtain(index.url) == first
    assert place.obtain(offline=True) == first
    assert place.obtain(backend=Backend.CPU, offline=True).root == first.root, "CUDA headers serve the CPU as well"
    assert len(index.requests) == asked


@pytest.mark.parametrize("lengths", [True, False], ids=["with length", "without length"])
def test_an_index_without_ranges_gives_the_whole_wheel_once(
    place: Place, index: LoopbackIndex, *, lengths: bool
) -> None:
    index.manners.ranges, index.manners.lengths = False, lengths
    check_is_whole(place.obtain(index.url))
    assert index.count_files() == 1
    assert place.strays == []


def test_a_whole_wheel_with_another_hash_is_refused(place: Place, index: LoopbackIndex) -> None:
    index.manners.ranges, index.manners.wrong_hash = False, True
    with pytest.raises(FetchError, match="its index says 0000000000000000"):
        place.obtain(index.url)
    assert place.slices == []
    assert place.strays == []
    index.manners.wrong_hash = False
    check_is_whole(place.obtain(index.url))


def test_what_breaks_off_is_taken_up_where_it_ended(place: Place, index: LoopbackIndex) -> None:
    index.manners.truncations = 3
    check_is_whole(place.obtain(index.url))
    whole = sum(index.sent)
    ranges = [request.range for request in index.requests if request.range]
    assert len(ranges) > 5
    assert whole < 6 << 20, "nothing came twice"


def test_without_ranges_a_truncated_wheel_is_fetched_again(place: Place, index: LoopbackIndex) -> None:
    index.manners.ranges, index.manners.truncations = False, 1
    check_is_whole(place.obtain(index.url))


def test_an_index_that_always_truncates_is_told_of_and_what_came_is_kept(place: Place, index: LoopbackIndex) -> None:
    index.manners.truncations, index.manners.truncate_at = 1000, 0
    with pytest.raises(FetchError, match="broke off 4 times") as raised:
        place.obtain(index.url)
    assert "go on from there" in (raised.value.problems[0].hint or "")
    assert place.slices == []
    index.manners.truncations = 0
    check_is_whole(place.obtain(index.url))


def test_a_busy_index_is_asked_again(place: Place, index: LoopbackIndex) -> None:
    index.manners.busy = 2
    check_is_whole(place.obtain(index.url))


def test_bytes_that_changed_on_the_way_are_refused_and_fetched_anew(place: Place, index: LoopbackIndex) -> None:
    wheel = next(place.wheels.iterdir()).read_bytes()
    offset = wheel.index(HEADER.encode()) + len(HEADER) + 500
    index.manners.flipped = frozenset({offset})
    with pytest.raises(FetchError, match=f"`{HEADER}` (cannot be unpacked|is not the file that RECORD lists)"):
        place.obtain(index.url)
    assert place.slices == []
    assert place.strays == [], "a part that may be wrong is not kept"
    index.manners.flipped = frozenset()
    check_is_whole(place.obtain(index.url))


def test_an_answer_with_another_range_is_refused(place: Place, index: LoopbackIndex) -> None:
    index.manners.suffix, index.manners.shift = False, 1
    with pytest.raises(FetchError, match="another range"):
        place.obtain(index.url)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (WheelRecipe(lies={HEADER: "wrong digest"}), "is not the file that RECORD lists"),
        (WheelRecipe(lies={HEADER: "unlisted"}), "is not in its `RECORD`"),
        (WheelRecipe(lies={HEADER: "symlink"}), "is a symbolic link"),
        (WheelRecipe(lies={HEADER: "bzip2"}), "is packed in a way that wheels are not"),
        (WheelRecipe(extra={"torch/include/../../../evil.h": b"x"}), "would leave its directory"),
        (WheelRecipe(extra={"torch/include//etc/../evil.h": b"x"}), "would leave its directory"),
    ],
    ids=["wrong digest", "unlisted", "symlink", "bzip2", "escape", "hidden escape"],
)
def test_a_wheel_that_lies_is_refused(place: Place, recipe: WheelRecipe, message: str) -> None:
    make_wheel(recipe, place.wheels)
    with serve_index(place.wheels) as served, pytest.raises(FetchError, match=message) as raised:
        place.obtain(served.url)
    assert raised.value.problems[0].hint
    assert place.slices == []
    assert not list(place.cache.parent.rglob("evil.h"))


@pytest.mark.parametrize("damage", ["empty", "text", "cut"])
def test_what_is_no_wheel_is_refused(place: Place, good_wheel: Path, damage: str) -> None:
    data = good_wheel.read_bytes()
    content = {"empty": b"", "text": b"<html>sign in</html>" * 100, "cut": data[: len(data) // 2]}[damage]
    (place.wheels / good_wheel.name).write_bytes(content)
    with serve_index(place.wheels) as served, pytest.raises(FetchError) as raised:
        place.obtain(served.url)
    assert raised.value.problems[0].hint
    assert place.slices == []


def test_a_wheel_that_changed_since_it_was_locked_is_refused(
    place: Place, index: LoopbackIndex, tmp_path: Path
) -> None:
    lock_file = tmp_path / "project" / "sdk.lock"
    place.obtain(index.url, lock_file=lock_file)
    make_wheel(WheelRecipe(extra={"torch/include/ATen/more.h": b"// new\n"}), place.wheels)
    shutil.rmtree(place.cache)
    with pytest.raises(FetchError, match=r"another `torch-2.11.0-.*` than the one that is locked") as raised:
        place.obtain(index.url, lock_file=lock_file)
    assert raised.value.problems[0].location is not None
    assert place.slices == []


def test_a_lock_file_names_the_wheel_that_is_taken(place: Place, index: LoopbackIndex, tmp_path: Path) -> None:
    lock_file = tmp_path / "sdk.lock"
    first = place.obtain(index.url, lock_file=lock_file)
    make_wheel(WheelRecipe(version="2.11.1"), place.wheels)
    (place.cache / "sdk/1/sdk.lock").unlink(missing_ok=True)
    assert place.obtain(index.url).version == "2.11.0+cu130", "cached"
    shutil.rmtree(place.cache)
    assert place.obtain(index.url).version == "2.11.1+cu130"
    assert place.obtain(index.url, lock_file=lock_file).version == first.version
    damaged = lock_file.read_text(encoding="utf-8").replace('"record": "', '"record": "0')
    lock_file.write_text(damaged, encoding="utf-8")
    with pytest.raises(FetchError, match="than the one that is locked"):
        place.obtain(index.url, lock_file=lock_file)
    lock_file.write_text("{}", encoding="utf-8")
    with pytest.raises(BuilderError, match=r"the lock file .* cannot be read"):
        place.obtain(index.url, lock_file=lock_file)


def test_a_slice_that_lost_files_is_fetched_anew(place: Place, index: LoopbackIndex) -> None:
    sdk = place.obtain(index.url)
    (sdk.include_dir / "ATen/ATen.h").unlink()
    check_is_whole(place.obtain(index.url))
    header = sdk.include_dir / "ATen/ATen.h"
    header.chmod(0o644)
    header.write_text("", encoding="utf-8")
    check_is_whole(place.obtain(index.url))
    assert header.read_text(encoding="utf-8") != ""


def test_credentials_reach_their_index_and_no_message(place: Place, index: LoopbackIndex) -> None:
    index.manners.login = ("anna", "pass:w@rd")
    with pytest.raises(FetchError, match="asks for credentials") as raised:
        place.obtain(index.url)
    assert raised.value.exit_code is ExitCode.FETCH_FAILED
    wrong = index.url.replace("http://", "http://anna:sesame@")
    with pytest.raises(FetchError) as refused:
        place.obtain(wrong)
    assert "sesame" not in str(refused.value)
    check_is_whole(place.obtain(index.url.replace("http://", "http://anna:pass%3Aw%40rd@")))
    assert "rd@" not in "".join(path.read_text() for path in place.cache.rglob("*.json"))


def test_credentials_do_not_follow_a_redirect_to_another_host(place: Place, index: LoopbackIndex) -> None:
    with serve_index(place.wheels) as files:
        index.manners.login, index.manners.redirect = ("anna", "secret"), files.url.removesuffix("/simple")
        check_is_whole(place.obtain(index.url.replace("http://", "http://anna:secret@")))
        assert files.count_files() > 0
        assert {request.authorization for request in files.requests} == {None}


def test_a_netrc_is_read(place: Place, index: LoopbackIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login anna password secret\n", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    index.manners.login = ("anna", "secret")
    check_is_whole(place.obtain(index.url))


def test_a_directory_of_wheels_will_do(place: Place, good_wheel: Path) -> None:
    shutil.copy(good_wheel, place.wheels)
    settings = place.settings(find_links=(str(place.wheels),))
    check_is_whole(place.obtain(settings=settings))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"release": MinorVersion(3, 1)}, "there is no torch 3.1 on the index; its newest is 2.11.0"),
        ({"host": HostPlatform("aarch64", "darwin"), "backend": Backend.METAL}, "no wheel of torch 2.11 serves"),
        ({"backend": Backend.ROCM, "toolkit": MinorVersion(7, 2)}, "torch211-cxx11-rocm72-x86_64-linux"),
        ({"offline": True}, "is not in the cache, and nothing is fetched offline"),
        ({"cxx11": False}, "has the new C\\+\\+ string ABI"),
    ],
    ids=["release", "platform", "backend", "offline", "string ABI"],
)
def test_what_cannot_be_had_is_said(place: Place, index: LoopbackIndex, more: dict[str, object], message: str) -> None:
    with pytest.raises(ToolchainMissingError, match=message) as raised:
        place.obtain(index.url, **more)
    assert raised.value.problems[0].hint


def test_an_index_that_is_not_there_is_an_error_only_where_no_other_helps(place: Place, index: LoopbackIndex) -> None:
    gone = "http://127.0.0.1:1/simple"
    settings = place.settings(gone, retries=0)
    with pytest.raises(FetchError, match=r"cannot reach `http://127.0.0.1:1/simple/torch/`"):
        place.obtain(settings=settings)
    check_is_whole(place.obtain(settings=place.settings(gone, index.url, retries=0)))
    assert any("passed over" in getattr(event, "message", "") for event in place.events)


def run_fetch(place: Place, url: str, *, before: str = "") -> subprocess.Popen[str]:
    """Fetch in a process of its own, as users do."""
    code = f"{before}\nimport sys\nfrom kernel_builder.cli import main\nsys.exit(main())"
    environment = {
        **os.environ,
        "KERNEL_BUILDER_CACHE": str(place.cache),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": url,
        "PIP_FIND_LINKS": "",
        "UV_NO_CONFIG": "1",
        "NO_PROXY": "127.0.0.1",
    }
    arguments = [sys.executable, "-c", code, "sdk", "fetch", "2.11", "--host", "x86_64-linux", "--backend", "cuda"]
    return subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=place.wheels
    )


def test_a_download_that_was_killed_goes_on_from_there(place: Place, index: LoopbackIndex) -> None:
    index.manners.pause = 0.02
    process = run_fetch(place, index.url)
    assert index.file_started.wait(60)
    while sum(index.sent) < LARGE // 2 and process.poll() is None:
        threading.Event().wait(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert place.slices == []
    assert place.strays, "what came is kept"
    sent_before = sum(index.sent)
    index.manners.pause = 0.0
    _, errors = (second := run_fetch(place, index.url)).communicate()
    assert second.returncode == 0, errors
    check_is_whole(place.obtain(offline=True))
    assert sum(index.sent) - sent_before < sent_before * 3
    assert place.strays == []


def test_a_kill_while_unpacking_leaves_no_half_slice(place: Place, index: LoopbackIndex) -> None:
    stop_early = (
        "import os, signal\n"
        "from kernel_builder.sdk import record\n"
        "original = record.Archive.read\n"
        "def read(self, name):\n"
        f"    if name == {HEADER!r}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return original(self, name)\n"
        "record.Archive.read = read\n"
    )
    process = run_fetch(place, index.url, before=stop_early)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert place.slices == []
    with pytest.raises(ToolchainMissingError):
        place.obtain(offline=True)
    check_is_whole(place.obtain(index.url))
    assert place.strays == []


def test_two_at_once_fetch_once(place: Place, index: LoopbackIndex) -> None:
    index.manners.pause = 0.005
    processes = [run_fetch(place, index.url) for _ in range(3)]
    answers = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], answers
    check_is_whole(place.obtain(offline=True))
    assert index.count_files() <= 5, "one fetched, the others waited for it"
    assert any("waiting" in errors for _, errors in answers)


def test_a_disk_that_is_full_is_said_to_be_full(place: Place, index: LoopbackIndex) -> None:
    limit = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({LARGE // 2}, {LARGE // 2}))\n"
    process = run_fetch(place, index.url, before=limit)
    _, errors = process.communicate()
    assert process.returncode == ExitCode.FETCH_FAILED, errors
    assert "no space left" in errors
    assert "KERNEL_BUILDER_CACHE" in errors
    assert place.slices == []
    check_is_whole(place.obtain(index.url))


def test_a_cache_that_cannot_be_written_is_said_to_be_so(place: Place, index: LoopbackIndex) -> None:
    place.cache.write_text("a file", encoding="utf-8")
    with pytest.raises(BuilderError, match="cannot write to the cache") as raised:
        place.obtain(index.url)
    assert "KERNEL_BUILDER_CACHE" in (raised.value.problems[0].hint or "")


def test_a_build_for_the_cpu_serves_cuda_with_the_files_that_it_lacks(place: Place) -> None:
    recipe = WheelRecipe(local="+cpu", cuda=None, libraries=("libc10.so", "libtorch.so", "libtorch_cpu.so"))
    make_wheel(recipe, place.wheels)
    with serve_index(place.wheels) as served:
        sdk = place.obtain(served.url, toolkit=MinorVersion(13, 0))
    assert sdk.accelerators == {Backend.CUDA: MinorVersion(13, 0)}
    assert "C10_CUDA_BUILD_SHARED_LIBS" in (sdk.include_dir / "c10/cuda/impl/cuda_cmake_macros.h").read_text()
    assert (sdk.library_dir / "libtorch_cuda.so").exists()


def test_variants_may_have_an_index_of_their_own(place: Place, index: LoopbackIndex, tmp_path: Path) -> None:
    recipe = WheelRecipe(version="2.11.0+rocm7.2", local="", cuda=None, hip="7.2.1")
    make_wheel(recipe, tmp_path / "rocm")
    with serve_index(tmp_path / "rocm") as rocm:
        environment = {"KERNEL_BUILDER_INDEX": f"*-rocm72-*={rocm.url}", "PIP_INDEX_URL": index.url}
        settings = load_settings({**environment, "PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"})
        settings = place.settings(*settings.indexes, variant_indexes=settings.variant_indexes)
        sdk = place.obtain(settings=settings, backend=Backend.ROCM, toolkit=MinorVersion(7, 2))
        assert sdk.accelerators == {Backend.ROCM: MinorVersion(7, 2)}
        assert rocm.count_files() > 0
        check_is_whole(place.obtain(settings=settings))
    assert (VERSION_HEADER.removeprefix("torch/")) in set(list_files(sdk.root))
