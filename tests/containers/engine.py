"""A container engine of the tests' own, and a Debian to compile in: started by hand, on no network, gone afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kernel_builder.lock import hold_lock
from kernel_builder.progress import ignore_progress

PACKAGES = "g++,python3-dev"
_WAIT_SECONDS = 60.0


class NoEngineError(Exception):
    """There is no engine here, and why: the reason of a skip."""


def find_obstacle() -> str | None:
    """Why no engine can be started here; None when one can."""
    missing = [name for name in ("docker", "dockerd", "debootstrap") if shutil.which(name, path=_path()) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (`apt-get install docker.io debootstrap` brings them)"
    return None if os.geteuid() == 0 else "starting a container engine needs root"


@contextmanager
def started_engine(directory: Path) -> Iterator[str]:
    """Start `dockerd` with all it has in `directory`, give its address, and end it. Raises `NoEngineError`."""
    address = f"unix://{directory}/socket"
    log = directory / "log"
    words = ["dockerd", "--data-root", str(directory / "data"), "--exec-root", str(directory / "exec"),
             "--host", address, "--pidfile", str(directory / "pid"), "--bridge=none", "--iptables=false",
             "--ip6tables=false"]  # fmt: skip
    with log.open("w") as sink:
        process = subprocess.Popen(
            words, stdout=sink, stderr=sink, start_new_session=True, env={**os.environ, "PATH": _path()}
        )
    try:
        deadline = time.monotonic() + _WAIT_SECONDS
        while run_docker(address, "version", check=False).returncode != 0:
            if process.poll() is not None or time.monotonic() > deadline:
                raise NoEngineError(f"dockerd does not start here: {log.read_text(errors='replace')[-300:]}")
            time.sleep(0.2)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_WAIT_SECONDS)
        subprocess.run(["umount", str(directory / "exec/netns/default")], capture_output=True, check=False)


def run_docker(address: str, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the engine's own command."""
    return subprocess.run(
        ["docker", "--host", address, *arguments], capture_output=True, text=True, check=check, env=os.environ
    )


def make_debian(shared: Path) -> Path:
    """An archive of this machine's Debian release with a compiler, made once for all processes of a test run.

    Raises `NoEngineError`, in the others as well.
    """
    archive, reason = shared / "debian.tar", shared / "no-debian"
    with hold_lock(shared, ignore_progress):
        if not archive.exists() and not reason.exists():
            try:
                with scratch_directory() as directory:
                    _bootstrap(directory / "root", archive)
            except NoEngineError as error:
                reason.write_text(str(error))
    if reason.exists():
        raise NoEngineError(reason.read_text())
    return archive


def _bootstrap(root: Path, archive: Path) -> None:
    release = _ask("sh", "-c", '. /etc/os-release && echo "$VERSION_CODENAME"')
    sites = _ask("apt-get", "indextargets", "--format", "$(SITE) $(CODENAME)").splitlines()
    mirror = next((site.split()[0] for site in sites if site.split()[1:] == [release]), "")
    if not mirror:
        raise NoEngineError("this is no Debian with a package mirror")
    words = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", release, str(root), mirror]
    made = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "PATH": _path()})
    if made.returncode != 0:
        raise NoEngineError(f"debootstrap cannot make a Debian here: {made.stdout[-200:]}{made.stderr[-200:]}")
    left_out = [f"--exclude=./{part}" for part in ("usr/share/doc", "usr/share/man", "var/cache/apt", "var/lib/apt")]
    unfinished = archive.with_suffix(".unfinished")
    subprocess.run(["tar", "-C", str(root), *left_out, "-cf", str(unfinished), "."], check=True)
    unfinished.rename(archive)


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """A directory in memory, where that is large enough: packages and images are written file by file."""
    memory = Path("/dev/shm")  # noqa: S108 - a directory of a random name in it
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 4 << 30
    with tempfile.TemporaryDirectory(prefix="kernel-builder-engine-", dir=memory if roomy else None) as directory:
        yield Path(directory)


def _ask(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
