"""The GPU code inside a library as a value: for which device each piece is, and what could not be read."""

from __future__ import annotations

from dataclasses import dataclass

from kernel_builder.backend import Backend


@dataclass(frozen=True, slots=True, order=True)
class DeviceImage:
    """One distinct kind of code for one device.

    arch: as `build.toml` spells it, such as `9.0a` or `gfx90a:xnack-`. portable: whether the driver compiles it for
    newer devices too (PTX, SPIR-V); else it is machine code for this one.
    """

    backend: Backend
    arch: str
    portable: bool = False

    def __str__(self) -> str:
        return f"{self.arch} (portable)" if self.portable else self.arch


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """What a library holds for GPUs.

    images: sorted, each once. damage: what is broken. unread: what is in a form that this reader does not know, so that
    there may be more images than are listed.
    """

    images: tuple[DeviceImage, ...] = ()
    damage: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
