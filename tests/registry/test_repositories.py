"""Repositories as wholes: making, moving, listing, describing and deleting them; branches, tags and histories."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

import httpx2 as httpx
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from tests.registry.process import WRITE_TOKEN, RegistryProcess

CARD = "---\ntags: [kernel, attention]\nlicense: apache-2.0\nlibrary_name: kernels\n---\n# Attention\n"
AUTHORIZED = {"Authorization": f"Bearer {WRITE_TOKEN}"}


def add(api: HfApi, name: str, kind: str, path: str, text: str, *, revision: str | None = None) -> str:
    addition = CommitOperationAdd(path, text.encode())
    done = api.create_commit(name, [addition], commit_message=f"add {path}", repo_type=kind, revision=revision)
    return done.oid


def test_a_name_is_taken_once_in_every_spelling(shared: RegistryProcess) -> None:
    api = shared.api()
    for kind in ("kernel", "model", "dataset"):
        url = api.create_repo("Names/Taken", repo_type=kind)
        assert (url.repo_type, url.repo_id) == (kind, "Names/Taken")
        with pytest.raises(HfHubHTTPError) as refused:
            api.create_repo("names/TAKEN", repo_type=kind)
        assert refused.value.response.status_code == HTTPStatus.CONFLICT
        assert api.repo_info("names/taken", repo_type=kind).id == "Names/Taken"  # shown the way
        api.delete_repo("Names/Taken", repo_type=kind)
        with pytest.raises(RepositoryNotFoundError):
            api.repo_info("Names/Taken", repo_type=kind)
        api.delete_repo("Names/Taken", repo_type=kind, missing_ok=True)


@pytest.mark.parametrize(
    ("organization", "name"),
    [
        ("..", "x"),
        ("org", ".."),
        ("org", "a/../../b"),
        ("org", "x.git"),
        ("api", "x"),
        ("org", "é"),
        ("org", "a\0b"),
        ("org", ""),
        ("org", "a" * 97),
        (3, "x"),
        ("org", None),
        ("org", "CON:"),
        ("org\n", "x"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(shared: RegistryProcess, organization: object, name: object) -> None:
    before = sorted(shared.root.rglob("*"))
    body = {"organization": organization, "name": name, "type": "kernel"}
    answer = httpx.post(f"{shared.endpoint}/api/repos/create", json=body, headers=AUTHORIZED)
    assert answer.status_code == HTTPStatus.BAD_REQUEST
    assert sorted(shared.root.rglob("*")) == before


def test_a_repository_moves_and_its_old_name_shows_the_way(shared: RegistryProcess, tmp_path: Path) -> None:
    api = shared.api()
    api.create_repo("moves/old", repo_type="kernel")
    add(api, "moves/old", "kernel", "a", "1")
    api.move_repo("moves/old", "moves/new", repo_type="kernel")
    for name in ("moves/new", "moves/old"):
        path = api.hf_hub_download(name, "a", repo_type="kernel", cache_dir=tmp_path / name)
        assert Path(path).read_text(encoding="utf-8") == "1"
    add(api, "moves/old", "kernel", "b", "2")  # a redirect that keeps the body
    assert len(list(api.list_repo_tree("moves/new", repo_type="kernel"))) == 3
    api.create_repo("moves/old", repo_type="kernel")  # the name is free again
    assert [entry.path for entry in api.list_repo_tree("moves/old", repo_type="kernel")] == [".gitattributes"]
    with pytest.raises(HfHubHTTPError) as refused:
        api.move_repo("moves/new", "moves/old", repo_type="kernel")
    assert refused.value.response.status_code == HTTPStatus.CONFLICT
    api.move_repo("moves/new", "moves/New", repo_type="kernel")
    assert api.repo_info("moves/new", repo_type="kernel").id == "moves/New"


def test_listing_and_searching(shared: RegistryProcess) -> None:
    api = shared.api()
    for name, card in (
        ("lists/attention", CARD),
        ("lists/relu", "---\ntags: kernel\n---\n"),
        ("lists/other", "---\ntags: [relu]\n---\n"),
    ):
        api.create_repo(name, repo_type="model")
        add(api, name, "model", "README.md", card)
    api.create_repo("lists/hidden", repo_type="model", private=True)

    def names(**query: object) -> list[str]:
        return [model.id for model in api.list_models(author="lists", **query)]  # type: ignore[arg-type]  # any query

    assert names(filter="kernel") == ["lists/attention", "lists/relu"]
    assert names(filter=["kernel", "license:apache-2.0"]) == ["lists/attention"]
    assert names(search="OTH") == ["lists/other"]
    assert names(limit=1) == ["lists/attention"]
    assert names() == ["lists/attention", "lists/hidden", "lists/other", "lists/relu"]
    (model,) = api.list_models(author="lists", search="attention", full=True)
    assert model.siblings is not None
    assert [sibling.rfilename for sibling in model.siblings] == [".gitattributes", "README.md"]


def test_what_a_card_says_is_told(shared: RegistryProcess) -> None:
    api = shared.api()
    api.create_repo("cards/attention", repo_type="model")
    add(api, "cards/attention", "model", "README.md", CARD)
    info = api.model_info("cards/attention", files_metadata=True)
    assert info.tags == ["kernel", "attention", "kernels", "license:apache-2.0"]
    assert info.library_name == "kernels"
    assert info.card_data is not None
    assert info.card_data["license"] == "apache-2.0"
    assert info.siblings is not None
    assert {sibling.rfilename: sibling.size for sibling in info.siblings}["README.md"] == len(CARD)


@pytest.mark.parametrize(
    "card",
    ["---\n[\n---\n", "---\na: &x [1]\nb: *x\n---\n", "---\n- 1\n---\n", "---\n!!python/object:os.system {}\n---\n"],
)
def test_metadata_that_cannot_be_read(shared: RegistryProcess, card: str) -> None:
    api = shared.api()
    name = "cards/broken"
    api.create_repo(name, repo_type="kernel", exist_ok=True)
    with pytest.raises(ValueError, match=r"Invalid metadata in README\.md"):
        add(api, name, "kernel", "README.md", card)
    answer = httpx.get(f"{shared.endpoint}/api/kernels/{name}", headers=AUTHORIZED)
    assert answer.is_success


def test_visibility_can_change(shared: RegistryProcess) -> None:
    api = shared.api()
    api.create_repo("visible/model", repo_type="model")
    api.update_repo_settings("visible/model", private=True)
    assert api.model_info("visible/model").private is True
    api.auth_check("visible/model", write=True)
    with pytest.raises(BadRequestError):
        api.update_repo_settings("visible/model", gated="auto")


def test_branches_and_tags(shared: RegistryProcess, kernel: str) -> None:
    api = shared.api()
    first = add(api, kernel, "kernel", "a", "1")
    api.create_branch(kernel, branch="v1", repo_type="kernel")
    api.create_branch(kernel, branch="v1", repo_type="kernel", exist_ok=True)
    second = add(api, kernel, "kernel", "a", "2", revision="v1")
    api.create_branch(kernel, branch="v2", revision=first, repo_type="kernel")
    api.create_tag(kernel, tag="1.0", revision="v1", tag_message="the first", repo_type="kernel")
    api.create_tag(kernel, tag="1.0", repo_type="kernel", exist_ok=True)
    refs = api.list_repo_refs(kernel, repo_type="kernel")
    assert {branch.name: branch.target_commit for branch in refs.branches} == {"main": first, "v1": second, "v2": first}
    assert [(tag.name, tag.ref, tag.target_commit) for tag in refs.tags] == [("1.0", "refs/tags/1.0", second)]
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_branch(kernel, branch="v1", repo_type="kernel")
    assert refused.value.response.status_code == HTTPStatus.CONFLICT
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_tag(kernel, tag="1.0", repo_type="kernel")
    assert refused.value.response.status_code == HTTPStatus.CONFLICT
    api.delete_tag(kernel, tag="1.0", repo_type="kernel")
    api.delete_branch(kernel, branch="v1", repo_type="kernel")
    with pytest.raises(RevisionNotFoundError):
        api.delete_branch(kernel, branch="v1", repo_type="kernel")
    with pytest.raises(BadRequestError):
        api.delete_branch(kernel, branch="main", repo_type="kernel")
    with pytest.raises(RevisionNotFoundError):
        api.create_branch(kernel, branch="v3", revision="nowhere", repo_type="kernel")
    assert api.repo_info(kernel, repo_type="kernel", revision=second).sha == second  # a commit outlives its branch


@pytest.mark.parametrize("name", ["a..b", "refs/heads/x", "x.lock", "a b", "é", "%2e%2e%2fx", "0" * 40])
def test_names_that_no_branch_may_have(shared: RegistryProcess, kernel: str, name: str) -> None:
    with pytest.raises(BadRequestError):
        shared.api().create_branch(kernel, branch=name, repo_type="kernel")
    with pytest.raises(BadRequestError):
        shared.api().create_tag(kernel, tag=name, repo_type="kernel")


def test_a_history_is_told_and_squashed(shared: RegistryProcess) -> None:
    api, name = shared.api(), "history/model"
    api.create_repo(name, repo_type="model")
    oids = [add(api, name, "model", "a", str(number)) for number in range(51)]
    commits = api.list_repo_commits(name)
    assert [commit.commit_id for commit in commits[:-1]] == oids[::-1]
    assert (commits[-1].title, commits[0].authors) == ("initial commit", ["writer"])
    api.super_squash_history(name, commit_message="all in one")
    assert [commit.title for commit in api.list_repo_commits(name)] == ["all in one"]
    assert len(list(api.list_repo_tree(name))) == 2
