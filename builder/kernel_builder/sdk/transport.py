"""HTTP as an index wants it: the user's credentials, authorities and proxies, retries, a count of what was moved."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, MaxRetryError, SSLError

from kernel_builder import __version__
from kernel_builder.errors import FetchError, Problem
from kernel_builder.sdk.connections import Connections, redact_url, say_error, split_url
from kernel_builder.sdk.settings import IndexSettings

_BLOCK = 1 << 18
_OK, _PARTIAL, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _GONE, _NOT_SATISFIABLE = 200, 206, 401, 403, 404, 410, 416
_NO_SUFFIX = {400, _NOT_SATISFIABLE, 501}
_BUSY = (429, 500, 502, 503, 504)
_MOST_REDIRECTS = 10
_LONGEST_PAUSE = 30.0
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(slots=True)
class Traffic:
    """What was asked and what came: requests sent, and bytes of the bodies received."""

    requests: int = 0
    received: int = 0


class InterruptedTransferError(Exception):
    """A body ended before its promised length; what came before was handed on."""


@dataclass(frozen=True, slots=True)
class Page:
    """A whole answer. url: where it came from in the end, which relative links are relative to."""

    url: str
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer whose body is still to come. start, total: what a range request got; start 0 is a whole file."""

    start: int
    total: int | None
    is_partial: bool
    blocks: Iterator[bytes]


class _Patience(urllib3.Retry):
    """Waits as long as a server asks for, but not for hours."""

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        wanted = super().get_retry_after(response)
        return None if wanted is None else min(wanted, _LONGEST_PAUSE)


class Transport:
    """One user's way to all indexes. Not for several threads."""

    def __init__(self, settings: IndexSettings, on_traffic: Callable[[Traffic], None] | None = None) -> None:
        self.traffic = Traffic()
        self._settings = settings
        self._on_traffic = on_traffic
        self._freshness: dict[str, str] = {}
        self._connections = Connections(settings)
        self._retries = _Patience(
            total=settings.retries, backoff_factor=0.3, status_forcelist=_BUSY, redirect=0, raise_on_status=False
        )

    def distrust_caches(self) -> None:
        """From now on want everything from its origin: what a cache on the way has kept may be damaged."""
        self._freshness = {"Cache-Control": "no-cache"}

    def fetch_page(self, url: str, *, accept: str, largest: int = 64 << 20) -> Page | None:
        """Read a whole answer; None when there is none at this address. Raises `FetchError`."""
        response, final = self._open(url, {"Accept": accept, "Accept-Encoding": "gzip, deflate"})
        try:
            if response.status in {_NOT_FOUND, _GONE}:
                return None
            self._demand(response.status, final, (_OK,))
            body = b"".join(self._read(response, final, decode=True, largest=largest))
            return Page(final, response.headers.get("Content-Type", ""), body)
        except InterruptedTransferError as error:
            raise self._broken(final, "the answer ended early") from error
        finally:
            response.close()  # one with an unread body must not be used for the next request

    def open_range(self, url: str, start: int, stop: int) -> Stream:
        """Ask for bytes `start` to `stop`. A server may answer with the whole file: `is_partial` tells.

        The blocks raise `InterruptedTransferError` when the body breaks off. Raises `FetchError`.
        """
        response, final = self._open(url, {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"})
        return self._stream(response, final, start)

    def open_tail(self, url: str, length: int) -> Stream | None:
        """Ask for the last bytes; None from a server that only counts from the front, and then has to be told so."""
        response, final = self._open(url, {"Range": f"bytes=-{length}", "Accept-Encoding": "identity"})
        if response.status in _NO_SUFFIX:
            response.close()
            return None
        return self._stream(response, final, None)

    def _stream(self, response: urllib3.BaseHTTPResponse, url: str, start: int | None) -> Stream:
        """The answer to a range request. start: where it must begin, None for anywhere."""
        try:
            self._demand(response.status, url, (_OK, _PARTIAL))
            if response.status == _OK:
                length = response.headers.get("Content-Length", "")
                size = int(length) if length.isdigit() else None
                return Stream(0, size, is_partial=False, blocks=self._read(response, url, decode=False))
            first, last, total = self._parse_content_range(response.headers.get("Content-Range", ""), start, url)
            blocks = self._read(response, url, decode=False, expected=last + 1 - first)
            return Stream(first, total, is_partial=True, blocks=blocks)
        except BaseException:
            response.close()
            raise

    def _parse_content_range(self, text: str, start: int | None, url: str) -> tuple[int, int, int]:
        """The first byte, the last, and the size of the whole."""
        match = _CONTENT_RANGE.fullmatch(text.strip())
        first, last, total = (int(match[group]) for group in (1, 2, 3)) if match is not None else (0, 0, 0)
        if not first <= last < total or start not in {None, first}:
            raise self._broken(url, "it answers a range request with another range")
        return first, last, total

    def _read(
        self,
        response: urllib3.BaseHTTPResponse,
        url: str,
        *,
        decode: bool,
        expected: int | None = None,
        largest: int | None = None,
    ) -> Iterator[bytes]:
        count = 0
        try:
            for block in response.stream(_BLOCK, decode_content=decode):
                count += len(block)
                if largest is not None and count > largest:
                    raise self._broken(url, f"its answer is larger than {largest >> 20} MiB")
                self.traffic.received += len(block)
                if self._on_traffic is not None:
                    self._on_traffic(self.traffic)
                yield block
        except (HTTPError, OSError) as error:
            raise InterruptedTransferError(say_error(error)) from error
        finally:
            response.close() if expected is not None and count < expected else response.release_conn()
        if expected is not None and count < expected:
            raise InterruptedTransferError("the body is shorter than its range")

    def _open(self, url: str, headers: Mapping[str, str]) -> tuple[urllib3.BaseHTTPResponse, str]:
        """Send one request and follow where it leads; credentials go to their own host only."""
        for _ in range(_MOST_REDIRECTS):
            parts = split_url(url)
            host = parts.netloc.rpartition("@")[2]
            bare = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
            login = self._connections.find_login(parts)
            sent = {**headers, **self._freshness, "User-Agent": f"kernel-builder/{__version__}"}
            if login is not None:
                sent |= urllib3.make_headers(basic_auth=f"{login[0]}:{login[1]}")
            self.traffic.requests += 1
            try:
                response = self._connections.open(parts.scheme, host).request(
                    "GET",
                    bare,
                    headers=sent,
                    redirect=False,
                    retries=self._retries,
                    preload_content=False,
                    timeout=urllib3.Timeout(self._settings.timeout),
                )
            except (HTTPError, OSError, ValueError) as error:
                raise self._unreachable(bare, error) from error
            target = response.get_redirect_location()
            if not target:
                return response, bare
            response.drain_conn()
            following = urljoin(bare, target)
            if urlsplit(following).scheme not in {parts.scheme, "https"}:
                raise self._broken(bare, f"it redirects to `{redact_url(following)}`, which is less protected")
            url = following
        raise self._broken(url, "it redirects without an end")

    def _demand(self, status: int, url: str, allowed: tuple[int, ...]) -> None:
        if status in allowed:
            return
        if status in {_UNAUTHORIZED, _FORBIDDEN}:
            raise FetchError(
                Problem(
                    f"`{redact_url(url)}` asks for credentials and was given none that it takes (HTTP {status})",
                    hint="put them into the index URL of pip's configuration, or into `~/.netrc`",
                )
            )
        raise self._broken(url, f"it answered HTTP {status}")

    def _unreachable(self, url: str, error: Exception) -> FetchError:
        reason = error.reason if isinstance(error, MaxRetryError) and error.reason is not None else error
        hint = "see that the network and the proxy work; with `KERNEL_BUILDER_OFFLINE=1` nothing but the cache is used"
        if isinstance(reason, (SSLError, ssl.SSLError)):
            hint = "if your index has an authority of its own, name it as `cert` in pip's configuration"
        if isinstance(reason, LocationParseError):
            hint = "correct the index URL in pip's configuration"
        return FetchError(Problem(f"cannot reach `{redact_url(url)}`: {say_error(reason)}", hint=hint))

    def _broken(self, url: str, reason: str) -> FetchError:
        return FetchError(
            Problem(f"`{redact_url(url)}` cannot be used: {reason}", hint="try again, or use another index")
        )
