"""Names that a request may carry: repositories, branches and paths. Whatever is not plainly harmless is refused."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from kernel_builder.serve.faults import bad_request

MAX_PATH_BYTES = 1024
MAX_NAME_BYTES = 255
MAX_REF_BYTES = 80

_REPOSITORY_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
_REF_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_./+@-]*[A-Za-z0-9_+@-])?")
_RESERVED = {"api", "kernels", "models", "datasets", "spaces", "resolve", "lfs", "settings", "organizations", "users"}
_UNSEEN = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"}


class RepoType(StrEnum):
    """What kinds of repositories there are; each has a namespace of its own in URLs."""

    MODEL = "model"
    DATASET = "dataset"
    KERNEL = "kernel"

    @property
    def plural(self) -> str:
        """The word in API paths and folders."""
        return f"{self}s"

    @property
    def url_prefix(self) -> str:
        """What stands before the id in a repository's own URL."""
        return "" if self is RepoType.MODEL else f"{self.plural}/"

    @classmethod
    def parse(cls, text: Any) -> Self:
        """Read `kernel`, or nothing for `model`. Raises `RequestError`."""
        if text is None:
            return cls("model")
        if text not in list(cls):
            raise bad_request(f"`{text}` is not a type of repository here; use one of {', '.join(cls)}")
        return cls(text)

    @classmethod
    def parse_plural(cls, text: str) -> Self | None:
        """Read the word of an API path, such as `kernels`; `None` when it is another."""
        return next((kind for kind in cls if kind.plural == text), None)


@dataclass(frozen=True, slots=True, order=True)
class RepoId:
    """The name of one repository. Two names that differ in case only are the same repository."""

    type: RepoType
    namespace: str
    name: str

    @classmethod
    def parse(cls, kind: RepoType, namespace: str, name: str) -> Self:
        """Check both parts. Raises `RequestError`."""
        for part in (namespace, name):
            if not is_repository_name(part):
                raise bad_request(
                    f"`{namespace}/{name}` cannot name a repository: each part takes 1 to 96 letters, digits, `-`, `_` "
                    "and `.`, begins and ends with a letter, digit or `_`, has neither `--` nor `..`, "
                    "and does not end in `.git`"
                )
        if namespace.lower() in _RESERVED:
            raise bad_request(f"`{namespace}` is a word of this registry's own URLs and cannot own repositories")
        return cls(kind, namespace, name)

    @property
    def key(self) -> tuple[str, str, str]:
        """What two spellings of the same name share; safe as names of folders on every file system."""
        return self.type.plural, self.namespace.lower(), self.name.lower()

    @property
    def url_path(self) -> str:
        """The path of the repository's own URL, without a leading slash."""
        return f"{self.type.url_prefix}{self}"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def is_repository_name(text: str) -> bool:
    """Whether it can be the namespace or the name of a repository."""
    return (
        _REPOSITORY_NAME.fullmatch(text) is not None
        and "--" not in text
        and ".." not in text
        and not text.lower().endswith(".git")
    )


def parse_ref_name(text: Any) -> str:
    """Check the name of a branch or tag that is to be made. Raises `RequestError`."""
    if (
        not isinstance(text, str)
        or len(text.encode(errors="replace")) > MAX_REF_BYTES
        or _REF_NAME.fullmatch(text) is None
        or any(word in text for word in ("..", "//", "/.", "./", "@{"))
        or text.endswith(".lock")
        or text.startswith("refs/")
    ):
        raise bad_request(f"`{str(text)[:200]}` cannot name a branch or a tag")
    if re.fullmatch(r"[0-9a-f]{40}", text):
        raise bad_request(f"`{text}` cannot name a branch or a tag: it looks like a commit")
    return text


def parse_file_path(text: Any) -> str:
    """Check the path of a file in a repository. Raises `RequestError`.

    What comes back is relative, has `/` between its parts, none of which is empty, `.`, `..` or `.git`, and is spelled
    in the one way (NFC) that all file systems can tell from others.
    """
    if not isinstance(text, str):
        raise bad_request("a file's path must be a string")
    shown = text[:200].encode("ascii", "backslashreplace").decode()
    problem = _find_path_problem(text)
    if problem is not None:
        raise bad_request(f"`{shown}` cannot be the path of a file: {problem}")
    return text


def _find_path_problem(text: str) -> str | None:
    parts = text.split("/")
    rules = (
        (any(_is_unseen(letter) for letter in text), "it has characters that cannot be seen"),
        ("\\" in text, "it has a backslash where `/` is meant"),
        (not {"", ".", ".."}.isdisjoint(parts), "an empty part, `.` or `..` leads elsewhere"),
        (any(part.lower().rstrip(". ") == ".git" for part in parts), "`.git` is git's own"),
        (unicodedata.normalize("NFC", text) != text, "it is not in Unicode's normal form C"),
        (len(text) > MAX_PATH_BYTES or len(text.encode(errors="replace")) > MAX_PATH_BYTES, "it is too long"),
        (any(len(part.encode(errors="replace")) > MAX_NAME_BYTES for part in parts), "one of its parts is too long"),
    )
    return next((problem for broken, problem in rules if broken), None)


def _is_unseen(letter: str) -> bool:
    return letter != " " and unicodedata.category(letter) in _UNSEEN


def parse_folder_path(text: str) -> str:
    """Check the path of a folder; empty for the root. Raises `RequestError`."""
    stripped = text.strip("/")
    return parse_file_path(stripped) if stripped else ""
