"""The Jinja environment of generated projects and pages: strict about names, and about what may be printed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from kernel_builder.render.markdown import quote_code, quote_codes, quote_fenced, quote_link, quote_prose
from kernel_builder.render.quoting import (
    Quoted,
    quote_argument,
    quote_arguments,
    quote_flags,
    quote_identifier,
    quote_path,
    quote_paths,
    quote_python,
    quote_target,
    quote_targets,
    quote_toml,
    quote_units,
)

_FILTERS = {
    "arg": quote_argument,
    "args": quote_arguments,
    "code": quote_code,
    "codes": quote_codes,
    "fenced": quote_fenced,
    "flags": quote_flags,
    "identifier": quote_identifier,
    "link": quote_link,
    "path": quote_path,
    "paths": quote_paths,
    "prose": quote_prose,
    "pystr": quote_python,
    "target": quote_target,
    "toml": quote_toml,
    "units": quote_units,
    "words": quote_targets,
}


def find_templates() -> Path:
    """The directory of templates: inside the installed package, else at the root of the checkout."""
    package = Path(__file__).parents[1]
    shipped = package / "templates"
    return shipped if shipped.is_dir() else package.parents[1] / "templates"


def render_template(template: str, **values: object) -> bytes:
    """Fill in one template. Raises `jinja2.UndefinedError` for a name without value, `TypeError` for a bare string."""
    return _load_environment().get_template(template).render(**values).encode()


def read_template(name: str) -> bytes:
    """A file that goes into generated projects as it is."""
    return (find_templates() / name).read_bytes()


@cache
def _load_environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(find_templates()),
        undefined=jinja2.StrictUndefined,
        finalize=_refuse_unquoted,
        autoescape=False,  # noqa: S701 - the output is CMake, Python, TOML, Markdown; `finalize` guards it
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(_FILTERS)
    return environment


def _refuse_unquoted(value: Any) -> Any:
    """Only `Quoted` text may be printed; an undefined value raises by itself when it is turned into text."""
    if isinstance(value, Quoted | jinja2.Undefined):
        return value
    raise TypeError(f"a template prints `{value!r}` without a filter that quotes it")
