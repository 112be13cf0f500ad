"""Settings and caches of their own for tests of the SDK: nothing of the user's is read, nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kernel_builder.backend import Backend
from kernel_builder.host import HostPlatform
from kernel_builder.progress import BytesReceived, Event
from kernel_builder.sdk.settings import IndexSettings
from kernel_builder.sdk.torch_slice import obtain_torch_sdk
from kernel_builder.torch_sdk import TorchSdk
from kernel_builder.version import MinorVersion

LINUX = HostPlatform("x86_64", "linux")
RELEASE = MinorVersion(2, 11)


@dataclass(slots=True)
class Place:
    """One user's machine: where wheels are offered, where slices go, and what was told."""

    wheels: Path
    cache: Path
    events: list[Event] = field(default_factory=list)

    def settings(self, *indexes: str, **more: Any) -> IndexSettings:
        return IndexSettings(
            indexes=indexes, has_default=False, cache_dir=self.cache, **{"timeout": 20.0, "retries": 3, **more}
        )

    def obtain(self, *indexes: str, **more: Any) -> TorchSdk:
        """Obtain torch for CUDA on Linux, unless told otherwise."""
        named = {"host": LINUX, "backend": Backend.CUDA, "settings": self.settings(*indexes), **more}
        return obtain_torch_sdk(named.pop("release", RELEASE), listener=self.events.append, **named)

    @property
    def slices(self) -> list[Path]:
        return sorted(path.parent for path in self.cache.glob("sdk/1/slices/*/slice.json"))

    @property
    def strays(self) -> list[Path]:
        """What a failure left: half slices, and parts of downloads."""
        slices = [path for path in self.cache.glob("sdk/1/slices/*") if path not in self.slices]
        return slices + list(self.cache.glob("sdk/1/partial/*/*"))

    def traffic(self) -> tuple[int, int]:
        """Bytes received and requests made, as the last fetch told."""
        told = [event for event in self.events if isinstance(event, BytesReceived)]
        return told[-1].received, told[-1].requests


def list_files(root: Path) -> Iterator[str]:
    return (path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file())
