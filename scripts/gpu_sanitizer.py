"""NVIDIA's compute-sanitizer, which says of a program whether its kernels leave their memory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

SANITIZER_SECONDS = 60


def find_sanitizer() -> str | None:
    """Return compute-sanitizer, which toolkits put beside nvcc; the path names it seldom."""
    homes = [os.environ.get(name, "") for name in ("CUDA_HOME", "CUDA_PATH")] + ["/usr/local/cuda"]
    places = [os.environ.get("PATH", ""), *(f"{home}/bin" for home in homes if home)]
    return shutil.which("compute-sanitizer", path=os.pathsep.join(places))


def run_sanitizer(program: list[str], seconds: float = SANITIZER_SECONDS) -> tuple[str, bool]:
    """Run a program under it; say in a few words how that ended, and whether it found anything."""
    sanitizer = find_sanitizer()
    if sanitizer is None:
        return "compute-sanitizer is not installed here", False
    # torch asks the driver for what it may lack: errors of calls are none of the kernels'.
    command = [sanitizer, "--error-exitcode", "9", "--report-api-errors", "no", *program]
    # A group of processes of its own: the sanitizer's child would go on without it, beside what is timed.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as ended:
        try:
            output, _ = ended.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(ended.pid, signal.SIGKILL)
            return f"not done after {seconds:.0f} s", False
    return ("clean", False) if ended.returncode == 0 else (f"exit status {ended.returncode}: {output[-2000:]}", True)
