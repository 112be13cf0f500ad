"""The last check: import the artifact in a fresh process, where this machine can load it."""

from __future__ import annotations

import importlib.metadata
import json
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel_builder import process
from kernel_builder.artifact.model import Metadata
from kernel_builder.audit import rules
from kernel_builder.audit.policy import Policy
from kernel_builder.audit.report import Finding
from kernel_builder.audit.subject import Subject
from kernel_builder.backend import Backend
from kernel_builder.errors import BadInputError, BuilderError, Problem
from kernel_builder.host import HostPlatform, probe_host
from kernel_builder.variant import NoarchVariant, TorchAbi, TvmFfiAbi, Variant
from kernel_builder.version import MinorVersion

RULES = (rules.IMPORT_DONE, rules.IMPORT_WORKS, rules.IMPORT_SURVIVES, rules.OPS_REGISTERED)
_BLOCKING_RULES = frozenset(
    rule.name
    for rule in (
        rules.VARIANT_NAME,
        rules.REGULAR_FILES,
        rules.INIT_MODULE,
        rules.EXTENSION_NAME,
        rules.METADATA_READABLE,
        rules.METADATA_FIELDS,
        rules.METADATA_ID,
        rules.METADATA_VARIANT,
        rules.METADATA_DEPENDS,
        rules.DIGEST_MATCH,
        rules.DIGEST_COMPLETE,
        rules.BINARY_FORMAT,
        rules.BINARY_UNAUDITED,
        rules.BINARY_MACHINE,
    )
)
_PROBE = Path(__file__).with_name("import_probe.py")
_SECONDS = 300.0
_SHOWN_LINES = 12
# Namespaces that torch itself fills when parts of it are imported late.
_TORCH_NAMESPACES = frozenset(
    {
        "_c10d_functional",
        "_c10d_functional_autograd",
        "_dtensor",
        "_inductor_test",
        "_quantized",
        "aten",
        "c10d",
        "debugprims",
        "export",
        "fsdp",
        "inductor",
        "inductor_prims",
        "mkldnn",
        "onednn",
        "onnx",
        "prim",
        "prims",
        "profiler",
        "quantized",
        "quantized_decomposed",
        "rngprims",
        "streams",
        "symm_mem",
        "triton",
    }
)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python on this machine, and the release line of the torch that it would import; None if it has none."""

    python: Path
    torch: MinorVersion | None


def check_import(
    subject: Subject,
    policy: Policy,
    findings: Iterable[Finding],
    seconds: float = _SECONDS,
    *,
    others: Iterable[Interpreter] = (),
) -> Iterable[Finding]:
    """Import the artifact as a user would, and tell what happened.

    findings: what the other checks found. Code that is not what was built, or not for this machine, is not run. others:
    Pythons that are tried where the running one has not the torch that the artifact is for.
    """
    variant, metadata = subject.variant, subject.metadata
    blocking = sorted({finding.rule for finding in findings} & _BLOCKING_RULES)
    if variant is None or metadata is None or blocking:
        yield _tell_skipped(subject, f"it violates {', '.join(blocking)}")
        return
    if metadata.kernel_depends:
        yield _tell_skipped(subject, "the kernels that it depends on would have to be downloaded")
        return
    pythons = (Interpreter(Path(sys.executable), probe_torch()), *others)
    reasons = {each: reason_against_import(variant, probe_host(), each.torch) for each in pythons}
    fitting = next((each for each, reason in reasons.items() if reason is None), None)
    if fitting is None:
        distinct = list(dict.fromkeys(reason for reason in reasons.values() if reason))
        torches = ", ".join(str(each.torch or "none") for each in reasons)
        many = f"no Python here has the torch that it is for, theirs are: {torches}"
        yield _tell_skipped(subject, distinct[0] if len(distinct) == 1 else many)
    else:
        yield from _judge(subject, _run_probe(subject, metadata, variant.backend, policy, seconds, fitting))


def reason_against_import(variant: Variant, host: HostPlatform, torch: MinorVersion | None) -> str | None:
    """Why the variant cannot be loaded on this host with this torch, as far as its name tells; None if it can."""
    if torch is None:
        return "torch is not installed beside the builder"
    if isinstance(variant, NoarchVariant):
        return None
    if variant.host != host:
        return f"this machine is `{host}`"
    abi = variant.abi
    if isinstance(abi, TvmFfiAbi):
        return "only artifacts for torch are imported so far"
    if isinstance(abi, TorchAbi):
        return None if abi.version == torch and abi.cxx11 is not False else f"torch here is {torch}"
    return None if abi.version <= torch else f"torch here is {torch}, older than the artifact's"


def probe_torch() -> MinorVersion | None:
    """The release line of the torch that this Python would import."""
    try:
        return MinorVersion.parse_release(importlib.metadata.version("torch"))
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None


def probe_interpreter(python: Path) -> Interpreter:
    """Ask another Python for its torch. Raises `BadInputError` when it is not a Python that runs."""
    ask = "import importlib.metadata as m, json; print(json.dumps([d.version for d in m.distributions(name='torch')]))"
    try:
        completed = process.run([python, "-I", "-c", ask], timeout=_SECONDS)
        versions = json.loads(completed.lines[-1]) if completed.returncode == 0 and completed.lines else None
        if isinstance(versions, list):
            return Interpreter(python, MinorVersion.parse_release(versions[0]) if versions else None)
    except (BuilderError, TimeoutError, ValueError):
        pass
    hint = "give the `python` of an environment that has the torch"
    raise BadInputError(Problem(f"`{python}` is not a Python that runs", hint=hint))


def find_interpreters(pythons: Iterable[Path]) -> Iterator[Interpreter]:
    """Those of the Pythons that run."""
    for python in pythons:
        with suppress(BadInputError):
            yield probe_interpreter(python)


def tell_not_asked(subject: Subject) -> Finding:
    """The note that stands in the report when the import was not wanted."""
    return _tell_skipped(subject, "it was not asked for")


def _tell_skipped(subject: Subject, reason: str) -> Finding:
    return rules.IMPORT_DONE.found(subject.name, f"the artifact was not imported: {reason}")


def _run_probe(  # noqa: PLR0917 - one call, right above
    subject: Subject, metadata: Metadata, backend: Backend, policy: Policy, seconds: float, interpreter: Interpreter
) -> dict[str, Any]:
    """What the probe answered, or what its end tells; nothing that the artifact does reaches this process."""
    with tempfile.TemporaryDirectory(prefix="kernel-builder-audit-") as scratch:
        request, answer = Path(scratch, "request.json"), Path(scratch, "answer.json")
        modules = {policy.module_of(entry, backend) or "" for entry in metadata.python_depends}
        document = {
            "directory": str(subject.directory.absolute()),
            "backend": str(backend),
            "id": metadata.id,
            "python_name": metadata.python_name,
            "modules": sorted(modules - {""}),
            "optional": sorted(policy.python_modules),
        }
        request.write_text(json.dumps(document), encoding="utf-8")
        env = process.child_environment({"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"})
        env.pop("LOCAL_KERNELS", None)
        # Neither sees the directory of the script; another Python must not see this one's packages either.
        safe_path = "-P" if interpreter.python == Path(sys.executable) else "-I"
        argv: list[str | Path] = [interpreter.python, safe_path, "-B", "-X", "faulthandler", _PROBE, request, answer]
        try:
            completed = process.run(argv, cwd=Path(scratch), env=env, timeout=seconds)
            if completed.returncode == 0:
                return dict(json.loads(answer.read_text(encoding="utf-8")))
        except TimeoutError:
            return {"outcome": "timeout", "detail": f"it was not done after {seconds:g} seconds"}
        except (BuilderError, OSError, ValueError) as error:
            return {"outcome": "crashed", "detail": f"the process ended without an answer: {error}"}
        tail = "\n".join(completed.lines[-_SHOWN_LINES:])
        return {"outcome": "crashed", "detail": f"{_name_end(completed.returncode)}\n{tail}"}


def _name_end(returncode: int) -> str:
    if returncode >= 0:
        return f"the process ended with exit code {returncode}"
    try:
        return f"the process was ended by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"the process was ended by signal {-returncode}"


def _judge(subject: Subject, answer: dict[str, Any]) -> Iterator[Finding]:
    name, detail = subject.name, str(answer.get("detail", "")).strip()
    match answer.get("outcome"):
        case "imported":
            yield rules.IMPORT_DONE.found(name, f"the artifact was imported with `{answer.get('loader')}`")
            own = set() if subject.metadata is None else {subject.metadata.id}
            foreign = set(answer.get("namespaces", ())) - own - _TORCH_NAMESPACES
            if foreign:
                names = ", ".join(f"`{namespace}`" for namespace in sorted(foreign))
                message = f"importing registers ops under {names}, where another version would collide"
                yield rules.OPS_REGISTERED.found(name, message, "register ops under the kernel's id only")
        case "skipped":
            yield _tell_skipped(subject, detail)
        case "failed":
            yield rules.IMPORT_WORKS.found(name, f"importing the artifact failed:\n{_last_lines(detail)}")
        case _:
            is_illegal = "SIGILL" in detail
            hint = "it runs instructions that this processor lacks: choose them at run time" if is_illegal else None
            yield rules.IMPORT_SURVIVES.found(name, f"importing the artifact did not end well: {detail}", hint)


def _last_lines(text: str) -> str:
    return "\n".join(text.splitlines()[-_SHOWN_LINES:])
