"""Ways to a host: proxies, trusted authorities and credentials, and how a network's errors are told."""

from __future__ import annotations

import netrc
import os
import re
import ssl
import urllib.request
from collections.abc import Iterator
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

import truststore
import urllib3
from urllib3.exceptions import InsecureRequestWarning

from kernel_builder.errors import BadInputError, FetchError, Problem
from kernel_builder.sdk.settings import IndexSettings

_LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}
_PORTS = {"http": 80, "https": 443}


class Connections:
    """Pools of connections, one for each way to a host that the settings name."""

    def __init__(self, settings: IndexSettings) -> None:
        self._settings = settings
        self._pools: dict[tuple[str | None, bool], urllib3.PoolManager] = {}
        self._logins = dict(_list_logins(settings))

    def find_login(self, parts: SplitResult) -> tuple[str, str] | None:
        """User and password for a URL: those inside it, else those of an index at the same place, else `.netrc`."""
        if parts.username or parts.password:
            return unquote(parts.username or ""), unquote(parts.password or "")
        known = self._logins.get(_place_of(parts))
        if known is not None:
            return known
        try:
            found = netrc.netrc(os.environ.get("NETRC")).authenticators(parts.hostname or "")
        except (OSError, netrc.NetrcParseError):
            return None
        return None if found is None else (found[0] or found[1] or "", found[2] or "")

    def open(self, scheme: str, host: str) -> urllib3.PoolManager:
        """The pool for a host and its port. Raises `FetchError` or `BadInputError` where there is none."""
        name = host.rpartition(":")[0] or host
        trusted = bool({name, host} & set(self._settings.trusted_hosts))
        if scheme == "http" and not trusted and name not in _LOOPBACK:
            raise FetchError(
                Problem(
                    f"`{host}` is asked over plain HTTP, where anybody on the way can change what comes",
                    hint="use `https://`, or name the host as `trusted-host` in pip's configuration",
                )
            )
        proxy = self._settings.proxy
        if proxy is None and name not in _LOOPBACK and not urllib.request.proxy_bypass(name):
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
            if trusted:  # by the user's own word, who need not be warned of it with each request
                urllib3.disable_warnings(InsecureRequestWarning)
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
                    f"the certificates in `{named}` cannot be read: {say_error(error)}",
                    hint="correct `cert` or `client-cert` in pip's configuration, or `SSL_CERT_FILE`",
                )
            ) from error
        return context


def split_url(url: str) -> SplitResult:
    """Take a URL apart. Raises `BadInputError` for what is none; it is not repeated, since it may hold a password."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        problem = "the address of an index cannot be used: it is not `https://`, `http://` or `file://` and a place"
        hint = "correct the index URL in the configuration of pip, uv or kernel-builder"
        raise BadInputError(Problem(problem, hint=hint))
    return urlsplit(url)


def redact_url(url: str) -> str:
    """The URL as it may be shown: without credentials, and without a query, which may be signed."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _list_logins(settings: IndexSettings) -> Iterator[tuple[tuple[str, str, int | None], tuple[str, str]]]:
    """What index URLs and uv's variables say, by scheme and host: files often lie beside their index."""
    urls = (*settings.indexes, *settings.find_links, *(index.url for index in settings.variant_indexes))
    for url in reversed(urls):
        if "@" not in url or "://" not in url:
            continue
        parts = split_url(url)
        if parts.username or parts.password:
            yield _place_of(parts), (unquote(parts.username or ""), unquote(parts.password or ""))
    for url, user, password in settings.logins:
        yield _place_of(split_url(url)), (user, password)


def _place_of(parts: SplitResult) -> tuple[str, str, int | None]:
    """What credentials are for: scheme, host and port."""
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme)


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


def say_error(error: BaseException) -> str:
    """The shortest true account of a network error: without object addresses and without URLs."""
    text = str(error.args[-1]) if error.args else str(error)
    text = re.sub(r"^.*?: (?=\[|Failed|Read|Connect)", "", text.splitlines()[0] if text else type(error).__name__)
    return re.sub(r"<[^>]*>:? ?|\S+://\S+", "", text).strip() or type(error).__name__
