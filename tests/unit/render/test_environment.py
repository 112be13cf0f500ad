"""A template cannot print a bare string, nor a name that has no value; templates are found where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import jinja2
import pytest

from kernel_builder.render import environment
from kernel_builder.render.environment import find_templates, read_template, render_template

MakeTemplate = Callable[[str], str]


@pytest.fixture
def make_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeTemplate]:
    """Put a template where templates are looked for."""

    def write(text: str) -> str:
        (tmp_path / "case.j2").write_text(text, encoding="utf-8")
        return "case.j2"

    monkeypatch.setattr(environment, "find_templates", lambda: tmp_path)
    environment._load_environment.cache_clear()
    yield write
    environment._load_environment.cache_clear()


@pytest.mark.parametrize("text", ["{{ name }}", "{{ name ~ 'x' }}", "{{ name|upper }}", "{{ 3 }}", "{{ 'constant' }}"])
def test_a_bare_value_is_refused(make_template: MakeTemplate, text: str) -> None:
    with pytest.raises(TypeError, match="without a filter that quotes it"):
        render_template(make_template(text), name="x")


@pytest.mark.parametrize("text", ["{{ nmae|arg }}", "{{ nmae }}", "{% if nmae %}{% endif %}", "{{ name.attribute }}"])
def test_a_name_without_a_value_is_refused(make_template: MakeTemplate, text: str) -> None:
    with pytest.raises(jinja2.UndefinedError):
        render_template(make_template(text), name="x")


def test_quoted_values_are_printed(make_template: MakeTemplate) -> None:
    template = make_template("{{ a|arg }} {{ b|args }} {{ c|target }} {{ d|pystr }} {{ e|toml }}\n")
    rendered = render_template(template, a='"', b=["x", "y"], c="t", d="'", e='"')
    assert rendered == b'"\\"" "x" "y" t "\'" "\\""\n'


def test_the_checkout_has_its_templates_at_the_root() -> None:
    templates = find_templates()
    assert templates.name == "templates"
    assert (templates / "CMakeLists.txt.j2").is_file()
    assert read_template("include/registration.h").startswith(b"//")


def test_a_wheel_has_its_templates_inside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "kernel_builder"
    (package / "render").mkdir(parents=True)
    (package / "templates").mkdir()
    monkeypatch.setattr(environment, "__file__", str(package / "render" / "environment.py"))
    assert find_templates() == package / "templates"
