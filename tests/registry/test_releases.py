"""Releases as they are in practice: many variants at once, and one after the other, compared with a model."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoFile
from huggingface_hub.errors import HfHubHTTPError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.registry.process import RegistryProcess

VARIANTS, FILES = 500, 20
_NAMES = count()

PATHS = st.sampled_from(["a", "b", "build/x/a.py", "build/x/b.so", "build/y/a.py", "build", "b/c"])
STEP = st.one_of(
    st.tuples(st.just("add"), st.dictionaries(PATHS, st.binary(max_size=3), min_size=1, max_size=3)),
    st.tuples(st.just("delete"), PATHS),
    st.tuples(st.just("delete folder"), st.sampled_from(["build", "build/x", "b", "nowhere"])),
    st.tuples(st.just("branch"), st.sampled_from(["v1", "v2"])),
    st.tuples(st.just("switch"), st.sampled_from(["main", "v1", "v2"])),
    st.tuples(st.just("drop"), st.sampled_from(["v1", "v2"])),
)


def test_five_hundred_variants_in_one_commit(shared: RegistryProcess, kernel: str) -> None:
    api = shared.api()
    files = {
        f"build/torch-{variant}/{name}.py": f"{variant} {name}".encode()
        for variant in range(VARIANTS)
        for name in range(FILES)
    }
    api.create_branch(kernel, branch="v1", repo_type="kernel")

    def publish() -> str:
        additions = [CommitOperationAdd(path, content) for path, content in files.items()]
        return api.create_commit(kernel, additions, commit_message="release", repo_type="kernel", revision="v1").oid

    first = publish()
    listed = api.list_repo_tree(kernel, "build", recursive=True, repo_type="kernel", revision="v1")
    assert {entry.path for entry in listed if isinstance(entry, RepoFile)} == set(files)
    assert len(list(api.list_repo_tree(kernel, "build", repo_type="kernel", revision="v1"))) == VARIANTS
    stored = sum(1 for path in (shared.root / "blobs").rglob("*"))
    assert publish() == first
    assert sum(1 for path in (shared.root / "blobs").rglob("*")) == stored


def apply(files: dict[str, bytes], step: str, value: object) -> dict[str, bytes] | None:
    """What a step makes of the files; `None` when it must be refused."""
    match step, value:
        case "add", dict():
            made = {**files, **value}
            both = any(other.startswith(f"{path}/") for path in made for other in made)
            return None if both else made
        case "delete", str():
            return {path: content for path, content in files.items() if path != value} if value in files else None
        case "delete folder", str():
            kept = {path: content for path, content in files.items() if not path.startswith(f"{value}/")}
            return kept if len(kept) < len(files) else None
        case _:
            raise AssertionError(step)


def carry_out(api: HfApi, kernel: str, branch: str, step: str, value: object) -> None:
    if step == "add":
        assert isinstance(value, dict)
        operations = [CommitOperationAdd(path, content) for path, content in value.items()]
        api.create_commit(kernel, operations, commit_message="add", repo_type="kernel", revision=branch)
    else:
        deletion = CommitOperationDelete(str(value), is_folder=step == "delete folder")
        api.create_commit(kernel, [deletion], commit_message="delete", repo_type="kernel", revision=branch)


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=10))
def test_the_registry_is_a_mapping_of_branches_to_files(
    shared: RegistryProcess, steps: list[tuple[str, object]], tmp_path: Path
) -> None:
    api, kernel = shared.api(), f"modelled/kernel-{next(_NAMES)}"
    api.create_repo(kernel, repo_type="kernel")
    model: dict[str, dict[str, bytes]] = {"main": {}}
    current = "main"
    for step, value in steps:
        name = str(value)
        expected: bool
        try:
            match step:
                case "branch":
                    expected = name not in model
                    model.setdefault(name, dict(model["main"]))
                    api.create_branch(kernel, branch=name, repo_type="kernel")
                case "drop":
                    expected = model.pop(name, None) is not None
                    current = "main"
                    api.delete_branch(kernel, branch=name, repo_type="kernel")
                case "switch":
                    expected = True
                    current = name if name in model else "main"
                case _:
                    made = apply(model[current], step, value)
                    expected = made is not None
                    model[current] = model[current] if made is None else made
                    carry_out(api, kernel, current, step, value)
            assert expected
        except HfHubHTTPError as error:
            assert not expected, error  # noqa: PT017 - whether it is refused depends on the model
    refs = api.list_repo_refs(kernel, repo_type="kernel")
    assert {branch.name for branch in refs.branches} == set(model)
    for branch, files in model.items():
        assert read_branch(api, kernel, branch, tmp_path) == files


def read_branch(api: HfApi, kernel: str, branch: str, cache: Path) -> Mapping[str, bytes]:
    snapshot = Path(api.snapshot_download(kernel, repo_type="kernel", revision=branch, cache_dir=cache))
    found = {path.relative_to(snapshot).as_posix(): path.read_bytes() for path in snapshot.rglob("*") if path.is_file()}
    del found[".gitattributes"]
    return found
