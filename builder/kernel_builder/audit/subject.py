"""The artifact under audit: what lies in its directory, read once, judged nowhere."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kernel_builder.artifact.digest import is_byte_code
from kernel_builder.artifact.metadata import LARGEST_METADATA, parse_metadata
from kernel_builder.artifact.model import METADATA_FILE, Metadata
from kernel_builder.audit.binary import BinaryFacts, BinaryFormat, UnreadableBinaryError, recognise_format
from kernel_builder.audit.elf import read_elf
from kernel_builder.audit.mach_o import MachOFacts, read_mach_o
from kernel_builder.variant import ArchVariant, TvmFfiAbi, Variant, parse_variant

MAX_FILES = 100_000
_LIBRARY = re.compile(r".+\.(so(\.[0-9.]+)?|pyd|dylib|dll)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Irregular:
    """An entry that cannot be part of an artifact, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Library:
    """A shared library of the artifact. `facts` is None when it is not ELF, or broken: then `problem` says how.

    mach_o: the little that is read of a library for macOS.
    """

    path: PurePosixPath
    format: BinaryFormat
    facts: BinaryFacts | None
    problem: str | None = None
    mach_o: MachOFacts | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """One artifact as it lies on disk.

    variant: None when the directory's name is none. metadata: None when it cannot be read; then `metadata_problem`
    says why, and `metadata_present` whether there is such a file at all. files: regular files, sorted, byte code
    aside.
    """

    directory: Path
    name: str
    variant: Variant | None
    variant_problem: str | None
    metadata: Metadata | None
    metadata_problem: str | None
    metadata_present: bool
    files: tuple[PurePosixPath, ...]
    irregular: tuple[Irregular, ...]
    libraries: tuple[Library, ...]

    @property
    def arch_variant(self) -> ArchVariant | None:
        """The variant if it is a compiled one."""
        return self.variant if isinstance(self.variant, ArchVariant) else None

    @property
    def package(self) -> PurePosixPath:
        """Where the Python package lies: in the artifact itself or, with older builders, in a directory of it."""
        flat = PurePosixPath()
        if self.metadata is None or flat / "__init__.py" in self.files:
            return flat
        nested = PurePosixPath(self.metadata.python_name)
        return nested if nested / "__init__.py" in self.files else flat

    @property
    def extension_path(self) -> PurePosixPath | None:
        """Where the extension module must lie; None without metadata or for a noarch variant."""
        variant = self.arch_variant
        if variant is None or self.metadata is None:
            return None
        if isinstance(variant.abi, TvmFfiAbi):
            suffix = {"darwin": ".dylib", "windows": ".dll"}.get(variant.host.os, ".so")
        else:
            suffix = ".pyd" if variant.host.os == "windows" else ".abi3.so"
        return self.package / f"{self.metadata.id}{suffix}"


def load_subject(directory: Path) -> Subject:
    """Read what lies in `directory`. Raises `OSError` when it is not a directory that can be listed."""
    name = directory.absolute().name
    variant, variant_problem = None, None
    try:
        variant = parse_variant(name)
    except ValueError as error:
        variant_problem = str(error)
    files, irregular = _list_files(directory)
    metadata, metadata_problem = _read_metadata(directory) if PurePosixPath(METADATA_FILE) in files else (None, None)
    return Subject(
        directory=directory,
        name=name,
        variant=variant,
        variant_problem=variant_problem,
        metadata=metadata,
        metadata_problem=metadata_problem,
        metadata_present=PurePosixPath(METADATA_FILE) in files,
        files=files,
        irregular=irregular,
        libraries=tuple(_read_library(directory, path) for path in files if _LIBRARY.fullmatch(path.name)),
    )


def _list_files(directory: Path) -> tuple[tuple[PurePosixPath, ...], tuple[Irregular, ...]]:
    """Regular files and all that is neither file nor directory; links are not followed."""
    files: list[PurePosixPath] = []
    irregular: list[Irregular] = []
    waiting = [directory]
    while waiting and len(files) <= MAX_FILES:
        current = waiting.pop()
        for entry in sorted(current.iterdir()):
            path = PurePosixPath(entry.relative_to(directory).as_posix())
            reason = _irregularity(entry)
            if reason is not None:
                irregular.append(Irregular(str(path), reason))
            elif entry.is_dir():
                waiting.append(entry)
            elif not is_byte_code(Path(path)):
                files.append(path)
    if len(files) > MAX_FILES:
        irregular.append(Irregular(".", f"holds more than {MAX_FILES} files"))
    return tuple(sorted(files[:MAX_FILES])), tuple(irregular)


def _irregularity(entry: Path) -> str | None:
    try:
        mode = entry.lstat().st_mode
        entry.name.encode()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    if stat.S_ISLNK(mode):
        return "is a symbolic link"
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        return "is neither a file nor a directory"
    if any(character in entry.name for character in '\\:*?"<>|') or not entry.name.isprintable():
        return "has a name that not every system can store"
    return None


def _read_metadata(directory: Path) -> tuple[Metadata | None, str | None]:
    try:
        with (directory / METADATA_FILE).open("rb") as stream:
            return parse_metadata(stream.read(LARGEST_METADATA + 1)), None
    except (OSError, ValueError) as error:
        return None, str(error)


def _read_library(directory: Path, path: PurePosixPath) -> Library:
    try:
        kind = recognise_format(directory / path)
    except OSError as error:
        return Library(path, BinaryFormat.UNKNOWN, None, f"it cannot be read: {error.strerror}")
    try:
        if kind is BinaryFormat.MACH_O:
            return Library(path, kind, None, mach_o=read_mach_o(directory / path))
        return Library(path, kind, read_elf(directory / path) if kind is BinaryFormat.ELF else None)
    except UnreadableBinaryError as error:
        return Library(path, kind, None, str(error))


def iter_python_files(subject: Subject) -> Iterator[PurePosixPath]:
    """The Python modules; stubs for type checkers are not imported."""
    return (path for path in subject.files if path.suffix == ".py")
