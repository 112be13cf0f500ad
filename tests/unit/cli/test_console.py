from __future__ import annotations

import json
import subprocess
import sys

import pytest

from kernel_builder.cli.console import Console, escape_unprintable
from kernel_builder.errors import BadInputError, Location, Problem

TWO_PROBLEMS = BadInputError(
    [
        Problem("`x` is not known", Location("build.toml", 3, "general.x"), "did you mean `name`?"),
        Problem("`y` is missing"),
    ]
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain `name` [bold]é[/bold]\n\ttab", "plain `name` [bold]é[/bold]\n\ttab"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("over\rwritten", "over\\rwritten"),
        ("right\u202eto left", "right\\u202eto left"),
        ("\udcff", "\\udcff"),
        ("bell\x07 \x9b31m", "bell\\x07 \\x9b31m"),
    ],
)
def test_nothing_in_a_text_can_drive_the_terminal(text: str, shown: str) -> None:
    assert escape_unprintable(text) == shown


def test_an_error_is_told_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Console().show_error(TWO_PROBLEMS)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "error: `x` is not known\n  --> build.toml:3, at general.x\n\nhint: did you mean `name`?\n\n"
        "error: `y` is missing\n\n2 problems\n"
    )


def test_an_error_is_a_document_too(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(as_json=True)
    console.command = "check"
    console.show_error(TWO_PROBLEMS)
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    assert document["error"]["kind"] == "bad-input"
    assert document["error"]["exit-code"] == 2
    assert document["error"]["problems"] == [
        {
            "message": "`x` is not known",
            "file": "build.toml",
            "line": 3,
            "key": "general.x",
            "hint": "did you mean `name`?",
        },
        {"message": "`y` is missing", "file": None, "line": None, "key": None, "hint": None},
    ]


def test_stdout_holds_one_document_only(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(as_json=True)
    console.write("text")
    console.write_table(("a",), [("b",)])
    console.write_json({"value": 1}, ok=False)
    console.show_error(TWO_PROBLEMS)
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "command": "", "ok": False, "value": 1}


def test_quiet_leaves_errors_and_data(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.quiet = True
    console.say("talk")
    console.warn("a warning")
    console.write("data")
    console.show_error(BadInputError("wrong"))
    captured = capsys.readouterr()
    assert captured.out == "data\n"
    assert captured.err == "error: wrong\n"


def test_a_table_in_a_pipe_is_neither_cut_nor_padded(capsys: pytest.CaptureFixture[str]) -> None:
    Console().write_table(("name", "path"), [("a", "x" * 500), ("long name", "")])
    assert capsys.readouterr().out == f"name       path\na          {'x' * 500}\nlong name\n"


def test_markup_of_a_user_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    Console().write("[red]not red[/red] :smile:")
    assert capsys.readouterr().out == "[red]not red[/red] :smile:\n"


SHOW_AN_ERROR = "from kernel_builder.cli import main; raise SystemExit(main(['check', 'nowhere']))"


@pytest.mark.parametrize(
    ("variables", "has_color"),
    [
        ({}, False),
        ({"CLICOLOR_FORCE": "1"}, True),
        ({"FORCE_COLOR": "1"}, True),
        ({"CLICOLOR_FORCE": "0"}, False),
        ({"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, False),
        ({"CLICOLOR_FORCE": "1", "NO_COLOR": ""}, True),
    ],
)
def test_color_follows_the_environment(
    variables: dict[str, str], has_color: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "CLICOLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    completed = subprocess.run([sys.executable, "-c", SHOW_AN_ERROR], capture_output=True, text=True, check=False)
    assert ("\x1b[" in completed.stderr) is has_color


def test_an_ascii_terminal_gets_escapes_not_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    script = "from kernel_builder.cli import main; raise SystemExit(main(['check', 'naïve-✓']))"
    completed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert completed.returncode == 2
    assert "na\\xefve-\\u2713" in completed.stderr
