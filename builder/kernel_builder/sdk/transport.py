"""HTTP as an index wants it: the user's credentials, authorities and proxies, retries, a count of what was moved."""

from __future__ import annotations

import netrc
import re
import ssl
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import truststore
import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, MaxRetryError, SSLError

from kernel_builder import __version__
from kernel_builder.errors import BadInputError, FetchError, Problem
from kernel_builder.sdk.settings import IndexSettings

_BLOCK = 1 << 18
_OK, _PARTIAL, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _GONE, _NOT_SATISFIABLE = 200, 206, 401, 403, 404, 410, 416
_BUSY = (429, 500, 502, 503, 504)
_MOST_REDIRECTS = 10
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


def redact_url(url: str) -> str:
    """The URL as it may be shown: without credentials, and without a query, which may be signed."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


class Transport:
    """One user's way to all indexes. Not for several threads."""

    def __init__(self, settings: IndexSettings, on_bytes: Callable[[int], None] | None = None) -> None:
        self.traffic = Traffic()
        self._settings = settings
        self._on_bytes = on_bytes
        self._pools: dict[tuple[str | None, bool], urllib3.PoolManager] = {}
        self._logins = dict(_list_logins(settings))
        self._retries = urllib3.Retry(
            total=settings.retries, backoff_factor=0.3, status_forcelist=_BUSY, redirect=0, raise_on_status=False
        )

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
            response.release_conn()

    def open_range(self, url: str, start: int, stop: int | None) -> Stream:
        """Ask for bytes `start` to `stop`, or to the end. A server may answer with the whole file: `is_partial` tells.

        The blocks raise `InterruptedTransferError` when the body breaks off. Raises `FetchError`.
        """
        end = "" if stop is None else str(stop - 1)
        response, final = self._open(url, {"Range": f"bytes={start}-{end}", "Accept-Encoding": "identity"})
        try:
            self._demand(response.status, final, (_OK, _PARTIAL))
            if response.status == _OK:
                length = response.headers.get("Content-Length", "")
                total = int(length) if length.isdigit() else None
                return Stream(0, total, is_partial=False, blocks=self._read(response, final, decode=False))
            last, total = self._parse_content_range(response.headers.get("Content-Range", ""), start, final)
            blocks = self._read(response, final, decode=False, expected=last + 1 - start)
            return Stream(start, total, is_partial=True, blocks=blocks)
        except BaseException:
            response.close()
            raise

    def _parse_content_range(self, text: str, start: int, url: str) -> tuple[int, int]:
        """The last byte and the size of the whole."""
        match = _CONTENT_RANGE.fullmatch(text.strip())
        if match is None or int(match[1]) != start or not start <= int(match[2]) < int(match[3]):
            raise self._broken(url, "it answers a range request with another range")
        return int(match[2]), int(match[3])

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
                if self._on_bytes is not None:
                    self._on_bytes(len(block))
                yield block
        except (HTTPError, OSError) as error:
            raise InterruptedTransferError(_say(error)) from error
        finally:
            response.close() if expected is not None and count < expected else response.release_conn()
        if expected is not None and count < expected:
            raise InterruptedTransferError("the body is shorter than its range")

    def _open(self, url: str, headers: Mapping[str, str]) -> tuple[urllib3.BaseHTTPResponse, str]:
        """Send one request and follow where it leads; credentials go to their own host only."""
        for _ in range(_MOST_REDIRECTS):
            parts = urlsplit(url)
            host = parts.netloc.rpartition("@")[2]
            bare = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
            login = self._find_login(parts.scheme, host, parts.username, parts.password)
            sent = {**headers, "User-Agent": f"kernel-builder/{__version__}"}
            if login is not None:
                sent |= urllib3.make_headers(basic_auth=f"{login[0]}:{login[1]}")
            self.traffic.requests += 1
            try:
                response = self._pool_for(parts.scheme, host).request(
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

    def _find_login(self, scheme: str, host: str, user: str | None, password: str | None) -> tuple[str, str] | None:
        if user or password:
            return unquote(user or ""), unquote(password or "")
        known = self._logins.get((scheme, host))
        if known is not None:
            return known
        try:
            found = netrc.netrc().authenticators(host.partition(":")[0])
        except (OSError, netrc.NetrcParseError):
            return None
        return None if found is None else (found[0] or found[1] or "", found[2] or "")

    def _pool_for(self, scheme: str, host: str) -> urllib3.PoolManager:
        name = host.partition(":")[0]
        trusted = bool({name, host} & set(self._settings.trusted_hosts))
        proxy = self._settings.proxy
        if proxy is None and not urllib.request.proxy_bypass(name):
            proxies = urllib.request.getproxies()
            proxy = proxies.get(scheme) or proxies.get("all")
        if (proxy, trusted) not in self._pools:
            context = self._make_context(trusted=trusted)
            if proxy:
                self._pools[proxy, trusted] = _open_proxy(proxy, context)
            else:
                self._pools[proxy, trusted] = urllib3.PoolManager(ssl_context=context)
        return self._pools[proxy, trusted]

    def _make_context(self, *, trusted: bool) -> ssl.SSLContext:
        certificate = self._settings.certificate
        try:
            if trusted:
                context = ssl.create_default_context()
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            elif certificate is None:
                context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            else:
                folder = certificate.is_dir()
                context = ssl.create_default_context(
                    cafile=None if folder else certificate, capath=certificate if folder else None
                )
            if self._settings.client_certificate is not None:
                context.load_cert_chain(self._settings.client_certificate)
        except OSError as error:
            named = certificate or self._settings.client_certificate
            raise BadInputError(
                Problem(
                    f"the certificates in `{named}` cannot be read: {_say(error)}",
                    hint="correct `cert` or `client-cert` in pip's configuration, or `SSL_CERT_FILE`",
                )
            ) from error
        return context

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
        hint = "see that the network and the proxy work, or go on with `--offline` and what is in the cache"
        if isinstance(reason, (SSLError, ssl.SSLError)):
            hint = "if your index has an authority of its own, name it as `cert` in pip's configuration"
        if isinstance(reason, LocationParseError):
            hint = "correct the index URL in pip's configuration"
        return FetchError(Problem(f"cannot reach `{redact_url(url)}`: {_say(reason)}", hint=hint))

    def _broken(self, url: str, reason: str) -> FetchError:
        return FetchError(
            Problem(f"`{redact_url(url)}` cannot be used: {reason}", hint="try again, or use another index")
        )


def _list_logins(settings: IndexSettings) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """What index URLs and uv's variables say, by scheme and host: files often lie beside their index."""
    urls = (*settings.indexes, *settings.find_links, *(index.url for index in settings.variant_indexes))
    for url in reversed(urls):
        parts = urlsplit(url)
        if parts.username or parts.password:
            host = parts.netloc.rpartition("@")[2]
            yield (parts.scheme, host), (unquote(parts.username or ""), unquote(parts.password or ""))
    for url, user, password in settings.logins:
        parts = urlsplit(url)
        yield (parts.scheme, parts.netloc.rpartition("@")[2]), (user, password)


def _open_proxy(proxy: str, context: ssl.SSLContext) -> urllib3.PoolManager:
    url = proxy if "://" in proxy else f"http://{proxy}"
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        raise BadInputError(
            Problem(
                f"the proxy `{redact_url(url)}` is of a kind that is not supported",
                hint="name a proxy that begins with `http://` or `https://`",
            )
        )
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if parts.username else None
    headers = None if login is None else urllib3.make_headers(proxy_basic_auth=login)
    bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    return urllib3.ProxyManager(bare, proxy_headers=headers, ssl_context=context)


def _say(error: BaseException) -> str:
    """The shortest true account of a network error: without object addresses and without URLs."""
    text = str(error.args[-1]) if error.args else str(error)
    text = re.sub(r"^.*?: (?=\[|Failed|Read|Connect)", "", text.splitlines()[0] if text else type(error).__name__)
    return re.sub(r"<[^>]*>:? ?|\S+://\S+", "", text).strip() or type(error).__name__
