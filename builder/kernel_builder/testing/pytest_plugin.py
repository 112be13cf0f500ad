"""Runs inside the pytest that tests an artifact: gives the artifact its import name, and reports what happened.

`testing` lays this file beside the tests' own modules, in whatever Python they run; so it imports nothing of ours.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SETTINGS_VARIABLE = "KERNEL_BUILDER_TEST"
_COUNTED = ("passed", "failed", "error", "skipped", "xfailed", "xpassed", "deselected")


class _Alias(Loader):
    """Gives the module that the `kernels` loader made, so that one artifact is never imported twice."""

    def __init__(self, artifact: Path) -> None:
        self._artifact = artifact
        self._own_spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        from kernels import get_local_kernel  # noqa: PLC0415 - the tests' own collection decides when torch is loaded

        try:
            root = get_local_kernel(self._artifact)
        except ImportError:
            raise
        except Exception as error:
            raise ImportError(f"the kernel in `{self._artifact}` cannot be loaded: {error}") from error
        _, dot, rest = spec.name.partition(".")
        module = importlib.import_module(f"{root.__name__}{dot}{rest}")
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own_spec  # the import system has just put the alias's there


class _ArtifactFinder(MetaPathFinder):
    """Finds `import <python name>` and its submodules in the artifacts, before anything on the path."""

    def __init__(self, kernels: dict[str, str]) -> None:
        self._kernels = {name: Path(path) for name, path in kernels.items()}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        artifact = self._kernels.get(fullname.partition(".")[0])
        if artifact is None:
            return None
        if "." in fullname and not self._has_submodule(fullname):
            return None
        return ModuleSpec(fullname, _Alias(artifact), origin=str(artifact))

    @staticmethod
    def _has_submodule(fullname: str) -> bool:
        """Ask under the real name; a name that is not there must stay a plain `ModuleNotFoundError`."""
        root, _, rest = fullname.partition(".")
        return importlib.util.find_spec(f"{sys.modules[root].__name__}.{rest}") is not None


class _Reporter:
    """Counts outcomes and the artifacts that were really loaded; with xdist, from all workers."""

    def __init__(self, config: pytest.Config, report: Path) -> None:
        self._config = config
        self._report = report
        self._loaded: set[str] = set()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self._loaded.update(getattr(node, "workeroutput", {}).get("kernel_builder_loaded", ()))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        loaded = _list_loaded()
        output: dict[str, Any] | None = getattr(self._config, "workeroutput", None)
        if output is not None:  # a worker of xdist
            output["kernel_builder_loaded"] = loaded
            return
        self._loaded.update(loaded)
        terminal: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        stats = {} if terminal is None else terminal.stats
        counts = {name: len(stats.get(name, ())) for name in _COUNTED}
        document = {"exit": int(exitstatus), "counts": counts, "loaded": sorted(self._loaded)}
        self._report.write_text(json.dumps(document), encoding="utf-8")


def _list_loaded() -> list[str]:
    kernels = sys.modules.get("kernels")
    if kernels is None:
        return []
    return [str(Path(loaded.module.__file__).resolve().parent) for loaded in kernels.get_loaded_kernels()]


def pytest_configure(config: pytest.Config) -> None:
    """Read what `testing` left in the environment, and take part."""
    settings = json.loads(os.environ[SETTINGS_VARIABLE])
    config.addinivalue_line("markers", "kernels_ci: a test that continuous integration runs on the built kernel")
    sys.meta_path.insert(0, _ArtifactFinder(settings["kernels"]))
    config.pluginmanager.register(_Reporter(config, Path(settings["report"])), "kernel-builder-reporter")
