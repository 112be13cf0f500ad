"""Choose the artifact that a user would get here, and run pytest on it in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from kernel_builder import process
from kernel_builder.artifact.load import is_variant_name
from kernel_builder.artifact.model import Artifact
from kernel_builder.errors import BadInputError, NothingSelectedError, Problem, TestsFailedError, ToolchainMissingError

_HERE = Path(__file__).parent
_PLUGIN = "kernel_builder_pytest"
_SETTINGS_VARIABLE = "KERNEL_BUILDER_TEST"
_INSTALL_HINT = "`pip install 'kernel-builder[test]'` brings what testing needs; torch must be there too"
_NO_TESTS_COLLECTED = 5
_CONFIGURATIONS = {
    "pytest.ini": "",
    ".pytest.ini": "",
    "pyproject.toml": "[tool.pytest",
    "tox.ini": "[pytest]",
    "setup.cfg": "[tool:pytest]",
}


@dataclass(frozen=True, slots=True)
class LoadedChoice:
    """The variant directory that the loader took, and the versions in the Python that it ran in."""

    path: Path
    python: str
    torch: str | None
    kernels: str
    cpu_capability: str | None


@dataclass(frozen=True, slots=True)
class SuiteOutcome:
    """What pytest said: its exit code, a count per outcome, and the variant directories that the tests loaded.

    arguments, places: the further words and the places of tests that it was given.
    """

    exit_code: int
    counts: Mapping[str, int]
    loaded: frozenset[Path]
    arguments: tuple[str, ...]
    places: tuple[str, ...] = ()

    @property
    def ran(self) -> int:
        """Tests that came to an end, well or not; skipped ones did not run."""
        return sum(self.counts.get(name, 0) for name in ("passed", "failed", "error", "xfailed", "xpassed"))


def choose_artifact(place: Path, *, python: Path | None = None) -> LoadedChoice:
    """Let the `kernels` loader of a Python choose and load a variant from `place`, in a fresh process.

    place: a directory of variants, or one variant. Raises `ToolchainMissingError` when that Python lacks `kernels`
    or pytest, `NothingSelectedError` when no variant fits, `TestsFailedError` when the chosen one does not load.
    """
    interpreter = python or Path(sys.executable)
    with _scratch() as scratch:
        report_file = scratch / "report.json"
        script = shutil.copy(_HERE / "loader_probe.py", scratch / "loader_probe.py")
        completed = process.run([interpreter, script, place.absolute(), report_file], env=_quiet_environment())
        report = _read_report(report_file)
    if report is None:
        raise TestsFailedError(
            Problem(f"the kernel in `{place}` ended the process that loaded it", hint="\n".join(completed.lines[-20:]))
        )
    absent = [name for name in ("kernels", "pytest") if report[name] is None]
    if absent:
        names = " and ".join(f"`{name}`" for name in absent)
        raise ToolchainMissingError(Problem(f"`{interpreter}` has no {names}", hint=_INSTALL_HINT))
    if "path" not in report:
        _raise_for(place, str(report["error"]))
    return LoadedChoice(
        Path(report["path"]), report["python"], report["torch"], report["kernels"], report.get("cpu-capability")
    )


def check_places(project: Path, tests: Sequence[Path]) -> None:
    """Raise `BadInputError` unless every place where tests are to be found exists."""
    missing = " and ".join(f"`{path}`" for path in tests if not (project / path).exists())
    if missing:
        raise BadInputError(
            Problem(f"there is no {missing} in `{project}`", hint="write tests, or name their place with `--tests`")
        )


def run_suite(
    project: Path,
    artifacts: Sequence[Artifact],
    *,
    tests: Sequence[Path],
    arguments: Sequence[str] = (),
    repo_ids: Mapping[str, str] | None = None,
    python: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    color: bool = False,
) -> SuiteOutcome:
    """Run pytest on `tests` where `import <python name>` gives the artifact of that kernel.

    repo_ids: kernel name -> Hub repository, for which `get_kernel` gives the artifact too. arguments: further words
    for pytest. Gives the outcome whether the tests passed or not.
    """
    with _scratch() as scratch:
        report_file = scratch / "report.json"
        library = _make_library(scratch, artifacts)
        settings = {
            "kernels": {artifact.metadata.python_name: str(artifact.path.absolute()) for artifact in artifacts},
            "report": str(report_file),
        }
        env = _quiet_environment() | {
            _SETTINGS_VARIABLE: json.dumps(settings),
            "PYTHONPATH": os.pathsep.join((str(library), *_list_python_path())),
            **_map_repositories(artifacts, repo_ids or {}),
        }
        argv = [
            *(str(python or sys.executable), "-m", "pytest", "-p", _PLUGIN),
            *(f"--rootdir={project.absolute()}", *_choose_configuration(project, scratch)),
            *(["--color=yes"] if color else []),
            *(str(path) for path in tests),
            *arguments,
        ]
        completed = process.run(argv, cwd=project, env=env, on_line=on_line)
        report = _read_report(report_file)
    words, places = tuple(arguments), tuple(path.as_posix() for path in tests)
    if report is None:
        return SuiteOutcome(completed.returncode or 1, {}, frozenset(), words, places)
    loaded = frozenset(Path(path) for path in report["loaded"])
    return SuiteOutcome(completed.returncode, report["counts"], loaded, words, places)


def check_outcome(outcome: SuiteOutcome, wanted: Sequence[Artifact]) -> None:
    """Refuse an outcome that proves nothing.

    Raises `TestsFailedError` when a test failed, when none ran, or when none loaded a `wanted` artifact.
    """
    counts = ", ".join(f"{number} {name}" for name, number in outcome.counts.items() if number)
    if outcome.ran == 0 and outcome.exit_code in {0, _NO_TESTS_COLLECTED}:
        what = "every test was skipped or deselected" if counts else "no tests were collected"
        raise TestsFailedError(
            Problem(f"{what}{f' ({counts})' if counts else ''}", hint="a kernel that no test ran is not tested")
        )
    if outcome.exit_code != 0:
        raise TestsFailedError(f"the tests failed: {counts or f'pytest ended with code {outcome.exit_code}'}")
    unseen = [artifact for artifact in wanted if artifact.path.resolve() not in outcome.loaded]
    if unseen:
        raise TestsFailedError(
            [
                Problem(
                    f"the tests passed, but none of them loaded `{artifact.metadata.name}`",
                    hint=f"import it as `{artifact.metadata.python_name}` in a test",
                )
                for artifact in unseen
            ]
        )


def _raise_for(place: Path, error: str) -> NoReturn:
    if error.startswith("FileNotFoundError"):
        present = sorted(path.name for path in place.iterdir() if is_variant_name(path.name))
        raise NothingSelectedError(
            Problem(
                f"the `kernels` loader takes none of the variants in `{place}` here: {', '.join(present)}",
                hint="build for this machine, or test on one with such a device",
            )
        )
    raise TestsFailedError(Problem(f"the kernel in `{place}` does not load: {error}"))


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kernel-builder-test-") as directory:
        yield Path(directory).resolve()


def _make_library(scratch: Path, artifacts: Sequence[Artifact]) -> Path:
    """A directory for PYTHONPATH: our plugin, and the artifacts by import name for processes that tests start."""
    library = scratch / "library"
    library.mkdir()
    shutil.copy(_HERE / "pytest_plugin.py", library / f"{_PLUGIN}.py")
    for artifact in artifacts:
        (library / artifact.metadata.python_name).symlink_to(artifact.path.absolute(), target_is_directory=True)
    return library


def _map_repositories(artifacts: Sequence[Artifact], repo_ids: Mapping[str, str]) -> dict[str, str]:
    """The variable for the loader. The artifacts under test stand last, where they win over the user's own entries."""
    mapped = [artifact for artifact in artifacts if artifact.metadata.name in repo_ids]
    for artifact in mapped:
        if ":" in str(artifact.path.absolute()):
            raise BadInputError(
                Problem(
                    f"`LOCAL_KERNELS` cannot name `{artifact.path.absolute()}`: the loader splits it at colons",
                    hint="build to another place with `--output`",
                )
            )
    inherited = [entry for entry in os.environ.get("LOCAL_KERNELS", "").split(":") if entry]
    entries = [f"{repo_ids[artifact.metadata.name]}={artifact.path.absolute()}" for artifact in mapped]
    return {"LOCAL_KERNELS": ":".join([*inherited, *entries])} if inherited or entries else {}


def _choose_configuration(project: Path, scratch: Path) -> list[str]:
    """Keep the pytest settings of a directory above the project from deciding over the project's tests."""
    for directory in (project, project / "tests"):
        for name, sign in _CONFIGURATIONS.items():
            file = directory / name
            if file.is_file() and sign in file.read_text(encoding="utf-8", errors="replace"):
                return ["-c", str(file.absolute())]
    empty = scratch / "pytest.ini"
    empty.write_text("[pytest]\n", encoding="utf-8")
    return ["-c", str(empty), "-o", f"cache_dir={scratch / 'cache'}"]


def _list_python_path() -> list[str]:
    """What PYTHONPATH names, absolute: the tests run in another directory."""
    return [str(Path(entry).absolute()) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]


def _quiet_environment() -> dict[str, str]:
    """Testing must not change what is tested: no byte code in the artifact."""
    return process.child_environment({"PYTHONDONTWRITEBYTECODE": "1"})


def _read_report(file: Path) -> dict[str, Any] | None:
    try:
        report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report
