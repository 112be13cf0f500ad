"""The image that is compiled in: one of the user's, or one that the `Dockerfile` of this package describes."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kernel_builder import process
from kernel_builder.container.engine import Engine, EngineName
from kernel_builder.disk import FULL_HINT
from kernel_builder.errors import BadInputError, CompileError, Problem, ToolchainMissingError
from kernel_builder.host import HostPlatform, probe_host
from kernel_builder.progress import Listener, step

BASE_VARIABLE = "KERNEL_BUILDER_BASE_IMAGE"
NAME = "kernel-builder"
_BASE_ARGUMENT = "BASE_IMAGE"
_AARCH64_BASE = (  # the default in the Dockerfile is the one for x86-64; both are the tag 2026.07.25-1
    "quay.io/pypa/manylinux_2_28_aarch64@sha256:e7035406e58d96b7407246af1f6514a3cbd753a0025b42b9adfbeadd3b29ba80"
)
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]*")
_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")
_SHOWN = 12
_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
_DIGEST_LENGTH = 16


@dataclass(frozen=True, slots=True)
class ImageChoice:
    """Which image to compile in. name: one that is used as it is; None: `stage` of the Dockerfile. base: its base."""

    name: str | None = None
    stage: str = "cpu"
    base: str | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """An image that the engine has. name: as the user or we call it; id: what it is."""

    name: str
    id: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides what is in an image that we build."""

    dockerfile: bytes
    stage: str
    arguments: Mapping[str, str]

    @property
    def image_name(self) -> str:
        """Equal content gives an equal name."""
        given = (f"{name}={value}".encode() for name, value in sorted(self.arguments.items()))
        content = b"\0".join([self.dockerfile, self.stage.encode(), *given])
        return f"{NAME}:{self.stage}-{hashlib.sha256(content).hexdigest()[:_DIGEST_LENGTH]}"


def obtain_image(engine: Engine, choice: ImageChoice, listener: Listener) -> Image:
    """Give the image, after pulling or building it where the engine does not have it; only this needs a network.

    What is built is named after the content of the Dockerfile and its arguments, so that it is built once for each.
    Raises `BadInputError` for a base that cannot be an image's name, `ToolchainMissingError` when there is no image.
    """
    if choice.name is not None:
        return _find_image(engine, choice.name) or _pull(engine, choice.name, listener)
    recipe = Recipe(find_dockerfile().read_bytes(), choice.stage, list_arguments(choice, probe_host()))
    return _find_image(engine, recipe.image_name) or _build(engine, recipe, listener)


def check_reference(name: str) -> str:
    """Give the name back. Raises `BadInputError` when no image can be called so, or an engine took it for an option."""
    if _REFERENCE.fullmatch(name) is None:
        raise BadInputError(Problem(f"`{name}` is not the name of an image", hint="give one such as `gcc:14`"))
    return name


def list_arguments(choice: ImageChoice, host: HostPlatform) -> dict[str, str]:
    """The arguments of the Dockerfile: the base, where it is not the default."""
    base = choice.base or os.environ.get(BASE_VARIABLE) or (_AARCH64_BASE if host.machine == "aarch64" else None)
    return {} if base is None else {_BASE_ARGUMENT: check_reference(base)}


def find_dockerfile() -> Path:
    """The Dockerfile: inside the installed package, else at the root of the checkout."""
    package = Path(__file__).parents[1]
    shipped = package / "Dockerfile"
    return shipped if shipped.is_file() else package.parents[1] / "Dockerfile"


def _find_image(engine: Engine, name: str) -> Image | None:
    form = "{{.FromImageID}}" if engine.name is EngineName.BUILDAH else "{{.Id}}"
    completed = process.run([engine.path, "inspect", "--type", "image", "--format", form, name], merge_stderr=False)
    found = completed.output.strip()
    return Image(name, found) if completed.returncode == 0 and _ID.fullmatch(found) else None


def _pull(engine: Engine, name: str, listener: Listener) -> Image:
    with step(listener, f"pull {name}"):
        completed = process.run([engine.path, "pull", name])
        image = _find_image(engine, name) if completed.returncode == 0 else None
        if image is None:
            hint = f"see what `{engine.name} pull {name}` says; `{engine.name} images` lists what is here"
            raise _explain(f"the image `{name}` is not on this machine and cannot be pulled", completed, hint)
    return image


def _build(engine: Engine, recipe: Recipe, listener: Listener) -> Image:
    """Build a stage with nothing around it but the files that its instructions copy."""
    name, stage = recipe.image_name, recipe.stage
    with step(listener, f"build image {name}"), tempfile.TemporaryDirectory(prefix=f"{NAME}-") as directory:
        context = Path(directory)
        (context / "Dockerfile").write_bytes(recipe.dockerfile)
        catalog = Path("builder/kernel_builder/toolchains/toolchains.toml")
        (context / catalog).parent.mkdir(parents=True)
        shutil.copyfile(Path(__file__).parents[1] / "toolchains" / catalog.name, context / catalog)
        words = [engine.path, "build", "--target", stage, "--tag", name, "--file", str(context / "Dockerfile")]
        words += [word for key, value in recipe.arguments.items() for word in ("--build-arg", f"{key}={value}")]
        words += ["--isolation", "chroot"] if engine.name is EngineName.BUILDAH else []
        completed = process.run([*words, str(context)])
        image = _find_image(engine, name) if completed.returncode == 0 else None
        if image is None:
            hint = (
                f"give an image of your own with `--image`, or another base with `{BASE_VARIABLE}`; see docs/docker.md"
            )
            raise _explain(f"the image for `{stage}` could not be built", completed, hint)
    return image


def _explain(message: str, completed: process.Completed, hint: str) -> CompileError | ToolchainMissingError:
    if _FULL.search(completed.output):
        return CompileError(Problem(f"{message}: no space left where the engine keeps its images", hint=FULL_HINT))
    told = "\n".join(f"  {line}" for line in completed.lines[-_SHOWN:])
    return ToolchainMissingError(Problem(f"{message}:\n{told}", hint=hint))
