"""Commands in a container: what it may see, what it may not do, and that nothing of it stays."""

from __future__ import annotations

import hashlib
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from kernel_builder import process
from kernel_builder.container.engine import Engine, EngineName, choose_engine
from kernel_builder.container.image import Image, ImageChoice, check_reference, obtain_image
from kernel_builder.container.inside import MODULES, Inside, list_loans, list_probe_words, parse_inside
from kernel_builder.container.permissions import Mounts, check_places, list_limits, list_mounts, list_user
from kernel_builder.disk import FULL_HINT
from kernel_builder.errors import CompileError, Problem, ToolchainMissingError
from kernel_builder.progress import Listener, ignore_progress

_LABEL = "kernel-builder.work-dir"
_PASSED = frozenset(
    {"CXX", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "CUDAFLAGS", "HIPFLAGS", "CUDAHOSTCXX", "NINJA_STATUS",
     "NO_COLOR", "LC_ALL", "SOURCE_DATE_EPOCH", "PYTHONDONTWRITEBYTECODE"}
)  # fmt: skip
_PASSED_PREFIXES = ("CMAKE_", "_PYPROJECT_HOOKS_")
_NOT_PASSED = frozenset({"CMAKE_PREFIX_PATH", "CMAKE_TOOLCHAIN_FILE"})  # paths of this machine, which are not in there
_ENGINE_FAILED, _NOT_EXECUTABLE, _NOT_FOUND, _KILLED = 125, 126, 127, 137
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class ContainerChoice:
    """What the user asked for: an engine, None for the first that answers, and an image."""

    engine: EngineName | None = None
    image: ImageChoice = field(default_factory=ImageChoice)


@dataclass(frozen=True, slots=True)
class Container:
    """An image that an engine has, and what is inside; each command runs in a fresh container of it."""

    engine: Engine
    image: Image
    inside: Inside
    loans: Mapping[PurePosixPath, Path]

    @property
    def description(self) -> str:
        """For example `debian:12 under docker 27.1.2`."""
        return f"{self.image.name} under {self.engine.description}"

    def to_json(self) -> dict[str, str]:
        """What the JSON documents say about it."""
        return {"engine": self.engine.description, "image": self.image.name, "id": self.image.id}

    def launcher(self, mounts: Mounts, toolkit_variables: Iterable[str] = ()) -> Callable[..., process.Completed]:
        """A function that takes the arguments of `process.run` and runs the command inside.

        A program that is the running Python becomes the image's own. Files and directories that the command names are
        mounted as well, directories writable: they hold what build frontend and backend tell each other.
        toolkit_variables: names that may pass, beside those that every build has.
        """
        passed = _PASSED | set(toolkit_variables)

        def launch(
            argv: Sequence[str | Path],
            *,
            cwd: Path | None = None,
            env: Mapping[str, str] | None = None,
            on_line: Callable[[str], None] | None = None,
            keep_open: Sequence[int] = (),
        ) -> process.Completed:
            words = [str(word) for word in argv]
            named = [Path(word) for word in words[1:] if word.startswith("/") and Path(word).exists()]
            seen = Mounts(
                (*mounts.read_only, *(path for path in named if path.is_file())),
                (*mounts.writable, *(path for path in named if path.is_dir())),
            )
            with tempfile.TemporaryDirectory(prefix="kernel-builder-") as scratch:
                variables = {
                    name: value
                    for name, value in (env or {}).items()
                    if (name in passed or name.startswith(_PASSED_PREFIXES)) and name not in _NOT_PASSED
                }
                variables |= {"PATH": self._search_path(), "PYTHONPATH": str(MODULES), "HOME": scratch,
                              "TMPDIR": scratch}  # fmt: skip
                command = _Command([self.inside.python, *words[1:]], variables, cwd or Path(scratch))
                seen = Mounts(seen.read_only, (*seen.writable, Path(scratch)))
                completed = _run(
                    self.engine,
                    self.image,
                    command,
                    mounts=seen,
                    loans=self.loans,
                    on_line=on_line,
                    keep_open=keep_open,
                )
            _check_ended(completed, self)
            return completed

        return launch

    def _search_path(self) -> str:
        tools = [tool.path.parent for tool in (self.inside.tools.cmake, self.inside.tools.ninja) if tool is not None]
        return ":".join([*map(str, tools), self.inside.search_path])


def open_container(choice: ContainerChoice, listener: Listener = ignore_progress) -> Container:
    """Find an engine, obtain the image, and look what is inside.

    Raises `BadInputError` for what cannot be an image's name, `ToolchainMissingError` when there is no engine or image,
    or when the image cannot run a build.
    """
    if choice.image.name is not None:
        check_reference(choice.image.name)  # before anything is asked for on its behalf
    engine = choose_engine(choice.engine)
    image = obtain_image(engine, choice.image, listener)
    loans = list_loans()
    command = _Command(list_probe_words(loans), {}, Path("/"))
    completed = _run(engine, image, command, mounts=Mounts(), loans=loans)
    if completed.returncode in {_ENGINE_FAILED, _NOT_EXECUTABLE, _NOT_FOUND}:
        raise _explain_engine(engine, image, completed)
    return Container(engine, image, parse_inside(completed.lines, image), loans)


@dataclass(frozen=True, slots=True)
class _Command:
    words: list[str]
    variables: Mapping[str, str]
    cwd: Path


def _run(
    engine: Engine,
    image: Image,
    command: _Command,
    *,
    mounts: Mounts,
    loans: Mapping[PurePosixPath, Path],
    on_line: Callable[[str], None] | None = None,
    keep_open: Sequence[int] = (),
) -> process.Completed:
    """Run one command in a container of its own, and remove that whatever happens."""
    check_places((*mounts.read_only, *mounts.writable))
    label = hashlib.sha256("\0".join(map(str, mounts.writable[:1])).encode("utf-8", "surrogateescape")).hexdigest()
    name = f"{_name_prefix(label)}{secrets.token_hex(4)}"
    options = list_mounts(engine.name, mounts, loans)
    if mounts.writable:
        _remove_left_over(engine, label)
    with _removed_at_last(engine, name):
        if engine.name is EngineName.BUILDAH:
            words = _prepare_buildah(engine, image, name, command, options)
        else:
            words = [engine.path, "run", "--rm", "--pull", "never", "--sig-proxy=false", "--name", name,
                     "--label", f"{_LABEL}={label}", *list_limits(engine), *list_user(engine), *options,
                     "--workdir", str(command.cwd), *_list_variables(command), "--entrypoint", command.words[0],
                     image.id, *command.words[1:]]  # fmt: skip
        return process.run(words, on_line=on_line, keep_open=keep_open)


def _list_variables(command: _Command) -> list[str]:
    return [word for name, value in command.variables.items() for word in ("--env", f"{name}={value}")]


def _prepare_buildah(engine: Engine, image: Image, name: str, command: _Command, mounts: list[str]) -> list[str]:
    """Make the working container, and give the words that run a command in it.

    Buildah's `chroot` isolation needs neither root nor a service. It shares the network of its process, so that one is
    started without.
    """
    made = process.run([engine.path, "from", "--pull-never", "--name", name, image.id])
    if made.returncode != 0:
        raise _explain_engine(engine, image, made)
    enter = [engine.path, "unshare"] if engine.is_rootless else []
    return [*enter, "unshare", "--net", engine.path, "run", "--isolation", "chroot", "--user", "0:0", *mounts,
            "--workingdir", str(command.cwd), *_list_variables(command), name, "--", *command.words]  # fmt: skip


@contextmanager
def _removed_at_last(engine: Engine, name: str) -> Iterator[None]:
    """Remove a container that was left: the engine does it itself when the command ends, not when we are ended."""
    finished = False
    try:
        yield
        finished = engine.name is not EngineName.BUILDAH
    finally:
        if not finished:
            _remove(engine, [name])


def _remove_left_over(engine: Engine, label: str) -> None:
    """Remove containers of builds that were killed: the work directory is held, so nobody else can have one."""
    if engine.name is EngineName.BUILDAH:
        words = [engine.path, "containers", "--quiet", "--filter", f"name={_name_prefix(label)}"]
    else:
        words = [engine.path, "ps", "--all", "--quiet", "--filter", f"label={_LABEL}={label}"]
    found = process.run(words, merge_stderr=False)
    if found.returncode == 0 and found.lines:
        _remove(engine, found.lines)


def _remove(engine: Engine, containers: Sequence[str]) -> None:
    force = [] if engine.name is EngineName.BUILDAH else ["--force"]
    process.run([engine.path, "rm", *force, *containers])


def _name_prefix(label: str) -> str:
    return f"kernel-builder-{label[:16]}-"


def _check_ended(completed: process.Completed, container: Container) -> None:
    """Tell an engine that failed, and a container that was killed, from a compile that failed."""
    if completed.returncode in {_ENGINE_FAILED, _NOT_EXECUTABLE, _NOT_FOUND}:
        raise _explain_engine(container.engine, container.image, completed)
    if completed.returncode == _KILLED:
        raise CompileError(
            Problem(
                f"the container was killed while it compiled ({container.description})",
                hint="most often for want of memory: build with fewer `--jobs`",
            )
        )


def _explain_engine(engine: Engine, image: Image, completed: process.Completed) -> ToolchainMissingError | CompileError:
    told = "\n".join(f"  {line}" for line in completed.lines[:_SHOWN])
    if "no space left on device" in completed.output.lower():
        return CompileError(Problem(f"`{engine.name}` found the disk full:\n{told}", hint=FULL_HINT))
    hint = f"an engine on another machine does not see the files of this one; see what `{engine.name} info` says"
    return ToolchainMissingError(Problem(f"`{engine.name}` could not run the image `{image.name}`:\n{told}", hint=hint))
