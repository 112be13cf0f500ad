from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from kernel_builder.artifact.model import BuildRecord
from kernel_builder.audit.binary import BinaryFormat
from kernel_builder.audit.checks.device import check_device_code
from kernel_builder.audit.device import DeviceCode, DeviceImage, read_device_code
from kernel_builder.audit.device.fatbin import read_fatbins
from kernel_builder.audit.device.offload import read_bundles
from kernel_builder.audit.subject import Library, Subject
from kernel_builder.backend import Backend
from kernel_builder.variant import ArchVariant, parse_variant
from tests.unit.audit.samples import ID, good_facts, good_metadata

SAMPLES = Path(__file__).parents[2] / "fixtures" / "device"
CUDA = "torch-stable-abi210-cu130-x86_64-linux"
ROCM = "torch-stable-abi210-rocm64-x86_64-linux"
PATH = PurePosixPath(f"{ID}.abi3.so")


def sample(name: str) -> bytes:
    """What a real compiler wrote; the file's name says for which devices."""
    return base64.b64decode((SAMPLES / f"{name}.b64").read_text(encoding="ascii"))


FATBIN = sample("cuda13-sm80-sm90a-sm100f-sm120-ptx120.fatbin")
BUNDLE = sample("hip-gfx90a-gfx942-gfx1201.hipfb")


def names(code: DeviceCode) -> set[str]:
    return {str(image) for image in code.images}


def test_a_fat_binary_says_for_which_devices_its_entries_are() -> None:
    assert names(read_fatbins(FATBIN)) == {"8.0", "9.0a", "10.0f", "12.0", "12.0 (portable)"}


def test_compressed_entries_say_so_too() -> None:
    code = read_fatbins(sample("cuda13-compressed-sm90-ptx90a.fatbin"))
    assert names(code) == {"9.0", "9.0a (portable)"}
    assert not code.damage


def test_all_fat_binaries_of_a_file_are_read_wherever_they_lie(tmp_path: Path) -> None:
    other = sample("cuda13-compressed-sm90-ptx90a.fatbin")
    library = tmp_path / "library"
    library.write_bytes(bytes(64) + FATBIN + bytes(-len(FATBIN) % 8 + 8) + other + bytes(24) + BUNDLE)
    with library.open("rb") as stream:
        code = read_device_code(stream)
    assert names(code) == {
        *("8.0", "9.0", "9.0a", "9.0a (portable)", "10.0f", "12.0", "12.0 (portable)"),
        *("gfx90a:xnack-", "gfx942", "gfx1201"),
    }
    assert code.damage == code.unread == ()


@pytest.mark.parametrize("data", [b"", b"\x50\xed\x55\xba", bytes.fromhex("50ed55ba") + b"code of a program" * 9])
def test_the_magic_number_alone_is_no_fat_binary(data: bytes) -> None:
    assert read_fatbins(data) == DeviceCode()


def test_a_fat_binary_whose_entries_do_not_fit_is_damaged() -> None:
    sizes = bytearray(FATBIN)
    struct.pack_into("<Q", sizes, 16 + 8, 1 << 40)  # of the first entry
    assert "claims" in read_fatbins(bytes(sizes)).damage[0]
    arch = bytearray(FATBIN)
    struct.pack_into("<I", arch, 16 + 28, 0)
    assert "unknown device" in read_fatbins(bytes(arch)).damage[0]


@pytest.mark.parametrize("length", range(0, len(FATBIN), 997))
def test_a_fat_binary_that_is_cut_off_is_none(length: int) -> None:
    assert read_fatbins(FATBIN[:length]).images == ()


def test_a_bundle_names_its_code_objects() -> None:
    assert names(read_bundles(BUNDLE)) == {"gfx90a:xnack-", "gfx942", "gfx1201"}


def test_a_bundle_that_names_another_device_than_its_code_is_damaged() -> None:
    damage = read_bundles(BUNDLE.replace(b"--gfx942", b"--gfx908")).damage
    assert len(damage) == 1
    assert "the code for `gfx908` is for `gfx942`" in damage[0]


@pytest.mark.parametrize("length", [30, 60, 200, len(BUNDLE) - 100])
def test_a_bundle_that_is_cut_off_is_damaged(length: int) -> None:
    assert read_bundles(BUNDLE[:length]).damage


def test_a_bundle_compressed_with_zlib_is_read() -> None:
    body = zlib.compress(BUNDLE)
    packed = struct.pack("<4sHHIIQ", b"CCOB", 2, 0, 24 + len(body), len(BUNDLE), 0) + body
    assert names(read_bundles(bytes(16) + packed)) == {"gfx90a:xnack-", "gfx942", "gfx1201"}
    assert read_bundles(packed[:-40]).damage
    assert "Error -3" in read_bundles(packed.replace(body[:8], bytes(8))).damage[0]


def test_a_bundle_compressed_with_zstd_is_told_as_unread() -> None:
    code = read_bundles(sample("hip-zstd-gfx90a.hipfb"))
    assert code == DeviceCode(unread=("an offload bundle is compressed with zstd",))


def subject_of(name: str, declared: tuple[str, ...] | None, code: DeviceCode) -> Subject:
    facts = replace(good_facts(), device_code=code)
    backend = parse_variant(name).backend
    return Subject(
        directory=Path(name),
        name=name,
        variant=parse_variant(name),
        variant_problem=None,
        metadata=good_metadata(backend=backend, archs=declared),
        metadata_problem=None,
        metadata_present=True,
        files=(PATH,),
        irregular=(),
        libraries=(Library(PATH, BinaryFormat.ELF, facts),),
    )


def check(name: str, declared: tuple[str, ...] | None, code: DeviceCode) -> list[tuple[str, str]]:
    variant = parse_variant(name)
    assert isinstance(variant, ArchVariant)
    findings = check_device_code(subject_of(name, declared, code), variant)
    return [(finding.rule, finding.message) for finding in findings]


def images(backend: Backend, *archs: str) -> DeviceCode:
    return DeviceCode(tuple(DeviceImage(backend, arch.lstrip("+"), portable=arch.startswith("+")) for arch in archs))


def test_code_for_exactly_the_declared_archs_has_no_finding() -> None:
    assert check(CUDA, ("8.0", "9.0a", "10.0f", "12.0+PTX"), read_fatbins(FATBIN)) == []
    assert check(ROCM, ("gfx90a:xnack-", "gfx942", "gfx1201"), read_bundles(BUNDLE)) == []


@pytest.mark.parametrize(
    ("declared", "found", "rule", "says"),
    [
        (("8.0", "9.0a"), ("8.0",), "device-archs", "no GPU code for `9.0a`, which the metadata declares"),
        (("9.0+PTX",), ("9.0",), "device-archs", "no GPU code for `9.0` as PTX"),
        (("9.0a",), ("9.0",), "device-archs", "it holds code for `9.0`"),
        (("8.0",), (), "device-archs", "it holds none"),
        (("8.0",), ("8.0", "8.6"), "device-undeclared", "GPU code for `8.6`, which the metadata does not declare"),
        (("8.0",), ("8.0", "+8.0"), "device-undeclared", "`8.0` as PTX"),
        (None, ("8.0",), "device-undeclared", "of which the metadata says nothing"),
    ],
)
def test_a_difference_to_the_metadata_is_found(
    declared: tuple[str, ...] | None, found: tuple[str, ...], rule: str, says: str
) -> None:
    findings = check(CUDA, declared, images(Backend.CUDA, *found))
    assert findings[0][0] == rule
    assert says in findings[0][1]


def test_code_for_another_backend_is_found() -> None:
    findings = check(ROCM, ("gfx942",), DeviceCode((*images(Backend.CUDA, "8.0").images,
                                                    *images(Backend.ROCM, "gfx942").images)))  # fmt: skip
    assert [rule for rule, _ in findings] == ["device-undeclared"]
    assert "a fat binary of CUDA" in findings[0][1]


def test_what_cannot_be_read_is_not_called_missing() -> None:
    findings = check(ROCM, ("gfx90a",), DeviceCode(unread=("an offload bundle is compressed with zstd",)))
    assert [rule for rule, _ in findings] == ["device-unread"]


def test_an_arch_that_was_only_checked_is_told() -> None:
    subject = subject_of(ROCM, ("gfx942",), images(Backend.ROCM, "gfx942"))
    assert subject.metadata is not None
    record = BuildRecord(variant=ROCM, builder_version="1", inputs="0", check_only=("gfx942",))
    variant = parse_variant(ROCM)
    assert isinstance(variant, ArchVariant)
    (finding,) = check_device_code(replace(subject, metadata=replace(subject.metadata, record=record)), variant)
    assert (finding.rule, "code for `gfx942`" in finding.message) == ("device-check-only", True)


def test_damage_is_an_error() -> None:
    assert check(CUDA, None, DeviceCode(damage=("broken",))) == [("device-code", "broken")]


def test_a_variant_for_the_cpu_has_no_gpu_code_to_judge() -> None:
    assert check("torch-stable-abi210-cpu-x86_64-linux", None, images(Backend.CUDA, "8.0")) == []
