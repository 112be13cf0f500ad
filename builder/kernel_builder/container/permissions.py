"""What a container sees of this machine, and what it may do."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kernel_builder.container.engine import Engine, EngineName
from kernel_builder.errors import BadInputError, Problem
from kernel_builder.resources import probe_free_memory

_MOST_PROCESSES = 4096
_SYSTEM = frozenset(
    Path("/", *name.split("/"))
    for name in ("", "bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "proc", "run", "sbin", "sys", "tmp", "usr",
                 "usr/bin", "usr/include", "usr/lib", "usr/lib64", "usr/local", "usr/share", "var")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mounts:
    """What a container sees of this machine, each at its own path, so that messages name the files that they mean."""

    read_only: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()


def check_places(places: Iterable[Path]) -> None:
    """Raise `BadInputError` for a directory that cannot be seen in a container without hiding the image's own."""
    for place in places:
        if place in _SYSTEM:
            problem = f"`{place}` cannot be shown to a container: it would hide the one that the image has"
            raise BadInputError(Problem(problem, hint="move the project, or build without `--docker`"))


def list_mount_words(engine: EngineName, source: Path, target: PurePosixPath, *, writable: bool) -> list[str]:
    """The option that mounts a file or directory, whatever characters its path has."""
    row = io.StringIO()
    default = "rw=true" if engine is EngineName.BUILDAH else "readonly=false"  # Buildah's is read-only otherwise
    fields = ["type=bind", f"source={source}", f"target={target}", default if writable else "readonly"]
    csv.writer(row, lineterminator="").writerow(fields)
    return ["--mount", row.getvalue()]


def list_limits(engine: Engine) -> list[str]:
    """Nothing that a compiler needs: no network, no privileges, no file system but what is mounted."""
    words = ["--network", "none", "--read-only", "--tmpfs", "/tmp:rw,exec,mode=1777",  # noqa: S108 - in the container
             "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]  # fmt: skip
    if engine.has_selinux:  # relabelling would change the user's own files
        words += ["--security-opt", "label=disable"]
    if "pids" in engine.can_limit:
        words += ["--pids-limit", str(_MOST_PROCESSES)]
    free = probe_free_memory()
    if "memory" in engine.can_limit and free is not None:
        words += ["--memory", str(free)]
    return words


def list_user(engine: Engine) -> list[str]:
    """Whoever runs the builder owns what the container writes."""
    own = f"{os.getuid()}:{os.getgid()}"
    if engine.name is EngineName.PODMAN and engine.is_rootless:
        return ["--userns", "keep-id", "--user", own]
    if engine.is_rootless:  # root inside is the user outside
        return ["--user", "0:0"]
    return [*(["--userns", "host"] if engine.remaps_users else []), "--user", own]


def list_mounts(engine: EngineName, mounts: Mounts, loans: Mapping[PurePosixPath, Path]) -> list[str]:
    """Outer directories first: an engine lays mounts in the order given, and the work directory lies in the project."""
    places = {PurePosixPath(path): (path, False) for path in mounts.read_only}
    places |= {PurePosixPath(path): (path, True) for path in mounts.writable}
    places |= {target: (source, False) for target, source in loans.items()}
    return [
        word
        for target, (source, writable) in sorted(places.items(), key=lambda item: len(item[0].parts))
        for word in list_mount_words(engine, source, target, writable=writable)
    ]
