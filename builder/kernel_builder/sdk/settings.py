"""Where packages come from: what pip, uv and our own settings file say of indexes, credentials and proxies."""

from __future__ import annotations

import configparser
import os
import shlex
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import platformdirs

from kernel_builder.errors import BadInputError, Location, Problem

CONFIG_VARIABLE = "KERNEL_BUILDER_CONFIG"
INDEX_VARIABLE = "KERNEL_BUILDER_INDEX"
OFFLINE_VARIABLE = "KERNEL_BUILDER_OFFLINE"
_APPLICATION = "kernel-builder"
_PIP_SECTIONS = ("global", "install", "download")


@dataclass(frozen=True, slots=True)
class VariantIndex:
    """An index for variants whose name matches, such as `*-cu126-*`; it is asked before all others."""

    pattern: str
    url: str


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """Every place and every rule for fetching.

    indexes: base URLs of the Simple API, empty when only pip's built-in default applies. find_links: directories,
    `file:` URLs and pages with links. certificate: a file or directory of trusted authorities, None for the system's.
    client_certificate: certificate and key for this machine. proxy: for all schemes, None for what the environment
    says. logins: index host -> user and password that uv's variables name. timeout: seconds of silence.
    """

    indexes: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    variant_indexes: tuple[VariantIndex, ...] = ()
    has_default: bool = True
    certificate: Path | None = None
    client_certificate: Path | None = None
    proxy: str | None = None
    trusted_hosts: tuple[str, ...] = ()
    timeout: float = 15.0
    retries: int = 5
    offline: bool = False
    cache_dir: Path | None = None
    logins: tuple[tuple[str, str, str], ...] = ()

    def list_variant_indexes(self, variant: str) -> tuple[str, ...]:
        """The indexes that are for variants of this name."""
        return tuple(index.url for index in self.variant_indexes if fnmatchcase(variant, index.pattern))


def load_settings(environ: Mapping[str, str] | None = None, *, directory: Path | None = None) -> IndexSettings:
    """Read pip's, uv's and our own configuration.

    Of the default index the first word is pip's, then uv's; additional indexes of both count. directory: where uv looks
    for a project's `uv.toml`, by default the current one. Raises `BadInputError` for a file that cannot be read.
    """
    environ = os.environ if environ is None else environ
    pip = _read_pip(environ)
    uv = _read_uv(environ, Path.cwd() if directory is None else directory)
    own = _read_own(environ)
    default = pip.get("index-url") or uv.default
    cut_off = _is_true(pip.get("no-index", "")) or uv.no_index
    indexes = () if cut_off else (*([default] if default else []), *_words(pip.get("extra-index-url", "")), *uv.indexes)
    certificate = pip.get("cert") or environ.get("SSL_CERT_FILE") or environ.get("REQUESTS_CA_BUNDLE")
    client = pip.get("client-cert") or environ.get("SSL_CLIENT_CERT")
    return IndexSettings(
        indexes=tuple(dict.fromkeys(indexes)),
        find_links=tuple(dict.fromkeys((*_words(pip.get("find-links", "")), *uv.find_links))),
        variant_indexes=(*_parse_index_variable(environ.get(INDEX_VARIABLE, "")), *own.variant_indexes),
        has_default=not default and not cut_off,
        certificate=Path(certificate).expanduser() if certificate else None,
        client_certificate=Path(client).expanduser() if client else None,
        proxy=pip.get("proxy") or None,
        trusted_hosts=(*_words(pip.get("trusted-host", "")), *uv.insecure_hosts),
        timeout=_read_number(pip, ("timeout", "default-timeout"), environ.get("UV_HTTP_TIMEOUT"), 15.0),
        retries=int(_read_number(pip, ("retries",), environ.get("UV_HTTP_RETRIES"), 5.0)),
        offline=any(_is_true(environ.get(name, "")) for name in (OFFLINE_VARIABLE, "UV_OFFLINE")),
        cache_dir=own.cache_dir,
        logins=uv.logins,
    )


def _read_pip(environ: Mapping[str, str]) -> dict[str, str]:
    """Options of pip by their long names: later files over earlier ones, the environment over all."""
    options: dict[str, str] = {}
    for path in _list_pip_files(environ):
        parser = configparser.RawConfigParser()
        try:
            if not parser.read(path, encoding="utf-8"):
                continue
        except (configparser.Error, UnicodeDecodeError) as error:
            raise _unreadable(path, str(error)) from error
        for section in _PIP_SECTIONS:
            if parser.has_section(section):
                options.update((name.lower().replace("_", "-"), value) for name, value in parser.items(section))
    for name, value in environ.items():
        if name.startswith("PIP_") and name != "PIP_CONFIG_FILE" and value:
            options[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return options


def _list_pip_files(environ: Mapping[str, str]) -> Iterator[Path]:
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return
    if named:
        yield Path(named)
    home = Path(environ.get("HOME", "~")).expanduser()
    if sys.platform == "darwin":
        yield Path("/Library/Application Support/pip/pip.conf")
    for place in reversed(environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(os.pathsep)):
        yield Path(place) / "pip" / "pip.conf"
    yield Path("/etc/pip.conf")
    yield home / ".pip/pip.conf"
    mac = home / "Library/Application Support/pip"
    own = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip"
    yield (mac if sys.platform == "darwin" and mac.is_dir() else own) / "pip.conf"
    yield Path(environ.get("VIRTUAL_ENV") or sys.prefix) / "pip.conf"


@dataclass(frozen=True, slots=True)
class _UvOptions:
    default: str | None = None
    indexes: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    insecure_hosts: tuple[str, ...] = ()
    no_index: bool = False
    logins: tuple[tuple[str, str, str], ...] = ()


def _read_uv(environ: Mapping[str, str], directory: Path) -> _UvOptions:
    """What uv's files and variables say of indexes; an index that is `explicit` is not for everybody."""
    tables: list[tuple[str | None, str, bool]] = []
    default = environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL")
    for text in _words(environ.get("UV_INDEX", "")):
        name, separator, url = text.partition("=")
        tables.append((name, url, False) if separator and "/" not in name else (None, text, False))
    extra = list(_words(environ.get("UV_EXTRA_INDEX_URL", "")))
    links = list(_words(environ.get("UV_FIND_LINKS", "").replace(",", " ")))
    insecure = list(_words(environ.get("UV_INSECURE_HOST", "")))
    no_index = _is_true(environ.get("UV_NO_INDEX", ""))
    for table in _list_uv_tables(environ, directory):
        tables.extend(
            (entry.get("name"), entry["url"], entry.get("default") is True)
            for entry in table.get("index", ())
            if isinstance(entry, dict) and isinstance(entry.get("url"), str) and not entry.get("explicit", False)
        )
        default = default or table.get("index-url")
        extra.extend(table.get("extra-index-url", ()))
        links.extend(table.get("find-links", ()))
        insecure.extend(table.get("allow-insecure-host", ()))
        no_index = no_index or table.get("no-index") is True
    default = default or next((url for _, url, is_default in tables if is_default), None)
    if default is not None:
        default = _strip_name(default)
    return _UvOptions(
        default,
        tuple(dict.fromkeys((*(url for _, url, is_default in tables if not is_default), *extra))),
        tuple(links),
        tuple(insecure),
        no_index,
        tuple(_list_logins(environ, tables)),
    )


def _list_logins(
    environ: Mapping[str, str], tables: Iterable[tuple[str | None, str, bool]]
) -> Iterator[tuple[str, str, str]]:
    """Credentials that uv takes from variables which carry an index's name."""
    for name, url, _ in tables:
        key = "".join(letter if letter.isalnum() else "_" for letter in name or "").upper()
        user, password = (environ.get(f"UV_INDEX_{key}_{part}", "") for part in ("USERNAME", "PASSWORD"))
        if key and (user or password):
            yield url, user, password


def _list_uv_tables(environ: Mapping[str, str], directory: Path) -> Iterator[dict[str, Any]]:
    """Uv's options, the strongest file first; options of its pip interface count as well."""
    if _is_true(environ.get("UV_NO_CONFIG", "")):
        return
    named = environ.get("UV_CONFIG_FILE")
    if named:
        files = [Path(named)]
    else:
        home = Path(environ.get("HOME", "~")).expanduser()
        files = [place / "uv.toml" for place in (directory, *directory.absolute().parents)]
        files.append(Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "uv/uv.toml")
        files.append(Path("/etc/uv/uv.toml"))
    for path in files:
        table = _load_toml(path)
        yield table
        if isinstance(table.get("pip"), dict):
            yield table["pip"]


@dataclass(frozen=True, slots=True)
class _OwnOptions:
    variant_indexes: tuple[VariantIndex, ...] = ()
    cache_dir: Path | None = None


def _read_own(environ: Mapping[str, str]) -> _OwnOptions:
    """Our settings file: `cache-dir`, and `[[index]]` tables with `url` and `variants`."""
    path = Path(environ.get(CONFIG_VARIABLE) or platformdirs.user_config_path(_APPLICATION) / "config.toml")
    if environ.get(CONFIG_VARIABLE) and not path.is_file():
        raise BadInputError(
            Problem(f"there is no settings file `{path}`", hint=f"unset `{CONFIG_VARIABLE}`, or write the file")
        )
    sdk = _load_toml(path).get("sdk", {})
    if not isinstance(sdk, dict):
        raise _unreadable(path, "`sdk` is not a table")
    indexes: list[VariantIndex] = []
    for position, entry in enumerate(sdk.get("index", ())):
        patterns = entry.get("variants", ["*"]) if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(entry.get("url"), str) or not isinstance(patterns, list):
            raise BadInputError(
                Problem(
                    "an index needs a `url`, and `variants` as a list of patterns",
                    Location(str(path), key=f"sdk.index[{position}]"),
                    hint='write `[[sdk.index]]`, `url = "..."` and `variants = ["*-cu126-*"]`',
                )
            )
        indexes.extend(VariantIndex(str(pattern), entry["url"]) for pattern in patterns)
    cache = sdk.get("cache-dir")
    return _OwnOptions(tuple(indexes), Path(cache).expanduser() if isinstance(cache, str) else None)


def _parse_index_variable(text: str) -> Iterator[VariantIndex]:
    """Words, each a URL or `<pattern>=<url>`."""
    for word in _words(text):
        pattern, separator, url = word.partition("=")
        named = bool(separator) and ":" not in pattern and "/" not in pattern
        yield VariantIndex(pattern, url) if named else VariantIndex("*", word)


def _strip_name(text: str) -> str:
    name, separator, url = text.partition("=")
    return url if separator and ":" not in name and "/" not in name else text


def _load_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from error


def _unreadable(path: Path, reason: str) -> BadInputError:
    return BadInputError(
        Problem(
            f"the settings in `{path}` cannot be read: {reason.splitlines()[0]}", Location(str(path)), "mend the file"
        )
    )


def _words(text: str) -> tuple[str, ...]:
    try:
        return (
            tuple(shlex.split(text, comments=False, posix=True)) if "'" in text or '"' in text else tuple(text.split())
        )
    except ValueError:
        return tuple(text.split())


def _is_true(text: str) -> bool:
    return text.strip().lower() in {"1", "true", "yes", "on", "y", "t"}


def _read_number(options: Mapping[str, str], names: Iterable[str], other: str | None, default: float) -> float:
    text = next((options[name] for name in names if name in options), other)
    try:
        number = default if text is None else float(text)
    except ValueError:
        return default
    return max(0.0, min(number, 3600.0))
