from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from kernel_builder.errors import BadInputError
from kernel_builder.release.bundle import MANIFEST, SIGNATURE, open_bundle, write_bundle
from kernel_builder.release.contents import collect_release
from kernel_builder.release.model import Evidence, Release
from kernel_builder.release.signing import (
    encode_key,
    load_private_key,
    load_public_key,
    load_trusted_keys,
    make_key,
    trusted_directory,
)
from tests.unit.release.samples import make_artifact

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
MODULE = "build/torch-cpu/__init__.py"
Edit = Callable[[dict[str, bytes]], object]


@pytest.fixture
def release(tmp_path: Path) -> Release:
    artifacts = [make_artifact(tmp_path / "build", name) for name in ("torch-cpu", "torch-cuda")]
    return replace(collect_release(artifacts), evidence={"torch-cpu": Evidence("passed", "3 passed")})


@pytest.fixture
def bundle(release: Release, tmp_path: Path) -> Path:
    write_bundle(release, tmp_path / "relu-v1.kernel.zip", KEY, repo_id="acme/relu", reports=[{"schema": 1}])
    return tmp_path / "relu-v1.kernel.zip"


def refusal(file: Path, *trusted: Ed25519PublicKey) -> str:
    with pytest.raises(BadInputError) as refused, open_bundle(file, trusted or (KEY.public_key(),)):
        pass
    return refused.value.problems[0].message


def rewrite(file: Path, edit: Edit) -> None:
    """Let somebody change the entries of a file."""
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    edit(entries)
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def test_what_goes_in_comes_out(release: Release, bundle: Path) -> None:
    with open_bundle(bundle, [KEY.public_key()]) as opened:
        assert {path: file.sha256 for path, file in opened.release.files.items()} == {
            path: file.sha256 for path, file in release.files.items()
        }
        assert opened.release.evidence == release.evidence
        assert opened.repo_id == "acme/relu"
        assert opened.reports == ({"schema": 1},)
        place = opened.release.artifacts[0].path
    assert not place.exists()


def test_equal_releases_give_equal_bytes(release: Release, bundle: Path, tmp_path: Path) -> None:
    write_bundle(release, tmp_path / "again.zip", KEY, repo_id="acme/relu", reports=[{"schema": 1}])
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes()


def test_a_stranger_is_refused(bundle: Path) -> None:
    other = Ed25519PrivateKey.generate().public_key()
    assert "is not trusted here" in refusal(bundle, other)


def test_a_signature_by_another_key_under_a_trusted_name_is_refused(bundle: Path) -> None:
    stranger = Ed25519PrivateKey.generate()

    def forge(entries: dict[str, bytes]) -> None:
        document = json.loads(entries[SIGNATURE])
        document["signature"] = base64.b64encode(stranger.sign(entries[MANIFEST])).decode()
        assert document["key"] == encode_key(KEY.public_key())
        entries[SIGNATURE] = json.dumps(document).encode()

    rewrite(bundle, forge)
    assert "its signature is not that of" in refusal(bundle)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda entries: entries.update({MODULE: entries[MODULE] + b"#"}), f"`{MODULE}` is not what was signed"),
        (lambda entries: entries.update({MODULE: entries[MODULE][:-1]}), f"`{MODULE}` is not what was signed"),
        (lambda entries: entries.update({MODULE: entries[MODULE][:-1] + b"#"}), f"`{MODULE}` is not what was signed"),
        (lambda entries: entries.pop(MODULE), f"`{MODULE}` is in the file or in the manifest, but not in both"),
        (lambda entries: entries.update({"build/torch-cpu/x.py": b""}), "but not in both"),
        (lambda entries: entries.update({"../escape.py": b""}), "`../escape.py` leads elsewhere"),
        (lambda entries: entries.update({"/etc/escape": b""}), "leads elsewhere"),
        (lambda entries: entries.update({"build\\x": b""}), "leads elsewhere"),
        (lambda entries: entries.update({MODULE.upper(): b""}), "two entries have the same name"),
        (lambda entries: entries.update({MANIFEST: entries[MANIFEST] + b" "}), "its signature is not that of"),
        (lambda entries: entries.pop(SIGNATURE), f"it has no `{SIGNATURE}`"),
        (lambda entries: entries.update({SIGNATURE: b"[" * 9000}), "its signature cannot be read"),
        (lambda entries: entries.update({SIGNATURE: b"{}" + b" " * (1 << 17)}), "is too large"),
    ],
)
def test_a_file_that_was_changed_is_refused(bundle: Path, edit: Edit, reason: str) -> None:
    rewrite(bundle, edit)
    assert reason in refusal(bundle)


@pytest.mark.parametrize("repo_id", ["../../etc", "a/b/c", "https://hub/x", ""])
def test_a_signed_file_may_still_name_no_repository(release: Release, tmp_path: Path, repo_id: str) -> None:
    write_bundle(release, tmp_path / "odd.zip", KEY, repo_id=repo_id)
    assert "its manifest cannot be read" in refusal(tmp_path / "odd.zip")


def test_a_link_is_refused(bundle: Path) -> None:
    with zipfile.ZipFile(bundle, "a") as archive:
        link = zipfile.ZipInfo("build/torch-cpu/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert "is no plain file" in refusal(bundle)


@pytest.mark.parametrize("cut", [0, 10, 200, -1])
def test_half_a_file_is_refused(bundle: Path, cut: int) -> None:
    bundle.write_bytes(bundle.read_bytes()[:cut])
    assert refusal(bundle)


def test_every_flipped_byte_is_refused_or_harmless(release: Release, bundle: Path) -> None:
    """What a zip file says twice may be wrong once; what comes out is what was signed, or nothing."""
    whole = bundle.read_bytes()
    for place in range(0, len(whole), 97):
        damaged = bytearray(whole)
        damaged[place] ^= 0x40
        bundle.write_bytes(bytes(damaged))
        try:
            with open_bundle(bundle, [KEY.public_key()]) as opened:
                assert {path: file.sha256 for path, file in opened.release.files.items()} == {
                    path: file.sha256 for path, file in release.files.items()
                }
        except BadInputError:
            continue


def test_something_else_is_no_release(tmp_path: Path) -> None:
    assert "cannot read" in refusal(tmp_path / "absent.zip")
    (tmp_path / "text").write_text("text", encoding="utf-8")
    assert "is not a release" in refusal(tmp_path / "text")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w"):
        pass
    (tmp_path / "empty.zip").write_bytes(buffer.getvalue())
    assert f"it has no `{MANIFEST}`" in refusal(tmp_path / "empty.zip")


def test_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    public = make_key(tmp_path / "keys" / "mine")
    private = tmp_path / "keys" / "mine"
    assert private.stat().st_mode & 0o777 == 0o600
    assert encode_key(load_private_key(private).public_key()) == encode_key(public)
    with pytest.raises(BadInputError, match="already"):
        make_key(private)
    for wrong in (private.with_name("mine.pub"), tmp_path / "absent"):
        with pytest.raises(BadInputError):
            load_private_key(wrong)
    with pytest.raises(BadInputError, match="not a public"):
        load_public_key(private)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    trusted_directory().mkdir(parents=True)
    shutil.copy(private.with_name("mine.pub"), trusted_directory() / "me.pub")
    assert [encode_key(key) for key in load_trusted_keys([])] == [encode_key(public)]


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="`ssh-keygen` is not installed here")
def test_keys_of_ssh_do_as_well(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "id"], check=True)
    private = load_private_key(tmp_path / "id")
    assert encode_key(private.public_key()) == encode_key(load_public_key(tmp_path / "id.pub"))
