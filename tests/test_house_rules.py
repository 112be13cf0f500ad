"""The rules of the house that no linter knows; CONTRIBUTING.md gives the reasons."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "builder" / "kernel_builder"
FOLDERS = (
    ".ci",
    ".github",
    "benchmarks",
    "builder",
    "docs",
    "examples",
    "flash_attn_kernel",
    "scripts",
    "templates",
    "tests",
)
MADE = {"__pycache__", "build", ".kernel-builder"}  # folders of results, ignored by git

MAX_LINES = {
    ".py": 300,
    ".j2": 60,
    ".cmake": 150,
    ".h": 350,
    ".cuh": 350,
    ".cpp": 350,
    ".cu": 350,
    ".mm": 350,
    ".metal": 350,
}
MAX_TEST_LINES = 400

HOMES: dict[str, str | tuple[str, ...] | None] = {
    # An import that belongs in one place: `None` bans it everywhere.
    "subprocess": "process.py",
    "jinja2": ("render/", "spec/template_language.py", "spec/unit_template.py"),
    "click": "cli/",
    "rich": "cli/",
    "elftools": "audit/",
    "starlette": "serve/",
    "uvicorn": "serve/",
    "requests": None,
    "huggingface_hub": "release/hub",
    "cryptography": "release/",
    "os.path": None,
}

LAYERS: tuple[frozenset[str], ...] = (
    # A module imports from its own row and from the rows above it, never from below.
    frozenset({"__init__", "errors"}),
    frozenset(
        {
            "version",
            "backend",
            "host",
            "variant",
            "disk",
            "endpoint",
            "progress",
            "python_depends",
            "resources",
            "remedy",
        }
    ),
    frozenset({"process", "lock", "serve"}),
    frozenset({"spec"}),
    frozenset({"plan", "includes", "inputs", "torch_sdk"}),
    frozenset({"tvm_ffi_sdk", "sdk"}),
    frozenset({"toolchains"}),
    frozenset({"environment", "container"}),
    frozenset({"doctor", "planning", "render", "syntax"}),
    frozenset({"compile", "generated"}),
    frozenset({"artifact"}),
    frozenset({"audit", "bench", "cleaning", "testing"}),
    frozenset({"pipeline"}),
    frozenset({"release"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)


def project_files(*patterns: str) -> Iterator[Path]:
    """Files of the repository that match, relative to its root, in order; nothing that a tool made."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            relative = path.relative_to(ROOT)
            if path.is_file() and not MADE & set(relative.parts) and any(relative.match(p) for p in patterns or ("*",)):
                yield relative
    for path in sorted(ROOT.iterdir()):
        is_file = path.is_file() and path.name != ".git"  # which is a file where git made a second checkout
        if is_file and any(path.match(pattern) for pattern in patterns or ("*",)):
            yield path.relative_to(ROOT)


def read(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def package_modules() -> list[Path]:
    return [path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py"))]


def imported_names(path: Path) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, as `package.module` or `package.module.name`, with its line."""
    for node in ast.walk(ast.parse((PACKAGE / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def test_no_file_is_too_long_to_be_read_whole() -> None:
    too_long = []
    for path in project_files():
        in_tests = path.parts[0] == "tests" and path.suffix == ".py"
        limit = MAX_TEST_LINES if in_tests else MAX_LINES.get(path.suffix)
        if limit is not None and (count := len(read(path).splitlines())) > limit:
            too_long.append(f"{path}: {count} lines, {limit} are allowed")
    assert not too_long


def test_an_import_with_a_home_stays_at_home() -> None:
    strays = [
        f"{path}:{line} imports `{name}`"
        for path in package_modules()
        for line, name in imported_names(path)
        for banned, home in HOMES.items()
        if name == banned or name.startswith(f"{banned}.")
        if home is None or not path.as_posix().startswith(home)
    ]
    assert not strays


def test_only_the_cli_prints_and_exits() -> None:
    calls = [
        f"{path}:{node.lineno} calls `{ast.unparse(node.func)}`"
        for path in package_modules()
        if path.parts[0] != "cli"
        for node in ast.walk(ast.parse((PACKAGE / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"print", "sys.exit", "os._exit", "exit", "quit"}
    ]
    assert not calls


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        path.as_posix()
        for path in package_modules()
        if (tree := ast.parse((PACKAGE / path).read_text(encoding="utf-8"))).body and not ast.get_docstring(tree)
    ]
    assert not silent


def layer_of(module: str) -> int | None:
    return next((rank for rank, names in enumerate(LAYERS) if module in names), None)


def test_every_module_has_a_layer() -> None:
    units = {path.parts[0].removesuffix(".py") for path in package_modules()}
    assert {unit for unit in units if layer_of(unit) is None} == set(), "add the module to LAYERS, where it belongs"
    assert {name for names in LAYERS for name in names} == units, "LAYERS names modules that are gone"


def test_imports_go_up_the_layers_only() -> None:
    wrong = []
    for path in package_modules():
        own = layer_of(path.parts[0].removesuffix(".py"))
        for line, name in imported_names(path):
            if name.startswith("kernel_builder.") and own is not None:
                unit = name.split(".")[1]
                imported = layer_of(unit)
                if imported is not None and imported > own:
                    wrong.append(f"{path}:{line} imports `{unit}`, which stands on a later layer")
    assert not wrong


@pytest.mark.parametrize("word", ["utils", "util", "helper", "helpers", "manager", "common", "misc"])
def test_no_module_is_named_for_nothing(word: str) -> None:
    assert not [path for path in package_modules() if path.stem == word]


def test_functions_use_the_verbs_of_the_house() -> None:
    vague = [
        f"{path}:{node.lineno} `{node.name}`"
        for path in package_modules()
        for node in ast.walk(ast.parse((PACKAGE / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and re.match(r"_?(get|process|handle|do|manage)_", node.name)
        if node.name not in {"get_command", "get_retry_after", "handle_starttag"}  # click's, urllib3's, html.parser's
    ]
    assert not vague


def test_every_template_is_used() -> None:
    sources = {path: read(path) for path in project_files("*.py", "*.j2", "*.cmake") if path.parts[0] != "tests"}
    unused = [
        path.as_posix()
        for path in project_files()
        if path.parts[0] == "templates"
        if not any(path.stem.removesuffix(".cmake") in text for other, text in sources.items() if other != path)
    ]
    assert not unused


def test_nothing_points_at_one_machine_or_at_a_package_index() -> None:
    workplaces = ("/" + "work/", "/" + "home/[a-z]", "/" + "opt/(?!rocm|intel|cuda)", "//[a-z.-]+/" + "simple")
    words = re.compile("|".join(workplaces))
    found = [
        f"{path}:{number}: {line.strip()[:100]}"
        for path in project_files()
        if path.suffix not in {".png", ".gz"}
        for number, line in enumerate(read(path).splitlines(), 1)
        if words.search(line)
    ]
    assert not found


def test_nothing_is_left_for_later() -> None:
    words = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
    found = [
        f"{path}:{number}"
        for path in project_files("*.py", "*.h", "*.cpp", "*.cmake", "*.j2", "*.sh", "*.md", "*.toml", "Makefile")
        for number, line in enumerate(read(path).splitlines(), 1)
        if words.search(line)
    ]
    assert not found


def test_decisions_are_numbered_without_gaps() -> None:
    records = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    for record in records:
        number = int(record.name[:4])
        text = record.read_text(encoding="utf-8")
        assert text.startswith(f"# {number}. "), record.name
        for heading in ("## Context", "## Decision", "## Consequences"):
            assert heading in text, f"{record.name} lacks `{heading}`"
