"""Which commit something was built from, as git tells it; outside a checkout there is nothing to tell."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kernel_builder import process
from kernel_builder.artifact.model import GitState
from kernel_builder.errors import BuilderError

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SECONDS = 60.0
_PACKAGE = Path(__file__).resolve().parent.parent
# A checkout's own configuration may name programs for git to run: a status must not run them.
_GIT = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "--no-optional-locks")


@dataclass(frozen=True, slots=True)
class SourceState:
    """The git state of a kernel project; `tree` is the git tree of its directory in that commit."""

    state: GitState
    tree: str | None


def probe_source(project: Path, inputs: Iterable[PurePosixPath]) -> SourceState | None:
    """The commit of a kernel project, None when it lies in no git checkout or there is no git.

    It is dirty when a tracked file of the project differs from the commit (artifacts in `build/` aside), or when an
    input of the build is not tracked, for then the commit does not tell what was built.
    """
    commit = _ask(project, "rev-parse", "--verify", "HEAD")
    if commit is None or _COMMIT.fullmatch(commit) is None:
        return None
    changed = _list_paths(project, "diff", "--name-only", "--relative", "-z", "--no-ext-diff", "HEAD", "--", ".")
    tracked = _list_paths(project, "ls-files", "-z", "--", ".")
    if changed is None or tracked is None:
        return None
    dirty = any(not path.startswith("build/") for path in changed) or not tracked.issuperset(map(str, inputs))
    prefix = _ask(project, "rev-parse", "--show-prefix") or ""
    tree = _ask(project, "rev-parse", "--verify", f"HEAD:{prefix.rstrip('/')}")
    return SourceState(GitState(commit, dirty), tree if tree and _COMMIT.fullmatch(tree) else None)


def probe_builder() -> GitState | None:
    """The commit of this builder, None unless it runs from its own checkout."""
    tracked = _list_paths(_PACKAGE, "ls-files", "-z", "--", "__init__.py")
    if not tracked:
        return None  # installed, perhaps below somebody else's checkout
    root = _ask(_PACKAGE, "rev-parse", "--show-toplevel")
    commit = _ask(_PACKAGE, "rev-parse", "--verify", "HEAD")
    if root is None or commit is None or _COMMIT.fullmatch(commit) is None:
        return None
    parts = [str(_PACKAGE), *(str(path) for path in [Path(root) / "templates"] if path.is_dir())]
    changed = _list_paths(Path(root), "diff", "--name-only", "-z", "--no-ext-diff", "HEAD", "--", *parts)
    return None if changed is None else GitState(commit, dirty=bool(changed))


def _ask(directory: Path, *arguments: str) -> str | None:
    """The answer of git in one line, None when it has none."""
    env = {name: value for name, value in process.child_environment().items() if not name.startswith("GIT_")}
    try:
        completed = process.run(
            [*_GIT, "-C", directory, *arguments], env={**env, "LC_ALL": "C"}, timeout=_SECONDS, merge_stderr=False
        )
    except (BuilderError, TimeoutError):
        return None
    return completed.output.strip("\n") if completed.returncode == 0 else None


def _list_paths(directory: Path, *arguments: str) -> set[str] | None:
    answer = _ask(directory, *arguments)
    return None if answer is None else {path for path in answer.split("\0") if path}
