"""An artifact as a standard wheel: the same bytes, for `pip install` where no Hub is."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.utils import canonicalize_name, is_normalized_name

from kernel_builder import __version__
from kernel_builder.artifact.digest import compute_digest, is_byte_code
from kernel_builder.artifact.model import Artifact, Metadata
from kernel_builder.backend import Backend
from kernel_builder.errors import AuditError, BadInputError, Location, Problem
from kernel_builder.release.archive import write_archive
from kernel_builder.variant import ArchVariant, NoarchVariant, TorchAbi, TorchStableAbi, TvmFfiAbi

_DISTRIBUTIONS = {"tvm-ffi": "apache-tvm-ffi", "onednn": "onednn-devel"}
"""What is installed for a word of `python-depends`, where it has another name."""

_OLDEST_PYTHON = "3.9"
_MAC_MACHINES = {"aarch64": "arm64"}
_WINDOWS_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_MAC_RELEASES = {Backend.METAL: "26_0"}
_MAC_RELEASE = "15_0"


@dataclass(frozen=True, slots=True)
class WheelName:
    """The parts of a wheel's file name. `version` has the variant as its local part, so that variants differ."""

    distribution: str
    version: str
    tag: str

    def __str__(self) -> str:
        return f"{self.distribution}-{self.version}-{self.tag}.whl"

    @property
    def info(self) -> str:
        """The directory of the wheel's own files."""
        return f"{self.distribution}-{self.version}.dist-info"


def write_wheel(artifact: Artifact, output: Path) -> Path:
    """Write the wheel of one artifact; equal artifacts give equal bytes.

    Raises `AuditError` when the artifact's files are not those that were built, `BadInputError` when a wheel cannot
    carry it.
    """
    metadata = artifact.metadata
    if metadata.kernel_depends:
        needed = ", ".join(f"`{depend.repo_id}`" for depend in metadata.kernel_depends)
        message = f"`{metadata.name}` needs kernels that only the `kernels` loader brings: {needed}"
        raise BadInputError(Problem(message, hint="publish it with `upload`, or carry it with `export`"))
    if metadata.digest is not None and compute_digest(artifact.path, metadata.digest.algorithm) != metadata.digest:
        message = f"the files in `{artifact.path}` are not those that were built"
        raise AuditError(Problem(message, Location(str(artifact.path)), hint="build the artifact again"))
    name = name_wheel(artifact)
    entries: list[tuple[str, Path | bytes]] = [(path, file) for path, file in _list_package(artifact)]
    entries.append((f"{name.info}/METADATA", _write_metadata(artifact, name)))
    entries.append((f"{name.info}/WHEEL", _write_wheel_file(artifact, name)))
    entries.append((f"{name.info}/RECORD", _write_record(entries, f"{name.info}/RECORD")))
    target = output / str(name)
    write_archive(target, entries)
    return target


def name_wheel(artifact: Artifact) -> WheelName:
    """The name that tells installers where the wheel fits."""
    metadata = artifact.metadata
    distribution = canonicalize_name(metadata.name).replace("-", "_")
    build = metadata.id.rpartition("_")[2].lower()
    local = f"{_label(artifact)}.g{build}" if build.isalnum() else _label(artifact)
    return WheelName(distribution, f"{metadata.version}+{local}", _choose_tag(artifact))


def list_requirements(artifact: Artifact) -> Iterator[str]:
    """What must be installed beside it. Raises `BadInputError` for a dependency that is no package."""
    variant = artifact.variant
    abi = variant.abi if isinstance(variant, ArchVariant) else None
    match abi:
        case TorchAbi(version):
            yield f"torch=={version}.*"
        case TorchStableAbi(version):
            yield f"torch>={version}"
        case TvmFfiAbi(version):
            yield f"apache-tvm-ffi=={version}.*"
        case _:
            yield "torch"
    for word in artifact.metadata.python_depends:
        if not is_normalized_name(canonicalize_name(word)):
            raise BadInputError(f"`{artifact.path}` depends on `{word!r}`, which is not the name of a package")
        yield _DISTRIBUTIONS.get(word, word)


def _label(artifact: Artifact) -> str:
    """The ABI and the backend with its version; the platform is in the tag."""
    name = str(artifact.variant)
    if isinstance(artifact.variant, ArchVariant):
        name = name.removesuffix(f"-{artifact.variant.host}")
    return name.replace("-", ".")


def _choose_tag(artifact: Artifact) -> str:
    variant = artifact.variant
    if isinstance(variant, NoarchVariant):
        return "py3-none-any"
    machine, system = variant.host.machine, variant.host.os
    policy = None if artifact.metadata.record is None else artifact.metadata.record.platform_policy
    match system:
        case "linux":
            platform = f"{policy or 'linux'}_{machine}"
        case "darwin":
            release = _MAC_RELEASES.get(variant.backend, _MAC_RELEASE)
            platform = f"macosx_{release}_{_MAC_MACHINES.get(machine, machine)}"
        case "windows":
            platform = f"win_{_WINDOWS_MACHINES.get(machine, machine)}"
        case _:
            raise BadInputError(f"there are no wheels for `{variant.host}`")
    if isinstance(variant.abi, TvmFfiAbi):  # loaded by its path, not as a module of one Python
        return f"py3-none-{platform}"
    return f"cp{_OLDEST_PYTHON.replace('.', '')}-abi3-{platform}"


def _list_package(artifact: Artifact) -> Iterator[tuple[str, Path]]:
    name = artifact.metadata.python_name
    root = artifact.path if (artifact.path / "__init__.py").is_file() else artifact.path / name
    if not (root / "__init__.py").is_file():
        raise BadInputError(f"`{artifact.path}` has no Python package")
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if path.is_file() and not is_byte_code(relative):
            yield f"{name}/{relative.as_posix()}", path


def _write_metadata(artifact: Artifact, name: WheelName) -> bytes:
    metadata = artifact.metadata
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {metadata.name}",
        f"Version: {name.version}",
        f"Summary: The compute kernel {metadata.name}, {artifact.variant}",
        *_write_license(metadata),
        f"Requires-Python: >={_OLDEST_PYTHON}",
        *(f"Requires-Dist: {requirement}" for requirement in list_requirements(artifact)),
    ]
    for label, url in (("Source", metadata.source), ("Upstream", metadata.upstream)):
        if url is not None:
            lines.append(f"Project-URL: {label}, {url}")
    return ("\n".join(lines) + "\n").encode()


def _write_license(metadata: Metadata) -> Iterator[str]:
    try:
        yield f"License-Expression: {canonicalize_license_expression(metadata.license)}"
    except InvalidLicenseExpression:
        yield f"License: {' '.join(metadata.license.split())}"  # one line, whatever it says


def _write_wheel_file(artifact: Artifact, name: WheelName) -> bytes:
    is_pure = isinstance(artifact.variant, NoarchVariant)
    lines = [
        "Wheel-Version: 1.0",
        f"Generator: kernel-builder {__version__}",
        f"Root-Is-Purelib: {'true' if is_pure else 'false'}",
        f"Tag: {name.tag}",
    ]
    return ("\n".join(lines) + "\n").encode()


def _write_record(entries: list[tuple[str, Path | bytes]], own: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for path, content in entries:
        data = content if isinstance(content, bytes) else content.read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode("ascii")
        writer.writerow((path, f"sha256={digest}", len(data)))
    writer.writerow((own, "", ""))
    return text.getvalue().encode()
