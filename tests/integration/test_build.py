"""Real projects, built by the command as users run it and loaded by the unmodified `kernels` package."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.integration.conftest import Build

STABLE = "torch-stable-abi210-cpu-x86_64-linux"
SAMPLE = "torch.tensor([-1.0, 0.5])"

BuiltProject = Callable[[str], Path]
CopyProject = Callable[[str, Path], Path]
LoadKernel = Callable[..., Any]


def list_files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def only_artifact(project: Path) -> Path:
    (path,) = (path for path in (project / "build").iterdir() if (path / "metadata.json").exists())
    return path


def test_a_classic_kernel_loads_in_a_fresh_process(built_project: BuiltProject, load_kernel: LoadKernel) -> None:
    project = built_project("relu-classic")
    for place in (project, project / "build", only_artifact(project)):
        assert load_kernel(place, f"kernel.relu({SAMPLE}).tolist()") == [0.0, 0.5]
    assert load_kernel(project, "kernel.FACTS") == {"answer": 42}


def test_both_faces_load_in_one_process(built_project: BuiltProject, load_kernel: LoadKernel) -> None:
    project = built_project("relu-classic")
    face = project / "build" / "relu-shifted"
    expression = f"[k.relu({SAMPLE}).tolist() for k in (kernel, *others)]"
    assert load_kernel(project, expression, face) == [[0.0, 0.5], [2.0, 2.5]]


def test_a_stable_kernel_loads_and_is_named_after_its_oldest_torch(
    built_project: BuiltProject, load_kernel: LoadKernel
) -> None:
    project = built_project("relu-stable")
    assert only_artifact(project).name == STABLE
    assert load_kernel(project, f"kernel.relu({SAMPLE}).tolist()") == [0.0, 0.5]


def test_the_units_of_a_template_are_compiled_and_called(built_project: BuiltProject, load_kernel: LoadKernel) -> None:
    """Slopes of 2 and 3 for positive values, and a leaky 2 for negative ones."""
    project = built_project("relu-stable")
    answers = load_kernel(project, "[kernel.add_slopes(value) for value in (4.0, -4.0)]")
    assert answers == [8 + 100 * 12 + 10000 * 8, 10000 * -2]
    made = project / ".kernel-builder/cpu/project/units/relu_cpu"
    assert {path.name for path in made.iterdir()} == {
        f"slope_{values}.cpp" for values in ("leaky_2", "no_leaky_2", "no_leaky_3")
    }
    assert not list(project.glob("relu_cpu/*leaky*")), "the author's own directory stays as it is"


def test_a_python_kernel_has_a_variant_for_each_backend(built_project: BuiltProject, load_kernel: LoadKernel) -> None:
    project = built_project("relu-noarch")
    assert {path.name for path in (project / "build").iterdir()} == {"torch-cpu", "torch-cuda"}
    assert load_kernel(project, f"kernel.relu({SAMPLE}).tolist()") == [0.0, 0.5]
    assert load_kernel(project, f"kernel.layers.ReLU()({SAMPLE}).tolist()") == [0.0, 0.5]


def test_the_metadata_tells_how_it_was_built(built_project: BuiltProject) -> None:
    metadata = json.loads((only_artifact(built_project("relu-stable")) / "metadata.json").read_text(encoding="utf-8"))
    record = metadata["x-kernel-builder"]
    assert record["variant"] == STABLE
    assert record["torch"].startswith("2.")
    assert record["platform-policy"] == "manylinux_2_28"
    assert record["compiler"].split()[1][0].isdigit()
    assert f"-DTORCH_EXTENSION_NAME={metadata['id']}" in record["flags"]
    assert not [flag for flag in record["flags"] if "/" in flag], "a flag names a place"
    assert metadata["provenance"]["kernel-builder"]["version"] == record["builder"]


def test_the_work_directory_is_a_marked_cache(built_project: BuiltProject) -> None:
    work = built_project("relu-stable") / ".kernel-builder"
    assert (work / "CACHEDIR.TAG").exists()
    assert (work / ".gitignore").read_text(encoding="utf-8") == "*\n"
    assert "ninja" not in {path.name for path in (work.parent / "build").iterdir()}


def test_a_second_build_compiles_nothing(built_project: BuiltProject, run_builder: Build, tmp_path: Path) -> None:
    project = built_project("relu-stable")
    before = list_files(project / "build")
    again = run_builder("build", "--json", project, "--output", tmp_path / "again")
    assert again.returncode == 0, again.stderr
    assert [backend["timings"] for backend in json.loads(again.stdout)["backends"]] == [[]]
    assert list_files(tmp_path / "again") == before


def test_what_changed_is_compiled_alone(copy_project: CopyProject, run_builder: Build, tmp_path: Path) -> None:
    """A source that is another one, and an axis that has another value in the place of one that is gone."""
    project = copy_project("relu-stable", tmp_path)
    text = (
        (project / "build.toml")
        .read_text(encoding="utf-8")
        .replace("exclude = [", "exclude = [{ slope = {0}, leaky = true }, ")
    )
    text = text.replace("slope = [2, 3]", "slope = [2, 3, {0}]")
    (project / "build.toml").write_text(text.replace("{0}", "4"), encoding="utf-8")
    assert run_builder("build", project).returncode == 0
    old = json.loads((only_artifact(project) / "metadata.json").read_text(encoding="utf-8"))
    with (project / "torch-ext/torch_binding.cpp").open("a", encoding="utf-8") as source:
        source.write("// changed\n")
    (project / "build.toml").write_text(text.replace("{0}", "5"), encoding="utf-8")
    result = run_builder("build", "--json", project)
    assert result.returncode == 0, result.stderr
    new = json.loads((only_artifact(project) / "metadata.json").read_text(encoding="utf-8"))
    assert new["id"] != old["id"], "other content must not register ops under the same name"
    names = {timing["name"] for timing in json.loads(result.stdout)["backends"][0]["timings"]}
    assert names == {"torch-ext/torch_binding.cpp", "relu_cpu/slope_no_leaky_5.cpp", f"{new['id']}.abi3.so"}
    assert not list((project / ".kernel-builder/cpu/project/units").rglob("*_4.cpp"))
    assert not list((project / ".kernel-builder/cpu/build").glob(f"{old['id']}*"))


def test_a_source_that_uses_its_name_unseen_does_not_compile(
    copy_project: CopyProject, run_builder: Build, tmp_path: Path
) -> None:
    """Compiled without the name it would register its ops under the macro's own."""
    project = copy_project("relu-stable", tmp_path)
    (project / "unlisted").mkdir()
    (project / "unlisted/name.h").write_text("#define NAMED(macro) macro(TORCH_EXTENSION_NAME)\n", encoding="utf-8")
    source = project / "relu_cpu/relu.cpp"
    source.write_text(f'#include "../unlisted/name.h"\n{source.read_text(encoding="utf-8")}', encoding="utf-8")
    result = run_builder("build", project)
    assert result.returncode == 5
    assert "list it in `src` of the component" in result.stderr
    text = (project / "build.toml").read_text(encoding="utf-8")
    listed = text.replace('"relu_cpu/slope.h"]', '"relu_cpu/slope.h", "unlisted/name.h"]')
    (project / "build.toml").write_text(listed, encoding="utf-8")
    result = run_builder("build", project)
    assert result.returncode == 0, result.stderr


def test_the_same_sources_give_the_same_bytes_anywhere(
    built_project: BuiltProject, copy_project: CopyProject, run_builder: Build, tmp_path: Path
) -> None:
    place = tmp_path / "another, longer place" / "ünïcode"
    place.mkdir(parents=True)
    project = copy_project("relu-stable", place)
    result = run_builder("build", project, "--jobs", "1")
    assert result.returncode == 0, result.stderr
    assert list_files(project / "build") == list_files(built_project("relu-stable") / "build")


def test_a_project_that_cannot_be_written_builds_elsewhere(
    copy_project: CopyProject, run_builder: Build, load_kernel: LoadKernel, tmp_path: Path
) -> None:
    project = copy_project("relu-noarch", tmp_path / "project")
    before = list_files(project)
    for path in (project, *(path for path in project.rglob("*") if path.is_dir())):
        path.chmod(0o555)
    output, work = tmp_path / "output", tmp_path / "work"
    result = run_builder("build", project, "--backend", "cpu", "--output", output, "--work-dir", work)
    assert result.returncode == 0, result.stderr
    assert list_files(project) == before
    assert load_kernel(output, f"kernel.relu({SAMPLE}).tolist()") == [0.0, 0.5]


def test_a_work_directory_that_cannot_be_is_said(copy_project: CopyProject, run_builder: Build, tmp_path: Path) -> None:
    project = copy_project("relu-noarch", tmp_path)
    (project / ".kernel-builder").write_text("a file", encoding="utf-8")
    result = run_builder("build", project)
    assert result.returncode == 2
    assert "cannot write to the work directory" in result.stderr
    assert "--work-dir" in result.stderr


def test_a_stale_artifact_is_told_and_kept(copy_project: CopyProject, run_builder: Build, tmp_path: Path) -> None:
    project = copy_project("relu-noarch", tmp_path)
    assert run_builder("build", project).returncode == 0
    text = (project / "build.toml").read_text(encoding="utf-8")
    (project / "build.toml").write_text(text.replace('["cpu", "cuda"]', '["cpu"]'), encoding="utf-8")
    result = run_builder("build", "--json", project)
    assert result.returncode == 0
    assert json.loads(result.stdout)["stale"] == [str(project / "build" / "torch-cuda")]
    assert (project / "build" / "torch-cuda" / "metadata.json").exists()


def test_a_link_inside_the_package_is_shipped_as_its_file(
    copy_project: CopyProject, run_builder: Build, load_kernel: LoadKernel, tmp_path: Path
) -> None:
    project = copy_project("relu-noarch", tmp_path)
    package = project / "torch-ext" / "relu_noarch"
    shutil.copy(package / "layers" / "__init__.py", project / "real.py")
    (package / "layers" / "__init__.py").unlink()
    (package / "layers" / "__init__.py").symlink_to("../../../real.py")
    result = run_builder("build", project, "--backend", "cpu")
    assert result.returncode == 0, result.stderr
    shipped = project / "build" / "torch-cpu" / "layers" / "__init__.py"
    assert not shipped.is_symlink()
    assert load_kernel(project, f"kernel.layers.ReLU()({SAMPLE}).tolist()") == [0.0, 0.5]
