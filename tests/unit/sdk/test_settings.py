"""What pip's, uv's and our own configuration say of where packages come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from kernel_builder.errors import BadInputError
from kernel_builder.sdk.settings import IndexSettings, VariantIndex, load_settings

Load = Callable[..., IndexSettings]
PIP_FILE = ".config/pip/pip.conf"


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load settings as in a home of one's own; `files` are written below it."""

    def run(environ: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None) -> IndexSettings:
        home = tmp_path / "home"
        for name, text in (files or {}).items():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_text(text, encoding="utf-8")
        nowhere = str(tmp_path / "nowhere")
        own = {"HOME": str(home), "XDG_CONFIG_DIRS": nowhere, "VIRTUAL_ENV": nowhere, "XDG_CONFIG_HOME": ""}
        if PIP_FILE not in (files or {}):  # what a file of the user says wins over what the machine says
            own["PIP_CONFIG_FILE"] = "/dev/null"
        own["UV_CONFIG_FILE"] = str(home / "uv.toml")
        own["KERNEL_BUILDER_CONFIG"] = str(home / "own.toml")
        (home / "own.toml").parent.mkdir(parents=True, exist_ok=True)
        (home / "own.toml").touch()
        return load_settings({**own, **(environ or {})}, directory=home)

    return run


def test_without_any_configuration_pips_own_index_counts(load: Load) -> None:
    settings = load()
    assert settings.has_default
    assert settings.indexes == ()
    assert settings.find_links == ()


def test_pips_file_is_read(load: Load) -> None:
    text = (
        "[global]\nindex-url = https://main/s\nextra-index-url =\n    https://more/s\n    file:///local/s\n"
        "find_links = /wheels\ntrusted-host = main\n[install]\ntimeout = 7\ncert = /ca.pem\n[list]\nindex-url = x\n"
    )
    settings = load(files={PIP_FILE: text})
    assert settings.indexes[:3] == ("https://main/s", "https://more/s", "file:///local/s")
    assert not settings.has_default
    assert "/wheels" in settings.find_links
    assert settings.certificate == Path("/ca.pem")
    assert settings.timeout == 7.0
    assert settings.trusted_hosts == ("main",)


def test_variables_of_pip_win_over_its_files(load: Load) -> None:
    environ = {
        "PIP_INDEX_URL": "https://env/s",
        "PIP_CERT": "/env.pem",
        "PIP_DEFAULT_TIMEOUT": "30",
        "PIP_PROXY": "p:1",
    }
    text = "[global]\nindex-url = https://file/s\ncert = /file.pem\nextra-index-url =\ntimeout =\n"
    settings = load(environ, {PIP_FILE: text})
    assert settings.indexes == ("https://env/s",)
    assert settings.certificate == Path("/env.pem")
    assert settings.timeout == 30.0
    assert settings.proxy == "p:1"


def test_no_index_leaves_links(load: Load) -> None:
    settings = load(
        {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels https://page/w", "PIP_EXTRA_INDEX_URL": "https://x"}
    )
    assert settings.indexes == ()
    assert not settings.has_default
    assert settings.find_links == ("/wheels", "https://page/w")


UV = """
index-url = "https://uv-old/s"
find-links = ["/uv-wheels"]
allow-insecure-host = ["box:8080"]

[[index]]
name = "inner"
url = "https://inner/s"

[[index]]
url = "https://uv-default/s"
default = true

[[index]]
name = "pytorch"
url = "https://only-when-named/s"
explicit = true
"""


def test_uvs_file_is_read(load: Load) -> None:
    settings = load({"UV_INDEX_INNER_USERNAME": "anna", "UV_INDEX_INNER_PASSWORD": "secret"}, {"uv.toml": UV})
    assert settings.indexes == ("https://uv-old/s", "https://inner/s")
    assert settings.find_links == ("/uv-wheels",)
    assert settings.trusted_hosts == ("box:8080",)
    assert settings.logins == (("https://inner/s", "anna", "secret"),)


def test_variables_of_uv_win_over_its_files_and_pip_over_uv(load: Load) -> None:
    environ = {
        "UV_DEFAULT_INDEX": "main=https://uv-env/s",
        "UV_INDEX": "a=https://a/s https://b/s",
        "UV_OFFLINE": "true",
    }
    settings = load(environ, {"uv.toml": UV})
    assert settings.indexes[:3] == ("https://uv-env/s", "https://a/s", "https://b/s")
    assert settings.offline
    settings = load({**environ, "PIP_INDEX_URL": "https://pip/s"}, {"uv.toml": UV})
    assert settings.indexes[0] == "https://pip/s"


def test_a_project_of_uv_is_read(load: Load) -> None:
    text = '[tool.uv]\nindex-url = "https://project/s"\n[tool.uv.pip]\nextra-index-url = ["https://more/s"]\n'
    settings = load({"UV_CONFIG_FILE": ""}, {"pyproject.toml": text})
    assert settings.indexes[:2] == ("https://project/s", "https://more/s")
    assert load({"UV_CONFIG_FILE": "", "UV_NO_CONFIG": "1"}).has_default


def test_a_project_that_cannot_be_read_is_not_ours_to_judge(load: Load) -> None:
    assert load({"UV_CONFIG_FILE": ""}, {"pyproject.toml": "= broken"}).logins == ()


def test_our_own_file_has_indexes_for_variants(load: Load) -> None:
    text = '[sdk]\ncache-dir = "/big/disk"\n[[sdk.index]]\nurl = "https://126/s"\nvariants = ["*-cu126-*"]\n'
    settings = load({"KERNEL_BUILDER_INDEX": "*-rocm*=https://amd/s https://all/s"}, {"own.toml": text})
    assert settings.variant_indexes == (
        VariantIndex("*-rocm*", "https://amd/s"),
        VariantIndex("*", "https://all/s"),
        VariantIndex("*-cu126-*", "https://126/s"),
    )
    assert settings.cache_dir == Path("/big/disk")
    assert settings.list_variant_indexes("torch211-cxx11-cu126-x86_64-linux") == ("https://all/s", "https://126/s")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (PIP_FILE, "no section\n"),
        ("uv.toml", "= broken"),
        ("own.toml", "[sdk"),
        ("own.toml", "[sdk]\nindex = 3\n"),
        ("own.toml", "sdk = 3\n"),
        ("own.toml", '[[sdk.index]]\nvariants = ["*"]\n'),
        ("own.toml", '[[sdk.index]]\nurl = "https://x"\nvariants = "*"\n'),
    ],
)
def test_what_cannot_be_read_is_named(load: Load, name: str, text: str) -> None:
    with pytest.raises(BadInputError) as raised:
        load(files={name: text})
    (problem,) = raised.value.problems
    assert problem.location is not None
    assert problem.location.file.endswith(name)
    assert problem.hint


def test_a_lock_file_may_be_named_for_every_build(load: Load) -> None:
    assert load({"KERNEL_BUILDER_LOCK": "/project/sdk.lock"}).lock_file == Path("/project/sdk.lock")
    assert load().lock_file is None


def test_a_settings_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="there is no settings file"):
        load_settings({"KERNEL_BUILDER_CONFIG": str(tmp_path / "gone.toml")}, directory=tmp_path)


@pytest.mark.parametrize("number", ["soon", "", "-3", "1e9", "nan"])
def test_strange_numbers_do_no_harm(load: Load, number: str) -> None:
    settings = load({"PIP_TIMEOUT": number, "PIP_RETRIES": number})
    assert 0 < settings.timeout <= 3600
    assert 0 <= settings.retries <= 20
