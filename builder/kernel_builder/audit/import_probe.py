"""Import one artifact as the loader does and write down what happened. A script for a process of its own.

    python import_probe.py REQUEST.json ANSWER.json

It imports nothing of this package: what it measures is a user's process. REQUEST has `directory`, `backend`, `id`,
`python_name`, `modules` (those that `python-depends` stand for) and `optional` (those that a kernel may import, but
that not every machine has). ANSWER has `outcome` (`imported`, `skipped`, `failed`), `detail`, `loader` and
`namespaces` (those of the ops that the import registered).
"""

from __future__ import annotations

import faulthandler
import importlib
import importlib.util
import json
import resource
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any


def main(request_path: str, answer_path: str) -> None:
    """Do what the request says."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable()
    request = json.loads(Path(request_path).read_text(encoding="utf-8"))
    answer = _answer(request)
    Path(answer_path).write_text(json.dumps(answer), encoding="utf-8")


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    missing = [name for name in ("torch", *request["modules"]) if importlib.util.find_spec(name) is None]
    if missing:
        return {"outcome": "skipped", "detail": f"the module `{missing[0]}` is not installed"}
    detected = _detect_backend()
    if request["backend"] not in {"cpu", detected}:
        return {"outcome": "skipped", "detail": f"torch here is for `{detected}`, the artifact for another backend"}
    before = _op_namespaces()
    directory = Path(request["directory"])
    loader = "kernels" if importlib.util.find_spec("kernels") else "importlib"
    try:
        module = _load(directory, request) if loader == "importlib" else _load_with_kernels(directory, request)
        if not Path(module.__file__ or "").is_relative_to(directory):
            raise ImportError(f"the loader chose `{module.__file__}`")  # noqa: TRY301 - told like any other failure
    except BaseException as error:  # noqa: BLE001 - a kernel may raise anything, SystemExit too
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in request["optional"]:
            return {"outcome": "skipped", "detail": f"the module `{error.name}` is not installed"}
        return {"outcome": "failed", "detail": traceback.format_exc(limit=-6), "loader": loader}
    return {"outcome": "imported", "loader": loader, "namespaces": sorted(_op_namespaces() - before)}


def _detect_backend() -> str:
    torch = importlib.import_module("torch")
    if torch.version.cuda:
        return "cuda"
    if torch.version.hip:
        return "rocm"
    if getattr(torch.version, "xpu", None):
        return "xpu"
    return "metal" if torch.backends.mps.is_available() else "cpu"


def _op_namespaces() -> set[str]:
    names = importlib.import_module("torch")._C._dispatch_get_all_op_names()  # noqa: SLF001 - torch has no public list
    return {name.partition("::")[0] for name in names}


def _load_with_kernels(directory: Path, request: dict[str, Any]) -> ModuleType:
    backend = "cpu" if request["backend"] == "cpu" else None
    module: ModuleType = importlib.import_module("kernels").get_local_kernel(directory, backend=backend)
    return module


def _load(directory: Path, request: dict[str, Any]) -> ModuleType:
    """What `kernels` does: the package gets the id as its name, so that its relative imports work."""
    file = directory / "__init__.py"
    if not file.exists():
        file = directory / request["python_name"] / "__init__.py"
    spec = importlib.util.spec_from_file_location(request["id"], file)
    if spec is None or spec.loader is None:
        raise ImportError(f"Python cannot import `{file}`")
    module = importlib.util.module_from_spec(spec)
    sys.modules[request["id"]] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(*sys.argv[1:])
