"""Who may do what: tokens, private repositories, organisations; and what everybody is told otherwise."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import httpx2 as httpx
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from tests.registry.process import READ_TOKEN, WRITE_TOKEN, RegistryProcess

ADMIN, AUTHOR, READER = "token-of-an-admin", "token-of-an-author", "token-of-a-reader"
ADDITION = CommitOperationAdd


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    """Serve a site with an admin, an author of one organisation, a reader, and strangers who may read."""
    rows = (
        ("admin", ADMIN, 'access = "write"'),
        ("author", AUTHOR, 'access = "write"\nnamespaces = ["lab", "author"]'),
    )
    text = "".join(
        f'[[token]]\nuser = "{user}"\nsha256 = "{hashlib.sha256(token.encode()).hexdigest()}"\n{rest}\n'
        for user, token, rest in (*rows, ("reader", READER, ""))
    )
    text += '[organization.lab]\nfull-name = "The Lab"\n[organization.lab.members]\nauthor = "write"\nreader = "read"\n'
    text += "[organization.strangers]\ntrusted = false\n"
    folder = tmp_path_factory.mktemp("site")
    (folder / "tokens.toml").write_text(text, encoding="utf-8")
    options = ("--token-file", str(folder / "tokens.toml"))
    with RegistryProcess(folder / "registry", options, tokens=False) as running:
        running.api(ADMIN).create_repo("lab/open", repo_type="kernel")
        running.api(ADMIN).create_repo("lab/secret", repo_type="kernel", private=True)
        running.api(ADMIN).create_repo("elsewhere/open", repo_type="kernel")
        running.api(ADMIN).create_repo("elsewhere/secret", repo_type="kernel", private=True)
        yield running


def add_file(api: HfApi, name: str, **options: bool) -> None:
    api.create_commit(name, [ADDITION("a", b"1")], commit_message="add", repo_type="kernel", **options)  # type: ignore[call-overload]  # one boolean


def status_of(error: pytest.ExceptionInfo[HfHubHTTPError]) -> int:
    return error.value.response.status_code


def test_who_is_who(site: RegistryProcess) -> None:
    author = site.api(AUTHOR).whoami()
    assert author["name"] == "author"
    assert author["auth"]["accessToken"]["role"] == "write"
    assert [(org["name"], org["fullname"], org["roleInOrg"]) for org in author["orgs"]] == [("lab", "The Lab", "write")]
    assert site.api(READER).whoami()["auth"]["accessToken"]["role"] == "read"
    members = list(site.api(READER).list_organization_members("lab"))
    assert [(member.username, vars(member)["role"]) for member in members] == [("author", "write"), ("reader", "read")]
    assert vars(site.api(READER).get_organization_overview("lab"))["trustedKernelPublisher"] is True
    assert vars(site.api(READER).get_organization_overview("strangers"))["trustedKernelPublisher"] is False
    with pytest.raises(HfHubHTTPError) as unknown:
        site.api(READER).get_organization_overview("nobody")
    assert status_of(unknown) == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize("token", ["hf_wrong", READ_TOKEN, f"{ADMIN} ", f"{ADMIN}\u00e9".encode().decode("latin-1")])
def test_a_wrong_token_is_refused_even_for_what_anybody_may_read(site: RegistryProcess, token: str) -> None:
    url = f"{site.endpoint}/api/kernels/lab/open/refs"
    raw = [(b"Authorization", b"Bearer " + token.strip().encode("latin-1") + (b"x" if token.endswith(" ") else b""))]
    answer = httpx.get(url, headers=raw)
    assert answer.status_code == HTTPStatus.UNAUTHORIZED
    assert answer.headers["X-Error-Message"] == "Invalid credentials in Authorization header"
    assert token.strip() not in answer.text


@pytest.mark.parametrize("token", [READER, AUTHOR, False])
def test_writing_takes_a_token_that_may_write_there(site: RegistryProcess, token: str | bool) -> None:
    api, name = site.api(token), "elsewhere/open"
    expected = HTTPStatus.FORBIDDEN if token else HTTPStatus.UNAUTHORIZED
    for attempt in (
        lambda: add_file(api, name),
        lambda: api.create_branch(name, branch="v1", repo_type="kernel"),
        lambda: api.create_tag(name, tag="t", repo_type="kernel"),
        lambda: api.delete_repo(name, repo_type="kernel"),
        lambda: api.create_repo("elsewhere/new", repo_type="kernel"),
        lambda: api.move_repo(name, "author/mine", repo_type="kernel"),
    ):
        with pytest.raises(HfHubHTTPError) as refused:
            attempt()
        assert status_of(refused) == expected
    refs = site.api(ADMIN).list_repo_refs(name, repo_type="kernel")
    assert [branch.name for branch in refs.branches] == ["main"]
    assert not refs.tags


def test_an_author_writes_where_the_token_says_and_proposes_elsewhere(site: RegistryProcess) -> None:
    api = site.api(AUTHOR)
    add_file(api, "lab/open")
    assert api.create_repo("mine", repo_type="kernel").repo_id == "author/mine"
    assert api.create_repo("elsewhere/open", repo_type="kernel", exist_ok=True).repo_id == "elsewhere/open"
    before = api.repo_info("elsewhere/open", repo_type="kernel").sha
    add_file(api, "elsewhere/open", create_pr=True)
    assert api.repo_info("elsewhere/open", repo_type="kernel").sha == before
    with pytest.raises(HfHubHTTPError) as refused:
        add_file(site.api(READER), "elsewhere/open", create_pr=True)
    assert status_of(refused) == HTTPStatus.FORBIDDEN


def test_a_private_repository_is_as_if_it_were_not(site: RegistryProcess) -> None:
    for token, hidden in ((ADMIN, set()), (READER, set()), (AUTHOR, {"elsewhere"}), (False, {"lab", "elsewhere"})):
        api = site.api(token)
        listed = httpx.get(f"{site.endpoint}/api/kernels", headers=api._build_hf_headers()).json()
        assert {row["id"].partition("/")[0] for row in listed if row["private"]} == {"lab", "elsewhere"} - hidden
        for namespace in ("lab", "elsewhere"):
            if namespace not in hidden:
                assert api.repo_info(f"{namespace}/secret", repo_type="kernel").private
                continue
            errors = []
            for name in (f"{namespace}/secret", f"{namespace}/missing"):
                with pytest.raises(RepositoryNotFoundError) as missing:
                    api.repo_info(name, repo_type="kernel")
                errors.append((missing.value.response.status_code, missing.value.response.text.replace(name, "")))
            assert errors[0] == errors[1]


def test_with_a_token_for_readers_nothing_is_read_without(shared: RegistryProcess, kernel: str) -> None:
    assert shared.api(READ_TOKEN).repo_info(kernel, repo_type="kernel").id == kernel
    with pytest.raises(RepositoryNotFoundError):
        shared.api(token=False).repo_info(kernel, repo_type="kernel")
    with pytest.raises(HfHubHTTPError):
        shared.api(token=False).get_organization_overview("tests")


def test_no_token_is_kept_or_told(shared: RegistryProcess, kernel: str) -> None:
    add_file(shared.api(), kernel)
    for path in shared.root.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert WRITE_TOKEN.encode() not in content
            assert READ_TOKEN.encode() not in content


def test_everybody_may_write_to_an_open_registry(open_registry: RegistryProcess, tmp_path: Path) -> None:
    for token in (False, "hf_whatever"):
        api = open_registry.api(token)
        api.create_repo("me/relu", repo_type="kernel", exist_ok=True)
        add_file(api, "me/relu")
    assert open_registry.api("hf_whatever").whoami()["name"] == "local"
    del tmp_path


def test_a_page_in_a_browser_does_not_write(open_registry: RegistryProcess) -> None:
    """A registry that asks for no token is still not everybody's whom a browser on the machine talks to."""
    cases: tuple[tuple[dict[str, str], bool], ...] = (
        ({}, True),
        ({"Host": "localhost:1"}, True),
        ({"Host": "[::1]"}, True),
        ({"Host": "attacker.example"}, False),
        ({"Host": "192.168.1.1"}, False),
        ({"Origin": "https://attacker.example"}, False),
        ({"Origin": "null"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
    )
    for number, (headers, allowed) in enumerate(cases):
        body = {"name": f"relu-{number}", "organization": "me", "type": "kernel"}
        answer = httpx.post(f"{open_registry.endpoint}/api/repos/create", json=body, headers=headers)
        assert answer.status_code == (HTTPStatus.OK if allowed else HTTPStatus.FORBIDDEN)
        assert (open_registry.root / "repositories" / "kernels" / "me" / f"relu-{number}").exists() is allowed


@pytest.mark.parametrize("host", ["", "a b", "[::", "a/b", "a@b", "\u00e9", "a:b", "a:123456"])
def test_hosts_that_are_none(shared: RegistryProcess, host: str) -> None:
    raw = [(b"Host", host.encode("latin-1")), (b"Authorization", f"Bearer {WRITE_TOKEN}".encode())]
    answer = httpx.get(f"{shared.endpoint}/api/kernels", headers=raw)
    assert answer.status_code == HTTPStatus.BAD_REQUEST
