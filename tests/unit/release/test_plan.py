from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kernel_builder.release.contents import describe_file
from kernel_builder.release.model import ReleaseFile, RemoteFile
from kernel_builder.release.plan import (
    OF_THE_HUB,
    Action,
    is_ours_on_new_branch,
    is_ours_on_version_branch,
    list_variants,
    plan_branch,
)

CARD, MODULE, LIBRARY = "README.md", "build/torch-cpu/__init__.py", "build/torch-cuda/relu.so"

contents = st.dictionaries(
    st.sampled_from([MODULE, LIBRARY, "build/torch-cuda/__init__.py", CARD, OF_THE_HUB, "LICENSE"]),
    st.binary(max_size=3),
)


def here(files: dict[str, bytes]) -> dict[str, ReleaseFile]:
    return {path: describe_file(path, content) for path, content in files.items()}


def there(files: dict[str, bytes]) -> dict[str, RemoteFile]:
    described = here(files).values()
    return {
        file.path: RemoteFile(file.path, file.size, file.git_oid, file.sha256 if file.path.endswith(".so") else None)
        for file in described
    }


@given(contents, contents)
def test_carrying_a_plan_out_gives_the_release_and_then_there_is_nothing_to_do(
    release: dict[str, bytes], remote: dict[str, bytes]
) -> None:
    release = {path: content for path, content in release.items() if path.startswith("build/")}
    plan = plan_branch("v1", "0", here(release), there(remote), is_ours=is_ours_on_version_branch)
    result = dict(remote)
    for change in plan.changes:
        if change.action is Action.REMOVE:
            del result[change.path]
        else:
            result[change.path] = release[change.path]
    assert {path: content for path, content in result.items() if path.startswith("build/")} == release
    assert result.get("LICENSE") == remote.get("LICENSE")
    assert plan_branch("v1", "1", here(release), there(result), is_ours=is_ours_on_version_branch).is_empty


def test_each_kind_of_change() -> None:
    release = here({MODULE: b"new", LIBRARY: b"same", "build/torch-cpu/added.py": b""})
    remote = there({MODULE: b"old", LIBRARY: b"same", "build/torch-cpu/gone.py": b"x", CARD: b"card"})
    plan = plan_branch("v1", "0", release, remote, is_ours=is_ours_on_version_branch)
    assert [(change.path, change.action) for change in plan.changes] == [
        (CARD, Action.REMOVE),
        (MODULE, Action.REPLACE),
        ("build/torch-cpu/added.py", Action.ADD),
        ("build/torch-cpu/gone.py", Action.REMOVE),
        (LIBRARY, Action.KEEP),
    ]


def test_other_variants_stay_when_they_are_left() -> None:
    remote = there({LIBRARY: b"theirs", "build/torch-cuda-more/x": b"no"})
    plan = plan_branch(
        "v1", "0", here({MODULE: b""}), remote, is_ours=is_ours_on_version_branch, left=["build/torch-cuda"]
    )
    assert [change.path for change in plan.removed] == ["build/torch-cuda-more/x"]


def test_what_the_hub_writes_is_no_reason_for_a_commit() -> None:
    remote = there({MODULE: b"", OF_THE_HUB: b"*.so filter=lfs"})
    assert plan_branch("v1", "0", here({MODULE: b""}), remote, is_ours=is_ours_on_version_branch).is_empty
    changed = plan_branch("v1", "0", here({MODULE: b"new"}), remote, is_ours=is_ours_on_version_branch)
    assert [change.path for change in changed.removed] == [OF_THE_HUB]


def test_a_new_branch_keeps_nothing_of_where_it_starts() -> None:
    plan = plan_branch("v1", None, here({}), there({CARD: b"", "LICENSE": b""}), is_ours=is_ours_on_new_branch)
    assert [change.path for change in plan.removed] == ["LICENSE", CARD]


def test_variants_are_the_folders_in_build() -> None:
    assert list_variants([MODULE, LIBRARY, "build/README.md", CARD, "other/x/y"]) == ("torch-cpu", "torch-cuda")
