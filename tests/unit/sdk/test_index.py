"""Pages of the Simple API, and directories that take their place."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from kernel_builder.errors import BadInputError, FetchError
from kernel_builder.host import HostPlatform
from kernel_builder.progress import ignore_progress
from kernel_builder.sdk.connections import Connections, redact_url, split_url
from kernel_builder.sdk.index import Link, list_links, parse_page, probe_default_index
from kernel_builder.sdk.settings import IndexSettings
from kernel_builder.sdk.slicing import open_source
from kernel_builder.sdk.store import Store
from kernel_builder.sdk.torch_slice import choose_link
from kernel_builder.sdk.transport import Page, Transport
from kernel_builder.sdk.wheel import TorchNeed
from kernel_builder.version import MinorVersion

SHA256 = "ab" * 32
BASE = "https://box/s/torch/"


def parse(body: str, content_type: str = "text/html") -> list[Link]:
    return parse_page(Page(BASE, content_type, body.encode()))


def test_html_with_relative_links_hashes_and_withdrawn_files() -> None:
    links = parse(
        f'<a href="../../files/torch-2.0-py3-none-any.whl#sha256={SHA256.upper()}&amp;egg=x">a</a>'
        '<a href="https://cdn/torch-2.1%2Bcpu-py3-none-any.whl" data-yanked="bad">b</a>'
        "<a>no address</a><a href='http://['>broken</a>"
    )
    assert links == [
        Link("https://box/files/torch-2.0-py3-none-any.whl", "torch-2.0-py3-none-any.whl", SHA256),
        Link("https://cdn/torch-2.1%2Bcpu-py3-none-any.whl", "torch-2.1+cpu-py3-none-any.whl", yanked=True),
    ]


def test_html_may_name_its_base() -> None:
    (link,) = parse('<base href="https://elsewhere/d/"><a href="torch-2.0-py3-none-any.whl#md5=12">a</a>')
    assert link == Link("https://elsewhere/d/torch-2.0-py3-none-any.whl", "torch-2.0-py3-none-any.whl")


def test_json_with_sizes() -> None:
    files: list[dict[str, Any]] = [
        {"filename": "torch-2.0-py3-none-any.whl", "url": "a.whl", "hashes": {"sha256": SHA256}, "size": 12},
        {"filename": "torch-2.1-py3-none-any.whl", "url": "b.whl", "hashes": {"sha256": "x"}, "yanked": "why"},
    ]
    links = parse(json.dumps({"files": files}), "application/vnd.pypi.simple.v1+json")
    assert links[0] == Link(f"{BASE}a.whl", files[0]["filename"], SHA256, 12)
    assert (links[1].sha256, links[1].size, links[1].yanked) == (None, None, True)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("{", "application/json"),
        ("[]", "application/json"),
        ('{"files": 3}', "application/vnd.pypi.simple.v1+json"),
        ('{"files": [{"url": 1}]}', "application/vnd.pypi.simple.v1+json"),
        ("PK", "application/zip"),
    ],
)
def test_what_is_no_page_of_an_index_is_refused(body: str, content_type: str) -> None:
    with pytest.raises(FetchError, match="is not a package index"):
        parse(body, content_type)


def list_from(settings: IndexSettings) -> list[str]:
    return [link.filename for link in list_links("torch", settings, Transport(settings), listener=ignore_progress)]


def test_directories_stand_in_for_an_index(tmp_path: Path) -> None:
    names = ["torch-2.1-py3-none-any.whl", "torch_geometric-1.0-py3-none-any.whl", "torch-2.1.tar.gz"]
    for folder in ("wheels", "index/torch"):
        (tmp_path / folder).mkdir(parents=True)
    for name in names:
        (tmp_path / "wheels" / name).touch()
    (tmp_path / "index/torch/index.html").write_text('<a href="../../w/torch-2.2-py3-none-any.whl">x</a>')
    index, wheels = (tmp_path / "index").as_uri(), str(tmp_path / "wheels")
    settings = IndexSettings((index,), has_default=False, find_links=(wheels,))
    assert list_from(settings) == ["torch-2.2-py3-none-any.whl", "torch-2.1-py3-none-any.whl"]
    assert list_from(IndexSettings((str(tmp_path / "gone"),), has_default=False)) == []


def test_pip_knows_the_default_index() -> None:
    default = probe_default_index()
    assert default is not None
    assert urlsplit(default).scheme == "https"


def test_nothing_secret_is_shown() -> None:
    assert redact_url("https://anna:secret@box:8/s/?token=1#x") == "https://box:8/s/"
    assert "secret" not in redact_url("https://anna:secret@[box/")


@pytest.mark.parametrize("url", ["ftp://box/s", "https://", "https://box:port/s", "http://[", "https://u:secret@/x"])
def test_addresses_that_are_none_are_refused(url: str) -> None:
    with pytest.raises(BadInputError) as raised:
        split_url(url)
    assert "secret" not in str(raised.value)


def test_credentials_belong_to_scheme_host_and_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    settings = IndexSettings(("https://anna:a%40b@box/s",), logins=(("https://uv-box:8/s", "u", "p"),))
    connections = Connections(settings)
    assert connections.find_login(urlsplit("https://box:443/files/x.whl")) == ("anna", "a@b")
    assert connections.find_login(urlsplit("https://uv-box:8/other")) == ("u", "p")
    assert connections.find_login(urlsplit("http://box/files/x.whl")) is None
    assert connections.find_login(urlsplit("https://box:8443/files/x.whl")) is None
    assert connections.find_login(urlsplit("https://own:word@box/x")) == ("own", "word")


def test_plain_http_is_for_this_machine_and_for_trusted_hosts() -> None:
    connections = Connections(IndexSettings(trusted_hosts=("box",)))
    connections.open("http", "127.0.0.1:8000")
    connections.open("http", "box:80")
    with pytest.raises(FetchError, match="over plain HTTP"):
        connections.open("http", "elsewhere")


def test_a_proxy_is_taken_from_the_configuration_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    named = Connections(IndexSettings(proxy="http://anna:secret@proxy:3128")).open("https", "box")
    assert named.proxy is not None
    assert (named.proxy.host, named.proxy.port) == ("proxy", 3128)
    monkeypatch.setenv("https_proxy", "http://other:1")
    monkeypatch.setenv("no_proxy", "near")
    connections = Connections(IndexSettings())
    assert connections.open("https", "near").proxy is None
    assert connections.open("https", "127.0.0.1:8000").proxy is None
    found = connections.open("https", "box").proxy
    assert found is not None
    assert found.host == "other"
    with pytest.raises(BadInputError, match="of a kind that is not supported"):
        Connections(IndexSettings(proxy="socks5://proxy:1")).open("https", "box")


def test_authorities_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate", encoding="utf-8")
    for name in ("ca.pem", "gone.pem"):
        with pytest.raises(BadInputError, match=f"the certificates in `.*{name}` cannot be read"):
            Connections(IndexSettings(certificate=tmp_path / name)).open("https", "box")


def test_an_index_that_failed_may_have_what_the_others_lack(tmp_path: Path) -> None:
    (tmp_path / "torch-2.1-py3-none-any.whl").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}/simple"
        settings = IndexSettings((closed,), has_default=False, find_links=(str(tmp_path),), retries=0)
        store = Store(tmp_path / "cache", ignore_progress)
        with (
            pytest.raises(FetchError, match="cannot reach") as raised,
            open_source(settings, store, None, ignore_progress, "fetch") as source,
        ):
            choose_link(source, TorchNeed(MinorVersion(2, 2), HostPlatform("x86_64", "linux")))
    assert "there is no torch 2.2 on the index" in raised.value.problems[-1].message
    assert raised.value.problems[-1].hint == "an index that failed may have it: try again"
