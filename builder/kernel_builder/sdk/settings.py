"""Where packages come from: what pip, uv and our own settings file say of indexes, credentials and proxies."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import platformdirs

from kernel_builder.errors import BadInputError, Location, Problem
from kernel_builder.sdk.pip_options import read_pip_options
from kernel_builder.sdk.uv_options import load_toml, read_uv_options

CONFIG_VARIABLE = "KERNEL_BUILDER_CONFIG"
INDEX_VARIABLE = "KERNEL_BUILDER_INDEX"
OFFLINE_VARIABLE = "KERNEL_BUILDER_OFFLINE"
LOCK_VARIABLE = "KERNEL_BUILDER_LOCK"
_APPLICATION = "kernel-builder"
_LONGEST_SILENCE = 3600.0
_MOST_RETRIES = 20.0


@dataclass(frozen=True, slots=True)
class VariantIndex:
    """An index for variants whose name matches, such as `*-cu126-*`; it is asked before all others."""

    pattern: str
    url: str


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """Every place and every rule for fetching.

    indexes: base URLs of the Simple API, in pip's order. has_default: whether the index that pip has built in comes
    before them. find_links: directories, `file:` URLs and pages with links. certificate: a file or directory of trusted
    authorities, None for the system's. client_certificate: certificate and key of this user. proxy: for every scheme,
    None for what the environment says. logins: index URL, user, password, beside those inside URLs and `.netrc`.
    timeout: seconds of silence. lock_file: where wheels are pinned, None for in the cache only.
    """

    indexes: tuple[str, ...] = ()
    has_default: bool = True
    find_links: tuple[str, ...] = ()
    variant_indexes: tuple[VariantIndex, ...] = ()
    certificate: Path | None = None
    client_certificate: Path | None = None
    proxy: str | None = None
    trusted_hosts: tuple[str, ...] = ()
    logins: tuple[tuple[str, str, str], ...] = ()
    timeout: float = 15.0
    retries: int = 5
    offline: bool = False
    cache_dir: Path | None = None
    lock_file: Path | None = None

    def list_variant_indexes(self, variant: str) -> tuple[str, ...]:
        """The indexes that are for variants of this name."""
        return tuple(index.url for index in self.variant_indexes if fnmatchcase(variant, index.pattern))


def load_settings(environ: Mapping[str, str] | None = None, *, directory: Path | None = None) -> IndexSettings:
    """Read pip's, uv's and our own configuration.

    Of the default index pip has the first word, then uv; additional indexes and links of both count. directory: where
    uv's project is looked for, by default the current one. Raises `BadInputError` for a file that cannot be read.
    """
    environ = os.environ if environ is None else environ
    pip = read_pip_options(environ)
    uv = read_uv_options(environ, Path.cwd() if directory is None else directory)
    own_indexes, cache_dir = _load_own(environ)
    default = pip.get("index-url") or uv.default
    cut_off = _is_true(pip.get("no-index", "")) or uv.no_index
    indexes = (*([default] if default else []), *pip.get("extra-index-url", "").split(), *uv.indexes)
    certificate = pip.get("cert") or environ.get("SSL_CERT_FILE") or environ.get("REQUESTS_CA_BUNDLE")
    client = pip.get("client-cert") or environ.get("SSL_CLIENT_CERT")
    silence = pip.get("timeout") or pip.get("default-timeout") or environ.get("UV_HTTP_TIMEOUT")
    return IndexSettings(
        indexes=() if cut_off else tuple(dict.fromkeys(indexes)),
        has_default=not default and not cut_off,
        find_links=tuple(dict.fromkeys((*pip.get("find-links", "").split(), *uv.find_links))),
        variant_indexes=(*_parse_variant_indexes(environ.get(INDEX_VARIABLE, "")), *own_indexes),
        certificate=Path(certificate).expanduser() if certificate else None,
        client_certificate=Path(client).expanduser() if client else None,
        proxy=pip.get("proxy") or None,
        trusted_hosts=(*pip.get("trusted-host", "").split(), *uv.insecure_hosts),
        logins=uv.logins,
        timeout=_parse_number(silence, 15.0, _LONGEST_SILENCE) or 15.0,
        retries=int(_parse_number(pip.get("retries") or environ.get("UV_HTTP_RETRIES"), 5.0, _MOST_RETRIES)),
        offline=any(_is_true(environ.get(name, "")) for name in (OFFLINE_VARIABLE, "UV_OFFLINE")),
        cache_dir=cache_dir,
        lock_file=Path(lock).expanduser().absolute() if (lock := environ.get(LOCK_VARIABLE)) else None,
    )


def _load_own(environ: Mapping[str, str]) -> tuple[tuple[VariantIndex, ...], Path | None]:
    """Our settings file: `[sdk]` with `cache-dir`, and `[[sdk.index]]` tables with `url` and `variants`."""
    chosen = environ.get(CONFIG_VARIABLE)
    path = Path(chosen) if chosen else platformdirs.user_config_path(_APPLICATION) / "config.toml"
    if chosen and not path.is_file():
        hint = f"unset `{CONFIG_VARIABLE}`, or write the file"
        raise BadInputError(Problem(f"there is no settings file `{path}`", hint=hint))
    sdk = load_toml(path).get("sdk", {})
    indexes: list[VariantIndex] = []
    entries = sdk.get("index", []) if isinstance(sdk, dict) else [None]
    for position, entry in enumerate(entries if isinstance(entries, list) else [None]):
        url = entry.get("url") if isinstance(entry, dict) else None
        patterns = entry.get("variants", ["*"]) if isinstance(entry, dict) else None
        if not isinstance(url, str) or not isinstance(patterns, list):
            raise BadInputError(
                Problem(
                    "an index needs a `url`, and `variants` that is a list of patterns",
                    Location(str(path), key=f"sdk.index[{position}]"),
                    hint='write `[[sdk.index]]` with `url = "..."` and `variants = ["*-cu126-*"]`',
                )
            )
        indexes.extend(VariantIndex(str(pattern), url) for pattern in patterns)
    cache = sdk.get("cache-dir") if isinstance(sdk, dict) else None
    return tuple(indexes), Path(cache).expanduser() if isinstance(cache, str) else None


def _parse_variant_indexes(text: str) -> Iterator[VariantIndex]:
    """Words, each a URL for all variants or `<pattern>=<url>`."""
    for word in text.split():
        pattern, separator, url = word.partition("=")
        named = bool(separator) and ":" not in pattern and "/" not in pattern
        yield VariantIndex(pattern, url) if named else VariantIndex("*", word)


def _is_true(text: str) -> bool:
    return text.strip().lower() in {"1", "true", "yes", "on", "y", "t"}


def _parse_number(text: str | None, default: float, largest: float) -> float:
    try:
        return default if text is None else max(0.0, min(float(text), largest))
    except ValueError:
        return default
