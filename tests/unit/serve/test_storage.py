from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel_builder.errors import BadInputError
from kernel_builder.serve.catalog import Catalog, MovedError
from kernel_builder.serve.faults import RequestError
from kernel_builder.serve.names import RepoId, RepoType
from kernel_builder.serve.objects import git_oid
from kernel_builder.serve.storage import Blob, Storage

RELU = RepoId.parse(RepoType.KERNEL, "org", "relu")
GELU = RepoId.parse(RepoType.KERNEL, "org", "gelu")


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    made = Storage(tmp_path / "root")
    yield made
    made.close()


def keep(storage: Storage, content: bytes) -> Blob:
    with storage.receive() as receiver:
        receiver.write(content)
        blob = receiver.finish()
        storage.keep([receiver])
    return blob


def test_contents_go_by_their_digest(storage: Storage) -> None:
    blob = keep(storage, b"content")
    assert blob == Blob(hashlib.sha256(b"content").hexdigest(), 7)
    assert storage.find(blob.sha256, git_oid("blob", b"content")).read_bytes() == b"content"
    assert storage.has(blob)
    assert not storage.has(Blob(blob.sha256, 8))
    assert keep(storage, b"content") == blob
    assert list(storage.incoming.iterdir()) == []


def test_what_is_not_kept_leaves_nothing(storage: Storage) -> None:
    with storage.receive() as receiver:
        receiver.write(b"half")
        with pytest.raises(RequestError, match="received 4 bytes"):
            receiver.finish(Blob("0" * 64, 4))
    assert list(storage.incoming.iterdir()) == []
    assert list(storage.blobs.iterdir()) == []


def test_a_touched_content_is_read_again(storage: Storage) -> None:
    blob = keep(storage, b"content")
    path = storage.find(blob.sha256)
    status = path.stat()
    path.write_bytes(b"CONTENT")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as whoever hides a change would
    with pytest.raises(RequestError, match="damaged"):
        storage.find(blob.sha256)
    path.unlink()
    with pytest.raises(RequestError, match="damaged"):
        storage.find(blob.sha256)


def test_one_process_at_a_time(storage: Storage) -> None:
    with pytest.raises(BadInputError, match="another process"):
        Storage(storage.root)


def test_what_was_on_its_way_is_gone_at_the_next_start(tmp_path: Path) -> None:
    first = Storage(tmp_path / "root")
    first.incoming_path().write_bytes(b"half")
    secret = first.secret()
    first.close()
    second = Storage(tmp_path / "root")
    assert list(second.incoming.iterdir()) == []
    assert second.secret() == secret
    assert (second.root / "secret").stat().st_mode & 0o077 == 0
    second.close()


def test_a_move_that_was_cut_off_is_finished(storage: Storage) -> None:
    catalog = Catalog(storage)
    made = catalog.create(RELU, private=False, author="me")
    made.folder.rename(made.folder.with_name("gelu"))  # the step that decides; the process ended right after it
    again = Catalog(storage)
    assert again.find(GELU).settings.id == "org/gelu"
    with pytest.raises(RequestError):
        again.find(RELU)


def test_a_folder_without_settings_is_no_repository(storage: Storage) -> None:
    (storage.repositories / "kernels" / "org" / "relu").mkdir(parents=True)
    assert list(Catalog(storage).list(RepoType.KERNEL)) == []
    with pytest.raises(RequestError, match="not found"):
        Catalog(storage).find(RELU)
    (storage.repositories / "kernels" / "org" / "relu" / "commits").mkdir()
    with pytest.raises(RequestError, match="damaged"):
        Catalog(storage).create(RELU, private=False, author="me")
    (storage.repositories / "kernels" / "org" / "relu" / "commits").rmdir()
    Catalog(storage).create(RELU, private=False, author="me")


def test_the_way_to_a_moved_repository(storage: Storage) -> None:
    catalog = Catalog(storage)
    made = catalog.create(RELU, private=True, author="me")
    catalog.move(made, GELU)
    with pytest.raises(MovedError) as moved:
        catalog.find(RELU)
    assert moved.value.new == GELU
    catalog.delete(catalog.find(GELU))
    assert not catalog.has(RELU)
