"""pip's own configuration: its files and variables, read as pip reads them, also where pip is not installed."""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from kernel_builder.errors import BadInputError, Location, Problem

_SECTIONS = ("global", "install", "download")
_PREFIX = "PIP_"


def read_pip_options(environ: Mapping[str, str]) -> dict[str, str]:
    """Pip's options by their long names: later files over earlier ones, the environment over all.

    Raises `BadInputError` for a file that is no configuration.
    """
    options: dict[str, str] = {}
    for path in _list_files(environ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            reason = str(error).splitlines()[0]
            problem = f"pip's configuration cannot be read: {reason}"
            raise BadInputError(Problem(problem, Location(str(path)), "mend the file; pip fails on it, too")) from error
        except OSError:  # one that this user may not read counts for nothing, as with pip
            continue
        for section in _SECTIONS:
            if parser.has_section(section):
                options.update((_normalise(name), value) for name, value in parser.items(section))
    for name, value in environ.items():
        if name.startswith(_PREFIX) and value:
            options[_normalise(name.removeprefix(_PREFIX))] = value
    return options


def _normalise(name: str) -> str:
    return name.lower().replace("_", "-")


def _list_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """Where pip looks, the weakest first."""
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return
    if named:
        yield Path(named)
    home = Path(environ.get("HOME") or "~").expanduser()
    on_mac = sys.platform == "darwin"
    shared = "/Library/Application Support" if on_mac else "/etc/xdg"
    for place in reversed(environ.get("XDG_CONFIG_DIRS", shared).split(os.pathsep)):
        yield Path(place) / "pip/pip.conf"
    yield Path("/etc/pip.conf")
    yield home / ".pip/pip.conf"
    mac = home / "Library/Application Support/pip"
    own = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip"
    yield (mac if on_mac and mac.is_dir() else own) / "pip.conf"
    yield Path(environ.get("VIRTUAL_ENV") or sys.prefix) / "pip.conf"
