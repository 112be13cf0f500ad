"""What compilers, linkers and CMake say when they fail -> problems that point at the author's own files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kernel_builder.disk import FULL_HINT
from kernel_builder.errors import CompileError, Location, Problem

_QUOTES = str.maketrans("‘’", "``")  # noqa: RUF001 - the marks that compilers put around names
_MOST_PROBLEMS = 3
_TAIL = 15
_EXCERPT = re.compile(r"\s*\d* \|")
_GCC = re.compile(r"(?P<file>[^\s:][^:]*):(?P<line>\d+):(?:(?P<column>\d+):)? (?:fatal )?error: (?P<text>.+)")
_NVCC = re.compile(r"(?P<file>[^\s(][^(]*)\((?P<line>\d+)\): error:? (?P<text>.+)")
_DRIVER = re.compile(
    r"(?:\S*/)?(?:clang|g\+\+|c\+\+|icpx|nvcc|ptxas|nvlink)[\w+.-]*:? +(?:fatal|error) *: *(?P<text>.+)"
)
_LINKER = re.compile(r"(?:.*[/ ])?(?:ld|lld|gold|collect2)(?:\.\w+)?: (?:error: )?(?P<text>.+)")
_SYMBOL = re.compile(r"(?:.*:)? ?(?P<text>(?:undefined reference to|multiple definition of) .+)")
_CMAKE = re.compile(r"CMake Error(?: at (?P<file>[^:]+):(?P<line>\d+) \([^)]*\))?:(?P<text>.*)")
_FULL = f"the disk is full: {FULL_HINT}"
_HINTS = (
    (re.compile(r"No space left on device|Disk quota exceeded|File size limit exceeded|File too large|SIGXFSZ"),
     _FULL),
    (re.compile(r"Killed signal terminated program|virtual memory exhausted|out of memory|std::bad_alloc|\bKilled\b"),
     "the compiler ran out of memory: build with fewer `--jobs`"),
    (re.compile(r"Python\.h: No such file"),
     "the headers of Python are missing: `kernel-builder doctor` says how to get them"),
    (re.compile(r"attempt to use poisoned [^A-Z]*T[A-Z_]*EXTENSION_NAME"),
     "a header uses the name of the extension: list it in `src` of the component, so that the builder knows"),
    (re.compile(r"fatal error: (?:torch|ATen|c10)/[^:]+: No such file or directory"),
     "name `torch` in `depends` of the component: what several ABIs share is compiled without torch's headers"),
    (re.compile(r"fatal error: [^:]+: No such file or directory"),
     "add the directory of the header to `include` of the component that needs it"),
    (re.compile(r"is not able to compile a simple test program|CMAKE_CXX_COMPILER.*(?:broken|not found)"),
     "the compiler does not work: `kernel-builder doctor` shows which one is used"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Diagnostic:
    text: str
    file: str | None = None
    line: int | None = None
    excerpt: tuple[str, ...] = ()


def explain_failure(
    lines: Sequence[str],
    *,
    what: str,
    project: Path,
    log: Path,
    disk_full: bool = False,
    templates: Mapping[Path, PurePosixPath] | None = None,
) -> CompileError:
    """Make the error of a build that failed.

    what: what was built, such as `cpu`. project: the kernel project; its files are named relative to it. log: where
    all the lines are. disk_full: whether that is so, for tools that end without a word. templates: unit in the
    generated project -> what it was made of.
    """
    found = list(_take_first(_find_diagnostics(lines), _MOST_PROBLEMS))
    whole = f"the whole output is in `{log}`"
    hint = next((text for pattern, text in _HINTS if any(pattern.search(line) for line in lines)), None)
    hint = _FULL if disk_full else hint
    last = whole if hint is None else f"{hint}; {whole}"
    if not found:
        tail = "\n".join(f"    {line}" for line in lines[-_TAIL:]) or "    (it said nothing)"
        return CompileError(Problem(f"building for {what} failed:\n{tail}", hint=last))
    problems = [_to_problem(diagnostic, what, project.resolve(), templates or {}) for diagnostic in found]
    problems[-1] = Problem(problems[-1].message, problems[-1].location, last)
    return CompileError(problems)


def _take_first(diagnostics: Iterable[_Diagnostic], most: int) -> Iterator[_Diagnostic]:
    seen: set[tuple[str | None, int | None, str]] = set()
    for diagnostic in diagnostics:
        key = (diagnostic.file, diagnostic.line, diagnostic.text)
        if key not in seen:
            seen.add(key)
            yield diagnostic
        if len(seen) == most:
            return


def _find_diagnostics(lines: Sequence[str]) -> Iterator[_Diagnostic]:
    """Errors of compilers first; those of the linker and of CMake matter only where there are none."""
    compiled = [
        _Diagnostic(match["text"], match["file"], int(match["line"]), tuple(_take_excerpt(lines, position + 1)))
        for position, line in enumerate(lines)
        if (match := _GCC.match(line) or _NVCC.match(line)) is not None
    ]
    if compiled:
        yield from compiled
        return
    for position, line in enumerate(lines):
        cmake = _CMAKE.match(line)
        if cmake is not None:
            text = " ".join([cmake["text"].strip(), *_take_paragraph(lines, position + 1)]).strip()
            yield _Diagnostic(text or "CMake failed")
            continue
        linker = _DRIVER.match(line) or _SYMBOL.match(line) or _LINKER.match(line)
        if linker is not None:
            yield _Diagnostic(linker["text"])


def _take_excerpt(lines: Sequence[str], start: int) -> Iterator[str]:
    """The source line and the marks below it, as the compiler shows them."""
    for line in lines[start : start + 3]:
        if _EXCERPT.match(line) is None:
            return
        yield line


def _take_paragraph(lines: Sequence[str], start: int) -> Iterator[str]:
    """CMake indents its message by two and ends it with two empty lines or with the call stack."""
    for line in lines[start:]:
        if line.strip() and not line.startswith("  "):
            return
        if line.strip():
            yield line.strip()


def _to_problem(diagnostic: _Diagnostic, what: str, project: Path, templates: Mapping[Path, PurePosixPath]) -> Problem:
    text = "\n".join([diagnostic.text.translate(_QUOTES), *(f"  {line}" for line in diagnostic.excerpt)])
    if diagnostic.file is None:
        return Problem(f"building for {what} failed: {text}")
    template = templates.get(Path(diagnostic.file))
    subject = "compiling" if template is None else f"compiling what `{template}` makes"
    return Problem(
        f"{subject} for {what} failed: {text}", Location(_shorten(diagnostic.file, project), diagnostic.line)
    )


def _shorten(file: str, project: Path) -> str:
    path = Path(file)
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError):
        return file
    return str(resolved.relative_to(project)) if resolved.is_relative_to(project) else file
