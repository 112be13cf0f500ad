"""Compiling in a container: sources read-only, no network, and the same result as on the machine itself.

`open_container` makes one ready; its `run` takes the place of `process.run` for the step that compiles.
"""

from __future__ import annotations

from kernel_builder.container.engine import Engine, EngineName, choose_engine, probe_engine
from kernel_builder.container.image import Image, ImageChoice
from kernel_builder.container.permissions import Mounts
from kernel_builder.container.run import Container, ContainerChoice, open_container

__all__ = [
    "Container",
    "ContainerChoice",
    "Engine",
    "EngineName",
    "Image",
    "ImageChoice",
    "Mounts",
    "choose_engine",
    "open_container",
    "probe_engine",
]
