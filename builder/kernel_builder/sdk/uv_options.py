"""uv's own configuration: its files and variables, as far as they say where packages come from."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel_builder.errors import BadInputError, Location, Problem


@dataclass(frozen=True, slots=True)
class UvOptions:
    """default: the index that replaces the built-in one. logins: index URL, user, password."""

    default: str | None = None
    indexes: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    insecure_hosts: tuple[str, ...] = ()
    no_index: bool = False
    logins: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Index:
    name: str
    url: str
    is_default: bool = False


def read_uv_options(environ: Mapping[str, str], directory: Path) -> UvOptions:
    """Read uv's variables, then its files: the project's that `directory` lies in, the user's, the system's.

    An index that is `explicit` is for packages that name it, and left out. Raises `BadInputError`.
    """
    tables = list(_list_tables(environ, directory))
    indexes = [_parse_index(word) for word in environ.get("UV_INDEX", "").split()]
    indexes += [_parse_index(word) for word in environ.get("UV_EXTRA_INDEX_URL", "").split()]
    defaults = [environ.get("UV_DEFAULT_INDEX", ""), environ.get("UV_INDEX_URL", "")]
    for table in tables:
        named = [entry for entry in _list_of(table, "index") if isinstance(entry, dict)]
        indexes += [
            _Index(str(entry.get("name", "")), str(entry["url"]), entry.get("default") is True)
            for entry in named
            if "url" in entry and not entry.get("explicit", False)
        ]
        indexes += [_Index("", str(url)) for url in _list_of(table, "extra-index-url")]
        defaults.append(str(table.get("index-url", "")))
    defaults += [index.url for index in indexes if index.is_default]
    links = [*environ.get("UV_FIND_LINKS", "").replace(",", " ").split()]
    hosts = [*environ.get("UV_INSECURE_HOST", "").split()]
    for table in tables:
        links += [str(place) for place in _list_of(table, "find-links")]
        hosts += [str(host) for host in _list_of(table, "allow-insecure-host")]
    return UvOptions(
        default=next((_parse_index(text).url for text in defaults if text), None),
        indexes=tuple(dict.fromkeys(index.url for index in indexes if not index.is_default)),
        find_links=tuple(dict.fromkeys(links)),
        insecure_hosts=tuple(dict.fromkeys(hosts)),
        no_index=environ.get("UV_NO_INDEX", "") not in {"", "0", "false"}
        or any(table.get("no-index") is True for table in tables),
        logins=tuple(_list_logins(environ, indexes)),
    )


def load_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; empty where there is none. Raises `BadInputError` for one that cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise BadInputError(
            Problem(f"the settings cannot be read: {reason}", Location(str(path)), "mend it")
        ) from error


def _parse_index(text: str) -> _Index:
    """`<url>`, or `<name>=<url>`."""
    name, separator, url = text.partition("=")
    return _Index(name, url) if separator and ":" not in name and "/" not in name else _Index("", text)


def _list_of(table: Mapping[str, Any], key: str) -> list[Any]:
    value = table.get(key, [])
    return value if isinstance(value, list) else []


def _list_logins(environ: Mapping[str, str], indexes: Iterable[_Index]) -> Iterator[tuple[str, str, str]]:
    """Credentials come in variables that carry the name of their index."""
    for index in indexes:
        key = "".join(letter if letter.isalnum() else "_" for letter in index.name).upper()
        user, password = (environ.get(f"UV_INDEX_{key}_{part}", "") for part in ("USERNAME", "PASSWORD"))
        if key and (user or password):
            yield index.url, user, password


def _list_tables(environ: Mapping[str, str], directory: Path) -> Iterator[dict[str, Any]]:
    """Tables of options, the strongest first; those of uv's pip interface count as well."""
    if environ.get("UV_NO_CONFIG", "") not in {"", "0", "false"}:
        return
    named = environ.get("UV_CONFIG_FILE")
    if named:
        tables = [load_toml(Path(named))]
    else:
        home = Path(environ.get("HOME") or "~").expanduser()
        user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "uv/uv.toml"
        tables = [_load_project_table(directory), load_toml(user), load_toml(Path("/etc/uv/uv.toml"))]
    for table in tables:
        yield table
        pip = table.get("pip")
        if isinstance(pip, dict):
            yield pip


def _load_project_table(directory: Path) -> dict[str, Any]:
    """The nearest `uv.toml`, or `[tool.uv]` of a `pyproject.toml`, at or above a directory."""
    for place in (directory.absolute(), *directory.absolute().parents):
        if (place / "uv.toml").is_file():
            return load_toml(place / "uv.toml")
        try:
            tool = load_toml(place / "pyproject.toml").get("tool")
        except BadInputError:  # not ours to judge, and perhaps of a project far above
            continue
        table = tool.get("uv") if isinstance(tool, dict) else None
        if isinstance(table, dict):
            return table
    return {}
