"""Discussions and pull requests through the Hub's client, which knows them for models, and commits for kernels."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from itertools import count
from typing import Any

import httpx2 as httpx
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, DiscussionComment, HfApi
from huggingface_hub.errors import BadRequestError, EntryNotFoundError, HfHubHTTPError

from tests.registry.process import WRITE_TOKEN, RegistryProcess

_NUMBERS = count()


@pytest.fixture
def model(shared: RegistryProcess) -> str:
    name = f"pulls/model-{next(_NUMBERS)}"
    shared.api().create_repo(name)
    shared.api().upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id=name)
    return name


def propose(api: HfApi, model: str, path: str, text: str, **options: Any) -> int:
    addition = CommitOperationAdd(path, text.encode())
    done = api.create_commit(model, [addition], commit_message=f"change {path}", create_pr=True, **options)
    assert done.pr_num is not None
    return int(done.pr_num)


def paths(api: HfApi, model: str, revision: str | None = None) -> list[str]:
    return [entry.path for entry in api.list_repo_tree(model, revision=revision)]


def test_a_proposal_is_looked_at_and_merged(shared: RegistryProcess, model: str) -> None:
    api = shared.api()
    number = propose(api, model, "b", "2", commit_description="it is needed")
    assert paths(api, model) == [".gitattributes", "a"]
    assert paths(api, model, f"refs/pr/{number}") == [".gitattributes", "a", "b"]
    refs = api.list_repo_refs(model, include_pull_requests=True)
    assert refs.pull_requests is not None
    assert [pull.ref for pull in refs.pull_requests] == [f"refs/pr/{number}"]
    details = api.get_discussion_details(model, number)
    assert (details.title, details.status, details.target_branch) == ("change b", "open", "refs/heads/main")
    assert (details.conflicting_files, details.diff) == ([], "A b (1 bytes)")
    assert [event.type for event in details.events] == ["comment", "commit"]
    api.create_commit(model, [CommitOperationDelete("a")], commit_message="and less", revision=f"refs/pr/{number}")
    api.upload_file(path_or_fileobj=b"3", path_in_repo="c", repo_id=model)  # meanwhile, on main
    api.merge_pull_request(model, number, comment="thanks")
    assert paths(api, model) == [".gitattributes", "b", "c"]
    merged = api.get_discussion_details(model, number)
    assert (merged.status, merged.merge_commit_oid) == ("merged", api.repo_info(model).sha)
    for again in (number, 99):
        with pytest.raises((BadRequestError, EntryNotFoundError)):
            api.merge_pull_request(model, again)


def test_proposals_that_contradict_are_not_merged(shared: RegistryProcess, model: str) -> None:
    api = shared.api()
    number = propose(api, model, "a", "mine")
    api.upload_file(path_or_fileobj=b"theirs", path_in_repo="a", repo_id=model)
    assert api.get_discussion_details(model, number).conflicting_files == ["a"]
    head = api.repo_info(model).sha
    with pytest.raises(HfHubHTTPError) as refused:
        api.merge_pull_request(model, number)
    assert refused.value.response.status_code == HTTPStatus.CONFLICT
    assert api.repo_info(model).sha == head


def test_discussions(shared: RegistryProcess, model: str) -> None:
    api = shared.api()
    talk = api.create_discussion(model, "How fast is it?", description="I wonder.")
    draft = api.create_pull_request(model, "Make it faster")
    assert (talk.status, draft.status, draft.is_pull_request) == ("open", "draft", True)
    comment = api.comment_discussion(model, talk.num, "Quite fast.")
    assert isinstance(comment, DiscussionComment)
    assert comment.content == "Quite fast."
    assert api.rename_discussion(model, talk.num, "How fast?").new_title == "How fast?"
    assert api.change_discussion_status(model, talk.num, "closed").new_status == "closed"
    listed = {found.num: (found.title, found.status) for found in api.get_repo_discussions(model)}
    assert listed == {talk.num: ("How fast?", "closed"), draft.num: ("Make it faster", "draft")}
    pulls = api.get_repo_discussions(model, discussion_type="pull_request", discussion_status="open")
    assert [found.num for found in pulls] == [draft.num]
    refused: list[Callable[[], object]] = [
        lambda: api.create_discussion(model, "x"),
        lambda: api.comment_discussion(model, 77, "nobody reads this"),
        lambda: api.rename_discussion(model, talk.num, ""),
    ]
    for attempt in refused:
        with pytest.raises((BadRequestError, EntryNotFoundError)):
            attempt()


def test_a_proposal_for_a_version_of_a_kernel(shared: RegistryProcess, kernel: str) -> None:
    api = shared.api()
    api.create_branch(kernel, branch="v1", repo_type="kernel")
    number = propose(api, kernel, "build/x.py", "1", repo_type="kernel", revision="v1")
    url = f"{shared.endpoint}/api/kernels/{kernel}/discussions/{number}"
    headers = {"Authorization": f"Bearer {WRITE_TOKEN}"}
    assert httpx.get(url, headers=headers).json()["changes"] == {"base": "refs/heads/v1"}
    assert httpx.post(f"{url}/merge", headers=headers).is_success
    assert [entry.path for entry in api.list_repo_tree(kernel, "build", repo_type="kernel", revision="v1")]
    assert len(list(api.list_repo_tree(kernel, repo_type="kernel"))) == 1
