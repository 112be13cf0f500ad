"""The registry is killed without a word, at any moment: a branch is what it was or what it was to be."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Timer

import httpx2 as httpx
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from tests.integration.faulty_proxy import FaultyProxy
from tests.registry.process import WRITE_TOKEN, RegistryProcess

FILES = 12
KILLS = 6
SEEDS = 8


@dataclass(frozen=True)
class Published:
    """A kernel whose branch `v1` holds one release: every file says which."""

    registry: RegistryProcess
    kernel: str

    def release(self, number: int, api: HfApi | None = None) -> None:
        additions = [CommitOperationAdd(f"build/{name}.py", f"{number}".encode()) for name in range(FILES)]
        (api or self.registry.api()).create_commit(
            self.kernel, additions, commit_message=f"release {number}", repo_type="kernel", revision="v1"
        )

    def read_release(self, folder: Path) -> int:
        """The release that the branch holds, which must be one."""
        snapshot = self.registry.api().snapshot_download(
            self.kernel, repo_type="kernel", revision="v1", cache_dir=folder, allow_patterns="build/*"
        )
        contents = [path.read_text(encoding="utf-8") for path in Path(snapshot).glob("build/*.py")]
        assert len(contents) == FILES
        (number,) = set(contents)
        return int(number)


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    """Serve a registry that bad things happen to."""
    with RegistryProcess(tmp_path_factory.mktemp("victim") / "registry") as running:
        yield running


@pytest.fixture
def published(victim: RegistryProcess, tmp_path: Path) -> Published:
    """Publish release 0 of a kernel."""
    made = Published(victim, f"crashes/{tmp_path.name.replace('_', '-')}")
    victim.api().create_repo(made.kernel, repo_type="kernel")
    victim.api().create_branch(made.kernel, branch="v1", repo_type="kernel")
    made.release(0)
    return made


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the Hub's client try again at once."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)


@pytest.mark.usefixtures("_hurried")
def test_killed_while_it_commits(published: Published, tmp_path: Path) -> None:
    dice = random.Random(7)  # noqa: S311 - a test's dice
    before = 0
    for number in range(1, KILLS + 1):
        # A release takes some tens of milliseconds here: some kills come before it, some within, some after it.
        timer = Timer(dice.uniform(0.005, 0.12), published.registry.kill)
        timer.start()
        with suppress(httpx.HTTPError, HfHubHTTPError):
            published.release(number)
        timer.join()
        published.registry.start()
        found = published.read_release(tmp_path / str(number))
        assert found in {before, number}
        before = found
    assert not list((published.registry.root / "incoming").iterdir())


@pytest.mark.usefixtures("_hurried")
@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_happens_on_the_way(published: Published, tmp_path: Path, seed: int) -> None:
    """A client that tries again until it is told of success has published, once or more, and nothing in between."""
    with FaultyProxy(published.registry, seed, rate=0.5) as proxy:
        api = HfApi(endpoint=proxy.endpoint, token=WRITE_TOKEN)
        for _ in range(10):
            with suppress(httpx.HTTPError, HfHubHTTPError):
                published.release(1, api)
                break
            assert published.read_release(tmp_path / "between") in {0, 1}
    assert published.read_release(tmp_path / "after") == 1


def test_two_servers_do_not_share_a_folder(victim: RegistryProcess) -> None:
    second = RegistryProcess(victim.root)
    with pytest.raises(AssertionError, match="another process is serving"):
        second.start()


def test_tampered_bytes_are_never_served(published: Published, tmp_path: Path) -> None:
    api = published.registry.api()
    published.release(1234)
    blobs = (path for path in (published.registry.root / "blobs").rglob("*") if path.is_file())
    (blob,) = (path for path in blobs if path.read_bytes() == b"1234")
    for attempt, content in enumerate((b"1235", b"", b"12345")):
        blob.write_bytes(content)
        with pytest.raises(LocalEntryNotFoundError) as refused:
            api.hf_hub_download(
                published.kernel, "build/0.py", repo_type="kernel", revision="v1", cache_dir=tmp_path / str(attempt)
            )
        assert "damaged on the registry's disk" in str(refused.value.__cause__)
    published.release(1234)  # the same again: what is sent replaces what is damaged
    assert published.read_release(tmp_path / "healed") == 1234


@pytest.mark.parametrize("folder", ["commits", "trees", "refs/heads"])
def test_tampered_records_are_told(published: Published, folder: str) -> None:
    published.registry.stop()
    for path in (published.registry.root / "repositories" / "kernels" / published.kernel / folder).iterdir():
        path.write_bytes(path.read_bytes().replace(b"a", b"b").replace(b"0", b"1"))
    published.registry.start()
    with pytest.raises(HfHubHTTPError, match="damaged on the registry's disk"):
        published.registry.api().repo_info(published.kernel, repo_type="kernel", revision="v1")


def test_a_tree_that_was_led_to_another_content_is_told(published: Published, tmp_path: Path) -> None:
    """The names of git do not cover where a content lies; what it is, they do."""
    published.release(77)
    published.release(78)
    published.registry.stop()
    old, new = (sha256(text).hexdigest().encode() for text in (b"77", b"78"))
    folder = published.registry.root / "repositories" / "kernels" / published.kernel / "trees"
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(new, old))
    published.registry.start()
    with pytest.raises(LocalEntryNotFoundError) as refused:
        published.registry.api().hf_hub_download(
            published.kernel, "build/0.py", repo_type="kernel", revision="v1", cache_dir=tmp_path
        )
    assert "is damaged on the registry's disk" in str(refused.value.__cause__)


def test_it_ends_in_order(victim: RegistryProcess) -> None:
    assert victim.stop() == 0
    assert "Traceback" not in "".join(victim.log)
    victim.start()
