"""Bring pinned wheels into the cache with the user's own pip or uv, which know index, credentials and certificates."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import platformdirs

from kernel_builder import process
from kernel_builder.disk import explain_disk
from kernel_builder.errors import FetchError, Problem, ToolchainMissingError
from kernel_builder.lock import hold_lock
from kernel_builder.progress import Listener, step
from kernel_builder.sdk.settings import load_settings
from kernel_builder.sdk.store import CACHE_VARIABLE
from kernel_builder.toolchains.catalog import Release

_MARK = "fetched.txt"
_REQUIREMENTS = "requirements.txt"
_INDEX_VARIABLES = re.compile(r"(PIP|UV)_.+|NETRC|(HTTPS?|ALL|NO)_PROXY", re.IGNORECASE)
_COMPLAINT = re.compile(r"(?:ERROR|error|WARNING|  Caused by):?\s+(.+)")
_WRONG_HASH = re.compile(r"hash(es)? .*mismatch|do not match the hashes|Expected sha256", re.IGNORECASE)
_SHOWN = 4


def toolchains_dir() -> Path:
    """Where fetched and assembled toolchains are kept, beside the slices of wheels."""
    settings = load_settings()
    chosen = os.environ.get(CACHE_VARIABLE)
    root = Path(chosen).expanduser() if chosen else settings.cache_dir or platformdirs.user_cache_path("kernel-builder")
    return root.absolute() / "toolchains"


def find_fetched(release: Release) -> Path | None:
    """Where the wheels of a release lie unpacked, if they were fetched before."""
    directory = toolchains_dir() / release.directory_name
    return directory if (directory / _MARK).is_file() else None


def is_offline() -> bool:
    """Whether the user's configuration forbids to ask an index."""
    return load_settings().offline


def fetch_release(release: Release, listener: Listener) -> Path:
    """The directory with all files of a release's wheels, fetched when it is not in the cache yet.

    The directory appears whole or not at all, and two processes do not fetch the same. Raises `FetchError` when the
    index has not these wheels or serves other ones, `ToolchainMissingError` without pip and uv.
    """
    found = find_fetched(release)
    if found is not None:
        return found
    name = f"{release.kind} {release.version}"
    if is_offline():
        raise FetchError(Problem(f"{name} is not in the cache, and this machine is set to be offline",
                                 hint="fetch it once with the network, or copy the cache"))  # fmt: skip
    target = toolchains_dir() / release.directory_name
    with explain_disk(f"the cache `{target.parent}`", f"choose another place with `{CACHE_VARIABLE}`"):
        target.parent.mkdir(parents=True, exist_ok=True)
        with hold_lock(target.parent, listener):
            found = find_fetched(release)  # by whoever held the lock
            if found is not None:
                return found
            staging = target.with_name(f".{target.name}.unfinished")
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
            try:
                with step(listener, f"fetch {name} ({release.megabytes} MB)"):
                    _install(release, staging)
                (staging / _MARK).write_text("\n".join(map(str, release.wheels)) + "\n", encoding="ascii")
                shutil.rmtree(target, ignore_errors=True)
                staging.rename(target)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    return target


def _install(release: Release, directory: Path) -> None:
    requirements = directory / _REQUIREMENTS
    requirements.write_text("\n".join(map(str, release.wheels)) + "\n", encoding="ascii")
    options = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--target", str(directory)]
    command = [*_choose_installer(), "install", *options, "-r", str(requirements)]
    secrets = {name: value for name, value in os.environ.items() if _INDEX_VARIABLES.fullmatch(name)}
    env = process.child_environment({**secrets, "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    for name in ("PIP_TARGET", "PIP_USER", "PIP_PREFIX", "PIP_REQUIREMENT"):
        env.pop(name, None)
    completed = process.run(command, env=env)
    if completed.returncode != 0:
        raise FetchError(_explain(release, completed.lines))


def _choose_installer() -> list[str]:
    with suppress(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("pip")
        return [sys.executable, "-m", "pip"]
    uv = shutil.which("uv")
    if uv is not None:
        return [uv, "pip"]
    raise ToolchainMissingError(
        Problem("toolchains are fetched with pip or uv, and neither is here", hint=f"`{sys.executable} -m ensurepip`")
    )


def _explain(release: Release, lines: tuple[str, ...]) -> Problem:
    name = f"{release.kind} {release.version}"
    if any(_WRONG_HASH.search(line) for line in lines):
        return Problem(
            f"the index serves other wheels for {name} than the pinned ones",
            hint="find out why: a wheel of the same name and version never changes on an honest index",
        )
    complaints = [match[1] for line in lines if (match := _COMPLAINT.match(line)) is not None]
    told = "\n".join(f"  {text}" for text in (complaints or list(lines))[-_SHOWN:])
    wheels = " ".join(f"{wheel.name}=={wheel.version}" for wheel in release.wheels)
    return Problem(f"{name} could not be fetched:\n{told}", hint=f"`pip download --no-deps {wheels}` shows more")
