"""Drives CMake and ninja over a generated project, through its scikit-build-core backend."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from build import BuildBackendException, BuildException, ProjectBuilder

from kernel_builder.backend import Backend
from kernel_builder.compile.configuration import (
    Equipment,
    choose_jobs,
    drop_other_builds,
    make_environment,
    make_settings,
)
from kernel_builder.compile.diagnostics import explain_failure
from kernel_builder.compile.model import CompiledTree
from kernel_builder.compile.ninja import list_timings, load_flags, load_steps, name_step, parse_progress
from kernel_builder.compile.site import Site, choose_site
from kernel_builder.compile.unpack import unpack_wheel
from kernel_builder.compile.workspace import Workspace
from kernel_builder.container import Container
from kernel_builder.disk import is_full
from kernel_builder.errors import BadInputError, BuilderError, Problem, ToolchainMissingError
from kernel_builder.plan import BuildPlan, ToolchainKey, TorchSdkKey, VariantPlan
from kernel_builder.progress import FileStarted, Listener, step
from kernel_builder.remedy import install_command
from kernel_builder.render.fileset import FileSet
from kernel_builder.render.project import UNITS, list_sdk_variables
from kernel_builder.resources import count_heavy_jobs, probe_free_memory
from kernel_builder.spec.model import Framework, TorchFramework, TorchNoarchFramework, TvmFfiFramework
from kernel_builder.toolchains import Toolkit
from kernel_builder.toolchains.system import Toolchain
from kernel_builder.torch_sdk import TorchSdk

_UNUSABLE = (";", "[", "]", "\\", '"', "|", "<", ">", "$(", "${", "$ENV{", "$CACHE{", "\n", "\r")


def compile_project(
    fileset: FileSet,
    plan: BuildPlan,
    key: ToolchainKey,
    *,
    toolchain: Toolchain,
    sdks: Mapping[TorchSdkKey, TorchSdk],
    workspace: Workspace,
    listener: Listener,
    toolkit: Toolkit | None = None,
    defines: Mapping[str, str] | None = None,
    jobs: int | None = None,
    unnamed: Iterable[PurePosixPath] = (),
    container: Container | None = None,
) -> CompiledTree:
    """Build the generated project of one toolchain, and unpack what it installs.

    key: which of the plan's toolchains. toolchain: what it is on this machine. sdks: the torches that its variants are
    compiled against. toolkit: the compiler of device code, for backends that have one. defines: further entries of
    CMake's cache, such as where header libraries lie. What was compiled before and has not changed is not compiled
    again. jobs: compilers at once, by default as many as cores and free memory allow. unnamed: sources that do without
    the unique id, see `BuildInputs.list_unnamed`. container: where the compilers run, if not on this
    machine; `toolchain` is what is there.
    Raises `ToolchainMissingError` when a tool is missing, `CompileError` with the first diagnostics when the build
    fails.
    """
    started = time.monotonic()
    is_compiled = not isinstance(plan.spec.framework, TorchNoarchFramework)
    variants = plan.list_variants(key)
    variables = {name: sdks.get(sdk) for name, sdk in list_sdk_variables(variants).items()}
    _check_places(plan.spec.root.resolve(), workspace.root, is_cuda=key.backend is Backend.CUDA)
    log = workspace.log_file(key)
    build_dir = workspace.build_dir(key)
    known = {name: str(sdk.root) for name, sdk in variables.items() if sdk is not None}
    equipment = Equipment(toolchain, toolkit, known | dict(defines or {}))
    site = choose_site(container, equipment, plan.spec.root, workspace.root)
    _check_tools(plan.spec.framework, toolchain, variables, site)
    drop_other_builds(build_dir, plan, equipment, site.identity)
    settings = make_settings(plan, equipment, build_dir, unnamed)
    at_once = choose_jobs(jobs)
    heavy = at_once if jobs is not None else count_heavy_jobs(at_once, probe_free_memory())
    settings["cmake.define.KERNEL_HEAVY_JOBS"] = str(heavy)
    fileset.write_to(workspace.project_dir(key))
    before = load_steps(build_dir)
    sources = _list_sources(plan)
    name = f"compile {key}" if is_compiled else f"collect {key}"

    def tell(index: int, total: int, description: str) -> None:
        listener(FileStarted(name, index, total, name_step(description, sources)))

    with step(listener, name):
        env = make_environment(equipment, at_once)
        runner = _Runner(site, env, log, workspace.lock, tell)
        wheel = _build_wheel(plan, key, workspace, runner, settings)
    _drop_old_libraries(build_dir, variants)
    tree = workspace.tree_dir(key)
    unpack_wheel(wheel, tree)
    return CompiledTree(
        root=tree,
        log=log,
        seconds=time.monotonic() - started,
        timings=list_timings(before, load_steps(build_dir), sources),
        flags=load_flags(build_dir, (variant.unique_id for variant in variants)),
    )


class _HookFailedError(Exception):
    """The build backend ended with an error; what it said is in the runner's lines."""


class _Runner:
    """Runs the build backend's hooks for `ProjectBuilder`: logs every line and turns ninja's into events."""

    def __init__(
        self, site: Site, env: Mapping[str, str], log: Path, lock: int, tell: Callable[[int, int, str], None]
    ) -> None:
        self.lines: list[str] = []
        self._site = site
        self._env = env
        self._log = log
        self._lock = lock
        self._tell = tell

    def __call__(
        self, cmd: Sequence[str], cwd: str | None = None, extra_environ: Mapping[str, str] | None = None
    ) -> None:
        with self._log.open("w", encoding="utf-8") as log:

            def take(line: str) -> None:
                log.write(f"{line}\n")
                self.lines.append(line)
                progress = parse_progress(line)
                if progress is not None:
                    self._tell(*progress)

            completed = self._site.launch(
                cmd,
                cwd=None if cwd is None else Path(cwd),
                env={**self._env, **(extra_environ or {})},
                on_line=take,
                keep_open=(self._lock,),
            )
        if completed.returncode != 0:
            raise _HookFailedError


def _build_wheel(
    plan: BuildPlan, key: ToolchainKey, workspace: Workspace, runner: _Runner, settings: Mapping[str, str]
) -> Path:
    target = workspace.wheel_dir(key)
    if target.exists():
        shutil.rmtree(target)
    try:
        builder = ProjectBuilder(workspace.project_dir(key), python_executable=sys.executable, runner=runner)
        return Path(builder.build("wheel", target, settings))
    except (BuildBackendException, BuildException) as error:
        if isinstance(error, BuildBackendException) and isinstance(error.exception, OSError | BuilderError):
            raise error.exception from error
        lines = runner.lines or str(error).splitlines()
        raise explain_failure(
            lines,
            what=str(key),
            project=plan.spec.root,
            log=workspace.log_file(key),
            disk_full=is_full(workspace.root),
            templates={
                workspace.project_dir(key) / UNITS / unit.path: unit.template
                for component in plan.spec.components
                for unit in component.instantiations
            },
        ) from error


def _check_tools(
    framework: Framework, toolchain: Toolchain, variables: Mapping[str, TorchSdk | None], site: Site
) -> None:
    problems = []
    wanted: list[tuple[str, object, str]] = [
        ("CMake", toolchain.cmake, "pip install 'cmake>=3.29'"),
        ("ninja", toolchain.ninja, "pip install ninja"),
    ]
    if not isinstance(framework, TorchNoarchFramework):
        wanted.append(("a C++ compiler", toolchain.cxx, install_command("g++")))
    if isinstance(framework, TorchFramework):
        missing = any(sdk is None for sdk in variables.values())
        wanted.append(("torch", None if missing else variables, "pip install torch"))
    if isinstance(framework, TvmFfiFramework):
        wanted.append(("tvm-ffi", toolchain.tvm_ffi, "pip install apache-tvm-ffi"))
    for name, found, remedy in wanted:
        if found is None:
            problems.append(Problem(f"{name} is not {site.where}", hint=f"`{remedy}` brings it"))
    if problems:
        raise ToolchainMissingError(problems)


def _check_places(project: Path, work_dir: Path, *, is_cuda: bool) -> None:
    """CMake, ninja and Make-style dependency files cannot carry every character of a path, whatever the quoting.

    nvcc hands paths to a shell, which would act on what stands in them.
    """
    who, unusable = ("nvcc", (*_UNUSABLE, "$", "`")) if is_cuda else ("CMake", _UNUSABLE)
    problems = [
        Problem(f"{who} cannot work in a directory with {char!r} in its path: `{place}`", hint=f"{remedy}")
        for place, remedy in (
            (project, "rename or move the project"),
            (work_dir, "rename or move the project, or choose another work directory with `--work-dir`"),
        )
        for char in unusable
        if char in str(place)
    ]
    if problems:
        raise BadInputError(problems[:1])


def _drop_old_libraries(build_dir: Path, variants: Iterable[VariantPlan]) -> None:
    """Remove the libraries of earlier sources: each has an id of its own, and nobody will link them again."""
    ids = {variant.unique_id for variant in variants}
    for path in build_dir.iterdir() if build_dir.is_dir() else ():
        if path.name.startswith("_") and path.is_file() and path.name.partition(".")[0] not in ids:
            path.unlink()


def _list_sources(plan: BuildPlan) -> list[PurePosixPath]:
    framework = () if isinstance(plan.spec.framework, TorchNoarchFramework) else plan.spec.framework.src
    return [*framework, *(source for component in plan.spec.components for source in component.sources)]
