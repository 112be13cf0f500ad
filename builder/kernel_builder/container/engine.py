"""The container engines of this machine: which one answers, and what it can do."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from kernel_builder import process
from kernel_builder.errors import Problem, ToolchainMissingError
from kernel_builder.remedy import install_command

_ASK_SECONDS = 30.0
_VERSION = re.compile(r"\b(\d+\.\d+(?:\.\d+)*)")
_NOT_RUNNING = re.compile(r"Is the docker daemon running|connection refused|no such file|Cannot connect", re.IGNORECASE)
_NOT_ALLOWED = re.compile(r"permission denied", re.IGNORECASE)
_SHOWN = 3


class EngineName(StrEnum):
    """The engines that are known, in the order in which they are tried."""

    DOCKER = "docker"
    PODMAN = "podman"
    BUILDAH = "buildah"


@dataclass(frozen=True, slots=True)
class Engine:
    """A container engine that answers.

    is_rootless: whether root inside is the user outside. remaps_users: whether the engine gives every container other
    user ids. has_selinux: whether SELinux confines containers. can_limit: `memory` and `pids`, as far as it can.
    """

    name: EngineName
    path: str
    version: str
    is_rootless: bool = False
    remaps_users: bool = False
    has_selinux: bool = False
    can_limit: frozenset[str] = frozenset()

    @property
    def description(self) -> str:
        """For example `docker 27.1.2, rootless`."""
        return f"{self.name} {self.version}{', rootless' if self.is_rootless else ''}"


def choose_engine(chosen: EngineName | None = None) -> Engine:
    """The chosen engine, else the first one of this machine that answers.

    Raises `ToolchainMissingError` that says of each engine why it cannot be used.
    """
    problems: list[Problem] = []
    for name in [chosen] if chosen is not None else list(EngineName):
        try:
            return probe_engine(name)
        except ToolchainMissingError as error:
            problems.extend(error.problems)
    found = [problem for problem in problems if "is not on this machine" not in problem.message]
    if chosen is not None or found:
        raise ToolchainMissingError(found or problems)
    names = ", ".join(f"`{name}`" for name in EngineName)
    raise ToolchainMissingError(
        Problem(
            f"no container engine is on this machine: looked for {names}",
            hint=f"`{install_command('docker.io')}` brings one; so does `{install_command('buildah')}`, without root",
        )
    )


def probe_engine(name: EngineName) -> Engine:
    """Ask one engine what it is. Raises `ToolchainMissingError` with the reason why it cannot be used."""
    path = shutil.which(name)
    if path is None:
        hint = f"`{install_command('docker.io' if name is EngineName.DOCKER else name)}` brings it"
        raise ToolchainMissingError(Problem(f"`{name}` is not on this machine", hint=hint))
    return _PROBES[name](path)


def _probe_docker(path: str) -> Engine:
    facts = _ask_json(EngineName.DOCKER, [path, "info", "--format", "{{json .}}"])
    errors = facts.get("ServerErrors")
    if errors or not facts.get("ServerVersion"):
        raise _explain(EngineName.DOCKER, "\n".join(str(error) for error in errors or ["it does not answer"]))
    security = [str(option) for option in facts.get("SecurityOptions") or ()]
    limits = {"memory": facts.get("MemoryLimit"), "pids": facts.get("PidsLimit")}
    return Engine(
        EngineName.DOCKER,
        path,
        str(facts["ServerVersion"]),
        is_rootless=any(option.startswith("name=rootless") for option in security),
        remaps_users=any(option.startswith("name=userns") for option in security),
        has_selinux=any(option.startswith("name=selinux") for option in security),
        can_limit=frozenset(limit for limit, able in limits.items() if able),
    )


def _probe_podman(path: str) -> Engine:
    facts = _ask_json(EngineName.PODMAN, [path, "info", "--format", "json"])
    host = _table(facts.get("host"))
    security = _table(host.get("security"))
    is_rootless = security.get("rootless") is True
    controllers = {str(controller) for controller in host.get("cgroupControllers") or ()}
    is_old = is_rootless and str(host.get("cgroupVersion", "")) == "v1"  # it has no say over control groups then
    return Engine(
        EngineName.PODMAN,
        path,
        str(_table(facts.get("version")).get("Version", "unknown")),
        is_rootless=is_rootless,
        has_selinux=security.get("selinuxEnabled") is True,
        can_limit=frozenset() if is_old else frozenset({"memory", "pids"} & controllers),
    )


def _probe_buildah(path: str) -> Engine:
    completed = _ask(EngineName.BUILDAH, [path, "--version"])
    match = _VERSION.search(completed.output)
    if completed.returncode != 0 or match is None:
        raise _explain(EngineName.BUILDAH, completed.output)
    return Engine(EngineName.BUILDAH, path, match[1], is_rootless=os.geteuid() != 0)


_PROBES: Mapping[EngineName, Callable[[str], Engine]] = {
    EngineName.DOCKER: _probe_docker,
    EngineName.PODMAN: _probe_podman,
    EngineName.BUILDAH: _probe_buildah,
}


def _ask(name: EngineName, argv: list[str]) -> process.Completed:
    try:
        return process.run(argv, timeout=_ASK_SECONDS)
    except TimeoutError as error:
        raise ToolchainMissingError(
            Problem(f"`{name}` does not answer", hint=f"see what `{name} info` says, or restart the engine")
        ) from error


def _ask_json(name: EngineName, argv: list[str]) -> dict[str, Any]:
    """The JSON document in an answer; warnings may stand before and behind it."""
    completed = _ask(name, argv)
    text = completed.output
    try:
        facts = json.loads(text[text.index("{") : text.rindex("}") + 1])
    except ValueError:
        facts = None
    if not isinstance(facts, dict) or (completed.returncode != 0 and "ServerErrors" not in facts):
        complaint = "\n".join(line for line in completed.lines if not line.startswith("{"))
        raise _explain(name, complaint)
    return facts


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _explain(name: EngineName, complaint: str) -> ToolchainMissingError:
    told = "\n".join(f"  {line}" for line in complaint.strip().splitlines()[:_SHOWN])
    if _NOT_ALLOWED.search(complaint):
        message = f"`{name}` is on this machine, but its socket may not be used by this user"
        hint = "add the user to the group `docker` and log in again, or use an engine without root: `--engine podman`"
    elif _NOT_RUNNING.search(complaint):
        message = f"`{name}` is on this machine, but its engine is not running"
        hint = "start it (`systemctl start docker`), or use an engine without a service: `--engine buildah`"
    else:
        message, hint = f"`{name}` is on this machine, but does not work", f"see what `{name} info` says"
    return ToolchainMissingError(Problem(f"{message}\n{told}" if told else message, hint=hint))
