"""Is the GPU code inside for the archs that the metadata declares, and for all of them?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kernel_builder.audit import rules
from kernel_builder.audit.device import DeviceImage
from kernel_builder.audit.report import Finding
from kernel_builder.audit.subject import Library, Subject
from kernel_builder.backend import Backend
from kernel_builder.variant import ArchVariant

RULES = (
    rules.DEVICE_CODE,
    rules.DEVICE_ARCHS,
    rules.DEVICE_UNDECLARED,
    rules.DEVICE_CHECK_ONLY,
    rules.DEVICE_UNREAD,
)
_READABLE = frozenset({Backend.CUDA, Backend.ROCM})
_PTX = "+PTX"
_NAMES = {Backend.CUDA: "a fat binary of CUDA", Backend.ROCM: "an offload bundle of HIP"}


def is_readable(variant: ArchVariant) -> bool:
    """Whether the audit reads the GPU code of the variant's backend."""
    return variant.backend in _READABLE


def check_device_code(subject: Subject, variant: ArchVariant) -> Iterable[Finding]:
    """The GPU code of all libraries of an artifact together, held against its metadata."""
    readable = [library for library in subject.libraries if library.facts is not None]
    if not is_readable(variant) or not readable:
        return
    yield from _check_form(readable)
    images = {image for library in readable if library.facts for image in library.facts.device_code.images}
    own = {image for image in images if image.backend is variant.backend}
    name = str(subject.extension_path or readable[0].path)
    yield from _check_backend(name, images - own, variant)
    unread = any(library.facts is not None and library.facts.device_code.unread for library in readable)
    declared = None if subject.metadata is None else subject.metadata.archs
    yield from _check_archs(name, own, declared, complete=not unread)
    record = None if subject.metadata is None else subject.metadata.record
    if record is not None and record.check_only:
        listed = ", ".join(f"`{arch}`" for arch in record.check_only)
        message = (
            f"its code for {listed} shows that the sources compile, and nothing more: the device libraries are older"
        )
        yield rules.DEVICE_CHECK_ONLY.found(name, message, "build it with a toolkit that knows these devices")


def _check_form(libraries: Iterable[Library]) -> Iterator[Finding]:
    for library in libraries:
        code = None if library.facts is None else library.facts.device_code
        for text in () if code is None else code.damage:
            yield rules.DEVICE_CODE.found(str(library.path), text, "build the artifact again")
        for text in () if code is None else code.unread:
            yield rules.DEVICE_UNREAD.found(str(library.path), f"{text}, so its archs are not known", None)


def _check_backend(name: str, foreign: Iterable[DeviceImage], variant: ArchVariant) -> Iterator[Finding]:
    for backend in sorted({image.backend for image in foreign}):
        message = f"it holds {_NAMES[backend]}, the variant is for {variant.backend}"
        yield rules.DEVICE_UNDECLARED.found(name, message, "leave the sources for other devices out of its components")


def _check_archs(
    name: str, images: set[DeviceImage], declared: tuple[str, ...] | None, *, complete: bool
) -> Iterator[Finding]:
    """`9.0+PTX` promises machine code for 9.0 and PTX."""
    found = {(image.arch, image.portable) for image in images}
    if declared is None:
        if found:
            message = f"it holds GPU code for {_list(found)}, of which the metadata says nothing"
            hint = "the loader cannot tell users of other devices: build the artifact with `kernel-builder build`"
            yield rules.DEVICE_UNDECLARED.found(name, message, hint)
        return
    wanted = {(arch.removesuffix(_PTX), False) for arch in declared}
    wanted |= {(arch.removesuffix(_PTX), True) for arch in declared if arch.endswith(_PTX)}
    missing, extra = wanted - found, found - wanted
    if missing and complete:
        holds = f"it holds code for {_list(found)}" if found else "it holds none"
        message = f"there is no GPU code for {_list(missing)}, which the metadata declares; {holds}"
        yield rules.DEVICE_ARCHS.found(name, message, "build the artifact again, do not edit `metadata.json`")
    if extra:
        message = f"it holds GPU code for {_list(extra)}, which the metadata does not declare"
        hint = "choose archs with `cuda-capabilities` or `rocm-archs`, not with compiler flags"
        yield rules.DEVICE_UNDECLARED.found(name, message, hint)


def _list(archs: Iterable[tuple[str, bool]]) -> str:
    return ", ".join(f"`{arch}`" + (" as PTX" if portable else "") for arch, portable in sorted(archs))
