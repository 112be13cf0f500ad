"""The manylinux policy against auditwheel's, which many more people have looked at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest

from kernel_builder.audit.policy import load_policy

LEFT_OUT = {
    "libGL.so.1",
    "libICE.so.6",
    "libSM.so.6",
    "libX11.so.6",
    "libXext.so.6",
    "libXrender.so.1",
    "libglib-2.0.so.0",
    "libgobject-2.0.so.0",
    "libgthread-2.0.so.0",
}
LOADERS = {"ld-linux-aarch64.so.1", "ld-linux-x86-64.so.2"}


@pytest.fixture(scope="module")
def published() -> dict[str, dict[str, Any]]:
    text = (files("auditwheel") / "policy" / "manylinux-policy.json").read_text()
    return {policy["name"]: policy for policy in json.loads(text)}


def list_versions(policy: dict[str, Any], machine: str) -> Iterator[str]:
    for namespace, versions in policy["symbol_versions"].get(machine, {}).items():
        yield from (f"{namespace}_{version}" for version in versions)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_known_symbol_version_gets_the_same_verdict(published: dict[str, Any], machine: str) -> None:
    ours = load_policy("hub")
    allowed = set(list_versions(published["manylinux_2_28"], machine))
    every = {version for policy in published.values() for version in list_versions(policy, machine)}
    assert len(every) > len(allowed) > 50
    # Versions that one machine never had, such as GLIBC_2.2.5 on aarch64, are of no interest there.
    assert {version for version in every if ours.provides_version(version)} == allowed


def test_the_libraries_are_the_same_but_for_those_of_a_desktop(published: dict[str, Any]) -> None:
    ours = load_policy("hub").libraries["system"]
    theirs = set(published["manylinux_2_28"]["lib_whitelist"])
    assert theirs - ours == LEFT_OUT
    assert ours - theirs == LOADERS
