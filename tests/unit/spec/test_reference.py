"""The reference page says what the reader does: same tables, same keys, same rules."""

from __future__ import annotations

import re
from pathlib import Path

from kernel_builder.backend import Backend
from kernel_builder.python_depends import BACKEND_PYTHON_DEPENDS, PYTHON_DEPENDS
from kernel_builder.spec import schema
from kernel_builder.spec.files import FILE_RULES
from kernel_builder.spec.model import Dependency
from kernel_builder.spec.reader import read_spec
from kernel_builder.spec.rules import RULES
from kernel_builder.spec.unit_template import UnitTemplate

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "build-toml.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n)*)", PAGE, re.MULTILINE))


def rows(section: str) -> list[list[str]]:
    """The cells of the section's tables, without heads and rules."""
    lines = [line for line in SECTIONS[section].splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] not in {"key", "rule", "type", "---"}]


def row(key: schema.Key) -> list[str]:
    name = f"`{key.name}` *" if key.is_extension else f"`{key.name}`"
    return [name, key.kind, str(key.required_since or "no"), str(key.since)]


def test_every_table_is_documented() -> None:
    for table in schema.TABLES:
        if table not in schema.COMPONENTS.values():
            heading = "The file" if table is schema.ROOT else table.title
            assert rows(heading) == [row(key) for key in table.keys], heading


def test_every_key_of_a_component_is_documented() -> None:
    expected = []
    for key in schema.ANY_COMPONENT.keys:
        backends = [f"`{backend}`" for backend, table in schema.COMPONENTS.items() if key in table.keys]
        expected.append([*row(key), "all" if len(backends) == len(schema.COMPONENTS) else ", ".join(backends)])
    assert rows("`[kernel.<name>]`") == expected


def test_no_section_is_left_over() -> None:
    titles = {"The file", "`[kernel.<name>]`"} | {table.title for table in schema.TABLES}
    prose = {"How to read the tables", "What is checked between the tables"}
    assert set(SECTIONS) - titles == prose


def test_every_rule_is_documented() -> None:
    documented = [name.strip("`") for name, *_ in rows("What is checked between the tables") if name]
    assert documented == [rule.name for rule in RULES + FILE_RULES]


def test_every_word_of_a_closed_list_is_documented() -> None:
    types = dict(rows("How to read the tables"))
    assert re.findall(r"`([^`]+)`", types["backend"]) == [str(backend) for backend in Backend]
    assert re.findall(r"`([^`]+)`", types["compiled backend"]) == [str(backend) for backend in schema.COMPILED_BACKENDS]
    assert re.findall(r"`([^`]+)`", types["dependency"]) == [str(dependency) for dependency in Dependency]
    for name in PYTHON_DEPENDS:
        assert f"`{name}`" in SECTIONS["`[general]`"]
    for backend, names in BACKEND_PYTHON_DEPENDS.items():
        for name in names:
            assert f"`{name}`" in SECTIONS[f"`[general.{backend}]`"]


def test_the_example_is_right() -> None:
    (example,) = re.findall(r"```toml\n(\[general\].*?)```", PAGE, re.DOTALL)
    loaded = read_spec(example, root=Path())
    assert loaded.spec.general.name == "relu"
    assert loaded.notices == ()


def test_the_example_of_a_template_is_right() -> None:
    section = SECTIONS["`[[kernel.<name>.instantiate]]`"]
    (declared,) = re.findall(r"```toml\n(.*?)```", section, re.DOTALL)
    (template,) = re.findall(r"```jinja\n(.*?)```", section, re.DOTALL)
    general = '[general]\nname = "x-y"\nversion = 1\nedition = 5\nlicense = "MIT"\nbackends = ["cuda"]\n[torch]\n'
    units = read_spec(general + declared, root=Path()).spec.components[0].instantiations
    texts = [UnitTemplate(template).render(unit.values).decode() for unit in units]
    assert len(units) == 6
    assert [str(unit.path) for unit in units[:1]] == ["cuda/forward_causal_bfloat16_64.cu"]
    assert "template void forward<__nv_bfloat16, 64, true>(const Call&);" in texts[0]
    for unit in (units[0], units[3]):
        assert f"`{unit.path}`" in section
