from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import pytest

from kernel_builder.container import ContainerChoice, EngineName, ImageChoice, Mounts, open_container
from tests.containers.conftest import Docker, copy_project
from tests.containers.engine import run_docker

pytestmark = [pytest.mark.compile, pytest.mark.slow]

ENDLESS = """
constexpr unsigned spin() {
  unsigned state = 1;
  for (long turn = 0; turn < 2000000000; ++turn) state = state * 3 + 1;
  return state;
}
static_assert(spin() != 1, "");
"""


def list_files(root: Path) -> dict[str, Any]:
    """The content of every file; without the builder's own commit, which may change while the tests run."""
    files: dict[str, Any] = {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }
    for name in [name for name in files if name.endswith("metadata.json")]:
        metadata = json.loads(files[name])
        metadata["provenance"].pop("kernel-builder")
        files[name] = metadata
    return files


def describe_compiler(docker: Docker | None) -> str:
    prefix = [] if docker is None else ["docker", "--host", docker.address, "run", "--rm", docker.base]
    return subprocess.run([*prefix, "c++", "--version"], capture_output=True, text=True, check=True).stdout


def test_a_container_gives_what_the_machine_gives(docker: Docker, tmp_path: Path) -> None:
    here = copy_project("relu-stable", tmp_path / "here")
    real = copy_project("relu-stable", tmp_path / "a 'b' & c")
    project = tmp_path / "link to it"
    project.symlink_to(real)
    native = subprocess.run(docker.words("build", here, "--json"), capture_output=True, text=True, check=False)
    assert native.returncode == 0, native.stderr

    contained = docker.build(project, "--image", docker.base, "--json", "--engine", "docker")

    assert contained.returncode == 0, contained.stderr
    document = json.loads(contained.stdout)
    (artifact,), (expected,) = document["artifacts"], json.loads(native.stdout)["artifacts"]
    assert document["container"]["image"] == docker.base
    assert artifact["audit"] == expected["audit"]
    assert {path.stat().st_uid for path in (real / ".kernel-builder").rglob("*")} == {os.getuid()}
    assert docker.list_containers() == []
    if describe_compiler(docker) == describe_compiler(None):
        assert list_files(real / "build") == list_files(here / "build")


def test_a_command_sees_only_what_it_is_shown(docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", docker.address)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("CXXFLAGS", "-O1")
    sources, work = tmp_path / "sources", tmp_path / "sources" / "kept"
    work.mkdir(parents=True)
    (sources / "a.cpp").write_text("int a;\n")
    container = open_container(ContainerChoice(EngineName.DOCKER, ImageChoice(docker.base)))
    launch = container.launcher(Mounts((sources,), (work,)))
    program = (
        "import json, os, pathlib\n"
        f"sources = {str(sources)!r}\n"
        "def refused(path):\n"
        "    try:\n"
        "        pathlib.Path(path).write_text('x')\n"
        "    except OSError:\n"
        "        return True\n"
        "    return False\n"
        "print(json.dumps({\n"
        "    'interfaces': [line.split(':')[0].strip() for line in open('/proc/net/dev') if ':' in line],\n"
        "    'source': pathlib.Path(sources, 'a.cpp').read_text(),\n"
        "    'refused': [refused(sources + '/b.cpp'), refused('/usr/b'), refused(sources + '/kept/made')],\n"
        "    'privileges': [line for line in open('/proc/self/status') if line.startswith(('CapEff', 'NoNewPrivs'))],\n"
        "    'environment': dict(os.environ),\n"
        "    'seen': os.listdir(pathlib.Path(sources).parent),\n"
        "}))"
    )

    completed = launch([sys.executable, "-c", program], env=dict(os.environ))

    assert completed.returncode == 0, completed.output
    answer = json.loads(completed.lines[-1])
    assert answer["interfaces"] == ["lo"]
    assert answer["refused"] == [True, True, False]
    assert answer["source"] == "int a;\n"
    assert answer["environment"]["CXXFLAGS"] == "-O1"
    assert "hf_secret" not in completed.output
    assert not {"HF_TOKEN", "DOCKER_HOST", "PYTEST_CURRENT_TEST"} & set(answer["environment"])
    assert answer["privileges"] == ["CapEff:\t0000000000000000\n", "NoNewPrivs:\t1\n"]
    assert answer["seen"] == ["sources"]


def test_the_image_is_made_once_for_each_content(docker: Docker, tmp_path: Path) -> None:
    project = copy_project("relu-noarch", tmp_path)

    first = docker.build(project, "--docker", "--engine", "docker")
    second = docker.build(project, "--docker", "--engine", "docker")

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "build image kernel-builder:cpu-" in first.stderr
    assert "build image" not in second.stderr


def test_a_compile_that_fails_says_what_it_says_on_the_machine(docker: Docker, tmp_path: Path) -> None:
    project = copy_project("broken-source", tmp_path)

    completed = docker.build(project, "--image", docker.base)

    assert completed.returncode == 5
    assert "`numel` was not declared in this scope" in completed.stderr
    assert "--> cpu/half.cpp:4" in completed.stderr
    assert docker.list_containers() == []


@pytest.mark.parametrize("end", ["interrupt", "kill"])
def test_nothing_is_left_of_a_build_that_is_ended(docker: Docker, tmp_path: Path, end: str) -> None:
    project = copy_project("relu-stable", tmp_path)
    source = project / "relu_cpu/relu.cpp"
    source.write_text(ENDLESS)
    declaration = project / "build.toml"
    declaration.write_text(
        declaration.read_text().replace(
            "[kernel.relu_cpu]",
            '[kernel.relu_cpu]\ncxx-flags = ["-fconstexpr-ops-limit=99999999999", "-fconstexpr-loop-limit=2147483647"]',
        )
    )
    label = hashlib.sha256(str(project / ".kernel-builder").encode()).hexdigest()
    run_docker(docker.address, "run", "--detach", "--network", "none", "--label", f"kernel-builder.work-dir={label}",
               docker.base, "sleep", "600")  # fmt: skip
    # The tests themselves may run in the background of a script, where shells have SIGINT ignored.
    words = ["env", "--default-signal=INT", *docker.words("build", project, "--image", docker.base)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=docker.environment) as builder:
        assert builder.stderr is not None
        told = read_until(builder.stderr, "compile cpu: [")
        (name,) = docker.list_containers()
        if end == "interrupt":
            builder.send_signal(signal.SIGINT)
        else:
            run_docker(docker.address, "kill", name)
        told += builder.stderr.read()

    assert name.startswith("kernel-builder-")
    assert docker.list_containers() == []
    assert (builder.returncode, "the container was killed" in told) == (
        (130, False) if end == "interrupt" else (5, True)
    )


def read_until(stream: IO[str], words: str) -> str:
    """What a program says up to a line that has these words."""
    told = ""
    for line in stream:
        told += line
        if words in line:
            return told
    pytest.fail(f"it never said `{words}`: {told}")


def test_an_image_that_is_not_there_and_an_engine_that_does_not_run(docker: Docker, tmp_path: Path) -> None:
    project = copy_project("relu-noarch", tmp_path)

    absent = docker.build(project, "--image", "kernel-builder-tests/absent:1")
    silent = docker.build(project, "--engine", "docker", DOCKER_HOST=f"unix://{tmp_path}/nobody")

    assert (absent.returncode, silent.returncode) == (4, 4)
    assert "is not on this machine and cannot be pulled" in absent.stderr
    assert "its engine is not running" in silent.stderr
