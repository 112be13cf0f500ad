"""The wheels that an index offers: the Simple API as JSON or HTML, pages and directories of links."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

from packaging.utils import canonicalize_name

from kernel_builder import process
from kernel_builder.errors import BuilderError, FetchError, Problem
from kernel_builder.progress import Listener, Notice
from kernel_builder.sdk.connections import redact_url
from kernel_builder.sdk.settings import IndexSettings
from kernel_builder.sdk.transport import Page, Transport

_JSON = "application/vnd.pypi.simple.v1+json"
_HTML = "application/vnd.pypi.simple.v1+html"
_ACCEPT = f"{_JSON}, {_HTML};q=0.2, text/html;q=0.01"
_ASK_SECONDS = 30.0
_DEFAULT = re.compile(r"default:?\s+<?(https?://[^\s>)]+)")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Link:
    """One file that is offered. url: `https:`, `http:` or `file:`. sha256, size: as the index says."""

    url: str
    filename: str
    sha256: str | None = None
    size: int | None = None
    yanked: bool = False

    @property
    def path(self) -> Path | None:
        """Where the file lies when it is on this machine."""
        return _to_path(self.url)


def list_links(
    project: str,
    settings: IndexSettings,
    transport: Transport,
    *,
    variant: str = "",
    listener: Listener,
    passed_over: list[Problem] | None = None,
) -> tuple[Link, ...]:
    """Every wheel of a project: first of indexes for `variant`, then in the order of the configuration.

    An index that does not have the project is passed over; one that fails is told of, and is an error only when no
    other has any wheel. passed_over: where to keep what was told of these. Raises `FetchError`.
    """
    name = canonicalize_name(project)
    found: list[Link] = []
    failures: list[FetchError] = []
    variant_indexes = settings.list_variant_indexes(variant)
    default = probe_default_index() if settings.has_default else None
    indexes = (*variant_indexes, *([default] if default else []), *settings.indexes)
    for url in dict.fromkeys(indexes):
        base = url if url.endswith("/") else f"{url}/"
        try:
            found.extend(_read_location(f"{base}{name}/", name, transport))
        except FetchError as failure:
            failures.append(failure)
    for place in settings.find_links:
        try:
            found.extend(_read_location(place, name, transport))
        except FetchError as failure:
            failures.append(failure)
    if failures and not found:
        raise FetchError([problem for error in failures for problem in error.problems])
    for problem in (problem for error in failures for problem in error.problems):
        listener(Notice(f"an index was passed over: {problem.message}", problem.hint))
        if passed_over is not None:
            passed_over.append(problem)
    return tuple({link.url: link for link in reversed(found)}.values())[::-1]


@cache
def probe_default_index() -> str | None:
    """The index that pip, or else uv, uses where nothing is configured; only they know its name."""
    commands: list[list[str]] = [[sys.executable, "-m", "pip", "download", "--help"]]
    commands += [[path, "download", "--help"] for path in (shutil.which("pip"), shutil.which("pip3")) if path]
    commands += [[path, "pip", "install", "--help"] for path in (shutil.which("uv"),) if path]
    for command in commands:
        try:
            answer = process.run(command, timeout=_ASK_SECONDS)
        except (BuilderError, TimeoutError):
            continue
        match = _DEFAULT.search(answer.output)
        if match is not None and answer.returncode == 0:
            return match[1]
    return None


def _read_location(place: str, name: str, transport: Transport) -> list[Link]:
    """The wheels of one project at a URL or in a directory."""
    path = _to_path(place)
    if path is not None:
        return _read_directory(path, name)
    page = transport.fetch_page(place, accept=_ACCEPT)
    links = [] if page is None else _keep_wheels(parse_page(page), name)
    return [link for link in links if link.path is None]  # a page from elsewhere has no say on files of this machine


def _read_directory(path: Path, name: str) -> list[Link]:
    index = path / "index.html" if path.is_dir() else path
    try:
        if index.is_file() and index.suffix in {".html", ".htm"}:
            page = Page(index.absolute().as_uri(), "text/html", index.read_bytes())
            return _keep_wheels(parse_page(page), name)
        wheels = sorted(path.glob("*.whl")) if path.is_dir() else []
    except OSError as error:
        hint = "correct `find-links` or the index URL in pip's configuration"
        raise FetchError(Problem(f"cannot read `{path}`: {error.strerror}", hint=hint)) from error
    links = [Link(wheel.absolute().as_uri(), wheel.name, size=wheel.stat().st_size) for wheel in wheels]
    return _keep_wheels(links, name)


def _keep_wheels(links: Iterable[Link], name: str) -> list[Link]:
    return [
        link
        for link in links
        if link.filename.endswith(".whl") and canonicalize_name(link.filename.partition("-")[0]) == name
    ]


def parse_page(page: Page) -> list[Link]:
    """Read the links of a page of the Simple API. Raises `FetchError` for one that is not what it says to be."""
    kind = page.content_type.partition(";")[0].strip().lower()
    if kind in {_JSON, "application/json"} or (not kind and page.body.lstrip().startswith(b"{")):
        try:
            return list(_parse_json(json.loads(page.body), page.url))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _no_index(page.url, "its JSON is not that of the Simple API") from error
    if kind in {_HTML, "text/html", "", "application/xhtml+xml"}:
        parser = _LinkParser(page.url)
        parser.feed(page.body.decode("utf-8", errors="replace"))
        return parser.links
    raise _no_index(page.url, f"it answers with `{kind}`")


def _parse_json(document: dict[str, object], base: str) -> Iterator[Link]:
    files = document["files"]
    if not isinstance(files, Sequence):
        raise TypeError("files")
    for entry in files:
        sha256 = entry.get("hashes", {}).get("sha256")
        size = entry.get("size")
        yield Link(
            url=urljoin(base, entry["url"]),
            filename=str(entry["filename"]),
            sha256=sha256 if isinstance(sha256, str) and _SHA256.fullmatch(sha256) else None,
            size=size if isinstance(size, int) and size > 0 else None,
            yanked=bool(entry.get("yanked", False)),
        )


class _LinkParser(HTMLParser):
    """Collects the anchors of a page; the last part of the address is the file's name."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.links: list[Link] = []
        self._base = base

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take a link, or the address that links are relative to."""
        values = dict(attrs)
        href = values.get("href")
        if tag == "base" and href:
            self._base = urljoin(self._base, href)
        if tag != "a" or not href:
            return
        try:
            parts = urlsplit(urljoin(self._base, href.strip()))
        except ValueError:
            return
        algorithm, _, digest = parts.fragment.partition("&")[0].partition("=")
        known = algorithm == "sha256" and _SHA256.fullmatch(digest.lower())
        self.links.append(
            Link(
                url=parts._replace(fragment="").geturl(),
                filename=unquote(parts.path.rpartition("/")[2]),
                sha256=digest.lower() if known else None,
                yanked="data-yanked" in values,
            )
        )


def _no_index(url: str, reason: str) -> FetchError:
    return FetchError(
        Problem(
            f"`{redact_url(url)}` is not a package index: {reason}",
            hint="an index URL of pip ends where the names of packages begin",
        )
    )


def _to_path(place: str) -> Path | None:
    """The path of a `file:` URL or of a plain path; None for what is elsewhere."""
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return None if "://" in place else Path(place).expanduser()
