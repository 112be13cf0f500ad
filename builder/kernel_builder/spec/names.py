"""The strings of a `build.toml` that have rules: each `parse_` returns the value or raises `BadValueError`.

Messages continue a sentence that begins with the key's name.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from kernel_builder.backend import Backend
from kernel_builder.spec.model import Dependency
from kernel_builder.spec.problems import BadValueError, show, suggest
from kernel_builder.spec.schema import COMPILED_BACKENDS
from kernel_builder.version import MinorVersion

_KERNEL_NAME = re.compile(r"[a-z][-a-z0-9]*[a-z0-9]")
_COMPONENT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_REPO_PART = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?")
_MAX_NAME = 96
_MAX_TEXT = 4096  # as long as a path can be
_GIT_SCHEMES = ("https", "http", "git", "ssh", "git+ssh", "git+https", "git+http")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_SCP = re.compile(r"(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9._-]+:[^/].*")
_BAD_IN_BRANCH = re.compile(r"[\s~^:?*\[\\]|\.\.|@\{|//|\.lock(/|$)|^[-/.]|[/.]$")
_CAPABILITY = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_DRIVE = re.compile(r"[A-Za-z]:")
_SEEN_BY_A_SHELL = re.compile(r"[$`;&|<>]")
_UNCARRIED = re.compile(r"[;|\[\]]|\$<")
SHELL_OPERATORS = frozenset({"<", ">", "<<", ">>", "|", "||", "&&", "&", "1>", "2>", "2>&1", "1>&2"})
_PYTHON_EXTENSION = re.compile(r"\.?([A-Za-z0-9_]+(?:[.+-][A-Za-z0-9_]+)*)")


def parse_text(text: str) -> str:
    """Any text that is not empty and stays on one line."""
    if not text.strip():
        raise BadValueError("must not be empty")
    _check_length(text)
    if not text.isprintable():
        raise BadValueError(f"contains a character that cannot be printed: `{show(text)}`")
    return text


def _check_length(text: str) -> None:
    if len(text) > _MAX_TEXT:
        raise BadValueError(f"must have at most {_MAX_TEXT} characters, got {len(text)}")


def parse_kernel_name(text: str) -> str:
    """The name of a kernel: the rules of the loader."""
    if _KERNEL_NAME.fullmatch(text) and len(text) <= _MAX_NAME:
        return text
    suggestion = re.sub(r"[^a-z0-9]+", "-", text[:_MAX_NAME].lower()).strip("-")
    hint = "a name is made of lower-case letters, digits and dashes, begins with a letter and does not end with a dash"
    if _KERNEL_NAME.fullmatch(suggestion):
        hint += f": for example `{suggestion}`"
    if len(text) > _MAX_NAME:
        raise BadValueError(f"must have at most {_MAX_NAME} characters, got {len(text)}")
    raise BadValueError(f"is not a kernel name, got `{show(text)}`" if text else "must not be empty", hint)


def parse_component_name(text: str) -> str:
    """The name of a component: it becomes a target of the generated project."""
    if _COMPONENT_NAME.fullmatch(text) and len(text) <= _MAX_NAME:
        return text
    raise BadValueError(
        f"is not a component name, got `{show(text)}`" if text else "must not be empty",
        f"use letters, digits, `_`, `-` and `.`, at most {_MAX_NAME} characters",
    )


def parse_repo_id(text: str) -> str:
    """A repo on the Hub: `owner/name`."""
    parts = text.split("/")
    is_valid = (
        len(parts) == 2  # noqa: PLR2004 - owner and name
        and all(_REPO_PART.fullmatch(part) for part in parts)
        and "--" not in text
        and ".." not in text
        and not text.endswith(".git")
        and len(text) <= _MAX_NAME
    )
    if is_valid:
        return text
    hint = "write it as `owner/name`, of letters, digits, `-`, `_` and `.`, without `--` and `..`"
    match = re.fullmatch(r"https?://[^/]+/(?:kernels/)?([^/]+/[^/]+)/?", text)
    if match is not None:
        hint = f"write it as `owner/name`: `{show(match[1])}`"
    raise BadValueError(f"is not the id of a repo, got `{show(text)}`" if text else "must not be empty", hint)


def parse_branch(text: str) -> str:
    """The name of a git branch, or another revision of a repo."""
    if 0 < len(text) <= _MAX_NAME and text.isprintable() and not _BAD_IN_BRANCH.search(text):
        return text
    raise BadValueError(f"is not the name of a git revision, got `{show(text)}`" if text else "must not be empty")


def parse_capability(text: str) -> str:
    """A word for something that users of a kernel may rely on."""
    if _CAPABILITY.fullmatch(text) and len(text) <= _MAX_NAME:
        return text
    hint = "use lower-case letters and digits with dashes between, such as `attention-sinks`"
    raise BadValueError(f"is not a capability, got `{show(text)}`" if text else "must not be empty", hint)


def parse_git_url(text: str) -> str:
    """A URL that `git clone` takes: one of the usual schemes, or `user@host:path`."""
    _check_length(text)
    scheme = _SCHEME.match(text)
    if text.isprintable() and scheme is not None and scheme[1].lower() in _GIT_SCHEMES:
        if _has_host(text):
            return text
    elif text.isprintable() and " " not in text and "@" in text.partition(":")[0] and _SCP.fullmatch(text):
        return text
    hint = f"write a URL of `git clone`: `user@host:path`, or one with a scheme of {', '.join(_GIT_SCHEMES)}"
    raise BadValueError(f"is not a git URL, got `{show(text)}`" if text else "must not be empty", hint)


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for one out of range
    except ValueError:
        return False
    return bool(parts.hostname) and not re.search(r"[\s<>^|%#\[\]]", parts.netloc.strip("[]"))


def parse_backend(text: str) -> Backend:
    """One of the device families."""
    return Backend(_parse_word(text, "a backend", tuple(Backend)))


def parse_compiled_backend(text: str) -> Backend:
    """A device family whose components are compiled ahead of time."""
    if text in {backend.value for backend in Backend} and text not in COMPILED_BACKENDS:
        raise BadValueError(
            f"must be a backend that is compiled, got `{text}`",
            f"`{text}` kernels are Python only: declare them under `[torch-noarch]`, without a component",
        )
    return Backend(_parse_word(text, "a backend", COMPILED_BACKENDS))


def parse_dependency(text: str) -> Dependency:
    """A library that a component may be compiled against."""
    return Dependency(_parse_word(text, "a dependency", tuple(Dependency)))


def _parse_word(text: str, what: str, known: tuple[str, ...]) -> str:
    if text in known:
        return text
    close = suggest(text, known)
    listed = ", ".join(f"`{word}`" for word in known)
    hint = f"the choice is {listed}" if close is None else f"did you mean `{close}`?"
    raise BadValueError(f"is not {what}, got `{show(text)}`" if text else "must not be empty", hint)


def parse_version(text: str) -> MinorVersion:
    """A version of exactly two components, spaces around it ignored."""
    try:
        return MinorVersion.parse(text)
    except ValueError:
        message = f"must be a version of exactly two numbers, got `{show(text)}`" if text else "must not be empty"
        raise BadValueError(message, 'for example `"2.13"`') from None


def parse_loose_version(text: str) -> MinorVersion:
    """The versions of older editions: `2`, `2.9` and `2.9.1`; what follows the minor version is dropped."""
    match = re.fullmatch(r"\s*(\d{1,6})(?:\.(\d{1,6}))?(?:\.\d{1,6})*\s*", text, re.ASCII)
    if match is None:
        message = f"is not a version, got `{show(text)}`" if text else "must not be empty"
        raise BadValueError(message, 'for example `"2.13"`')
    return MinorVersion(int(match[1]), int(match[2] or 0))


def parse_python_extension(text: str) -> str:
    """The extension of files in the Python package, without the leading dot."""
    match = _PYTHON_EXTENSION.fullmatch(text)
    if match is None:
        message = f"is not a file extension, got `{show(text)}`" if text else "must not be empty"
        raise BadValueError(message, "write it without a dot: `py`, `json`")
    return match[1]


def parse_path(text: str) -> PurePosixPath:
    """A path inside the project, normalised. Raises `BadValueError` for one that leaves it."""
    hint = "paths are relative to the directory of `build.toml`, and use `/`"
    if not text:
        raise BadValueError("must not be empty", hint)
    _check_length(text)
    if not text.isprintable():
        raise BadValueError(f"contains a character that cannot be printed: `{show(text)}`")
    if text.startswith("/") or _DRIVE.match(text):
        raise BadValueError(f"must be a relative path, got `{show(text)}`", hint)
    if "\\" in text:
        raise BadValueError(f"contains a backslash: `{show(text)}`", hint)
    parts: list[str] = []
    for part in PurePosixPath(text).parts:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            raise BadValueError(f"leaves the project: `{show(text)}`", hint)
    return PurePosixPath(*parts)


def parse_compiled_path(text: str) -> PurePosixPath:
    """A source or include directory: a path inside the project that CMake and ninja hand on as it is."""
    path = parse_path(text)
    found = _UNCARRIED.search(path.as_posix())
    if found is not None:
        raise BadValueError(
            f"contains `{found[0]}`, at which CMake or ninja would split the path: `{show(text)}`",
            "rename the file or the directory",
        )
    return path


def parse_flag(text: str) -> str:
    """One argument of a compiler."""
    if text in SHELL_OPERATORS:
        raise BadValueError(f"is an operator of the shell, not a flag: `{text}`", "remove it: no shell sees the flags")
    return parse_text(text)


def parse_cuda_flag(text: str) -> str:
    """One argument of nvcc, which starts its own compilers through a shell: none that the shell would act on."""
    flag = parse_flag(text)
    found = _SEEN_BY_A_SHELL.search(flag)
    if found is not None:
        raise BadValueError(
            f"contains `{found[0]}`, which the shell that nvcc starts would act on: `{show(flag)}`",
            "write the value into a header, or compile that part as C++",
        )
    return flag


def find_shell_character(path: str) -> str | None:
    """The first character of a path that a shell acts on between double quotes, where nvcc puts it."""
    return next((character for character in path if character in '$`"'), None)
