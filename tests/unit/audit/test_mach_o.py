from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path, PurePosixPath

import pytest

from kernel_builder.audit.binary import BinaryFormat, UnreadableBinaryError
from kernel_builder.audit.checks.linkage import check_format
from kernel_builder.audit.mach_o import MachOFacts, read_mach_o
from kernel_builder.audit.policy import load_policy
from kernel_builder.audit.subject import Library, load_subject
from kernel_builder.variant import ArchVariant, parse_variant
from kernel_builder.version import MinorVersion

SAMPLES = Path(__file__).parents[2] / "fixtures" / "mach_o"
METAL, CPU = "torch-stable-abi210-metal-aarch64-darwin", "torch-stable-abi210-cpu-aarch64-darwin"


def sample(name: str) -> bytes:
    """A library that a cross linker made (`zig cc -target aarch64-macos.26.0 -shared`)."""
    return zlib.decompress(base64.b64decode((SAMPLES / f"aarch64-{name}.dylib.zlib.b64").read_text(encoding="ascii")))


def write(directory: Path, content: bytes) -> Path:
    path = directory / "kernel.abi3.so"
    path.write_bytes(content)
    return path


def rules_of(facts: MachOFacts, variant: str) -> list[str]:
    parsed = parse_variant(variant)
    assert isinstance(parsed, ArchVariant)
    library = Library(PurePosixPath("kernel.abi3.so"), BinaryFormat.MACH_O, None, mach_o=facts)
    return [finding.rule for finding in check_format(library, parsed, load_policy())]


@pytest.mark.parametrize(("name", "target"), [("macos15", MinorVersion(15, 0)), ("macos26", MinorVersion(26, 0))])
def test_what_a_linker_wrote_is_read(tmp_path: Path, name: str, target: MinorVersion) -> None:
    assert read_mach_o(write(tmp_path, sample(name))) == MachOFacts(
        "aarch64", is_loadable=True, deployment_target=target
    )


@pytest.mark.parametrize(
    ("target", "variant", "is_told"),
    [
        (MinorVersion(26, 0), METAL, False),
        (MinorVersion(15, 0), METAL, False),
        (MinorVersion(26, 1), METAL, True),
        (None, METAL, True),
        (MinorVersion(15, 0), CPU, False),
        (MinorVersion(26, 0), CPU, True),
    ],
)
def test_a_library_for_a_later_macos_is_told(target: MinorVersion | None, variant: str, is_told: bool) -> None:
    facts = MachOFacts("aarch64", is_loadable=True, deployment_target=target)
    assert rules_of(facts, variant) == ["deployment-target"] * is_told + ["binary-unaudited"]


def test_machine_and_kind_are_told() -> None:
    assert (
        rules_of(MachOFacts("x86_64", is_loadable=True, deployment_target=MinorVersion(26, 0)), METAL)[0]
        == "binary-machine"
    )
    facts = MachOFacts("aarch64", is_loadable=False, deployment_target=MinorVersion(26, 0))
    assert rules_of(facts, METAL)[0] == "binary-format"


def test_an_older_load_command_says_it_as_well(tmp_path: Path) -> None:
    content = bytearray(sample("macos15"))
    at = content.index(struct.pack("<2I", 0x32, 32))
    content[at : at + 16] = struct.pack("<4I", 0x24, 32, 14 << 16 | 3 << 8, 0)
    assert read_mach_o(write(tmp_path, bytes(content))).deployment_target == MinorVersion(14, 3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda content: content[:20], "damaged"),
        (lambda content: content[:200], "cut off"),
        (lambda content: b"\xca\xfe\xba\xbe" + content[4:], "several machines"),
        (lambda content: b"\xce\xfa\xed\xfe" + content[4:], "no 64-bit"),
        (lambda content: content[:36] + struct.pack("<I", 1 << 30) + content[40:], "longer than"),
        (lambda content: content[:36] + struct.pack("<I", 0) + content[40:], "longer than"),
        (lambda content: content[:16] + struct.pack("<I", 1 << 30) + content[20:], "damaged"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, change: object, says: str) -> None:
    assert callable(change)
    with pytest.raises(UnreadableBinaryError, match=says):
        read_mach_o(write(tmp_path, change(sample("macos26"))))


def test_an_artifact_is_read_by_it(tmp_path: Path) -> None:
    (tmp_path / METAL).mkdir()
    write(tmp_path / METAL, sample("macos26"))
    (library,) = load_subject(tmp_path / METAL).libraries
    assert library.mach_o is not None
    assert library.mach_o.deployment_target == MinorVersion(26, 0)
