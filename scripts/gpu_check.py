"""Hold the flagship's CUDA artifact against fp64 and against torch on a real GPU; the table comes last.

Takes the artifact that was built elsewhere (`kernel-builder build --backend cuda`), with nothing of the builder. Tests
every case that the CPU passes and longer ones, forward and backward, in bf16 and fp16, the longer ones also with
`deterministic`, whose bits are compared, and both ways by the baseline kernels; runs compute-sanitizer on a few where
it is installed; then times forward, backward (both ways) and decode beside the baseline, torch's flash and cuDNN
attention, a large matrix product and a copy, interleaved, by CUDA events, and keeps all of it as JSON. It ends within
nine minutes: what has no time left is named and not timed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from kernels import get_local_kernel

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.gpu_workloads import BASELINE, measure, measure_ceilings  # noqa: E402  (the repository is not installed)
from tests.kernels.cases import CASES, AttentionCase, draw_inputs  # noqa: E402
from tests.kernels.gpu_cases import GPU_CASES  # noqa: E402
from tests.kernels.layer_cases import LAYER_CASES, LayerCase, check_layer  # noqa: E402
from tests.kernels.running import check_forward, check_gradients, draw_upstream, run_kernel  # noqa: E402

HALF = (torch.bfloat16, torch.float16)
SANITIZED = 4
"""Cases under compute-sanitizer, which is a hundred times slower; they run both ways."""

CHECK_SECONDS = 270
SANITIZER_SECONDS = 60
ALL_SECONDS = 510


def on_device(flash: ModuleType, device: torch.device, *, deterministic: bool) -> Any:
    """Return the kernel's `attention` for tensors on the CPU: they go to the device, and results come back."""

    def there(name: str, value: Any) -> Any:
        return value.to(device) if isinstance(value, torch.Tensor) and name != "rng_state" else value

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> tuple[Any, ...]:
        moved = {name: there(name, value) for name, value in options.items()}
        results = flash.attention.attend(*(there("", x) for x in (q, k, v)), **moved, deterministic=deterministic)
        return tuple(x.cpu() if isinstance(x, torch.Tensor) else x for x in results)

    return SimpleNamespace(attention=SimpleNamespace(attend=attend))


def find_failures(
    flash: ModuleType, device: torch.device, cases: list[AttentionCase], until: float, *, deterministic: bool = False
) -> Iterator[str]:
    """Yield one line for each case that is less exact than torch's own arithmetic, cannot be run, or came too late.

    deterministic: also those whose gradients, made a second time, have other bits.
    """
    moved = on_device(flash, device, deterministic=deterministic)
    checks = (check_gradients, check_bits) if deterministic else (check_forward, check_gradients)
    for dtype in HALF:
        for case in cases:
            if time.monotonic() > until:
                yield f"{case.name} {dtype}: no time was left for it"
                continue
            for check in checks:
                try:
                    check(moved, case, dtype)
                except Exception as error:  # noqa: BLE001  (whatever goes wrong with one case is reported, not fatal)
                    reason = (str(error).splitlines() or [type(error).__name__])[0]
                    yield f"{check.__name__} {case.name} {dtype}: {reason}"


def check_bits(flash: Any, case: AttentionCase, dtype: torch.dtype) -> None:
    """Assert that gradients are the same bits when they are made again."""
    inputs = draw_inputs(case, dtype).to(dtype)
    attended = run_kernel(flash, case, inputs)
    upstream = draw_upstream(attended.out, attended.lse, with_lse=False)
    first, second = (run_kernel(flash, case, inputs, upstream).gradients for _ in range(2))
    for name in first:
        if not torch.equal(first[name], second[name]):
            raise AssertionError(f"{case!r}: d{name} has other bits the second time")


def find_layer_failures(flash: ModuleType, device: torch.device, cases: list[LayerCase]) -> Iterator[str]:
    """Yield the same for the layers, in fp32 too."""
    for dtype in (torch.float32, *HALF):
        for case in cases:
            try:
                check_layer(flash, case, dtype, str(device))
            except Exception as error:  # noqa: BLE001  (as above)
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                yield f"{case.name} {dtype}: {reason}"


def name_failures(way: str, failures: Iterator[str]) -> list[str]:
    """Return the lines with what was asked for before each."""
    return [f"{way}: {failure}" for failure in failures]


def run_sanitizer(build: Path) -> str:
    """Run a few cases under compute-sanitizer; say in a few words how that ended."""
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        return "compute-sanitizer is not installed here"
    command = [
        sanitizer,
        "--error-exitcode",
        "9",
        sys.executable,
        __file__,
        "--build",
        str(build),
        "--only",
        str(SANITIZED),
    ]
    # A group of processes of its own: the sanitizer's child would go on without it, beside what is timed.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as ended:
        try:
            output, _ = ended.communicate(timeout=SANITIZER_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(ended.pid, signal.SIGKILL)
            return f"not done after {SANITIZER_SECONDS} s"
    return "clean" if ended.returncode == 0 else f"exit status {ended.returncode}: {output[-2000:]}"


def verdict(record: dict[str, Any], ceilings: dict[str, float]) -> str:
    """Return how ours stands to the goal: a share of the ceiling, or a time."""
    rates = {name: one["rate"] for name, one in record["contenders"].items()}
    if "ours" not in rates:
        return "not run"
    ours, goal = rates["ours"], record["goal"]
    if record["unit"] == "us":
        return f"{'met' if ours <= goal else 'missed'}: {ours:.1f} us of {goal:.0f}"
    share = ours / ceilings["product" if record["unit"] == "TFLOP/s" else "copy"]
    slower = [rival for rival in record["rivals"] if ours < rates.get(rival, 0.0)]
    if not goal:
        return f"{share:.0%}"
    behind = f", behind {' and '.join(slower)}" if slower else ""
    return f"{'met' if share >= goal and not slower else 'missed'}: {share:.0%} of {goal:.0%}{behind}"


def print_table(report: dict[str, Any]) -> None:
    """Print one line per workload: the kernels, the goal as a share of the run's ceiling, and everybody's rate."""
    ceilings = report["ceilings"]
    print(f"{report['device']}, torch {report['torch']}: product {ceilings['product']:.0f} TFLOP/s, "
          f"copy {ceilings['copy']:.2f} TB/s")  # fmt: skip
    for each in report["workloads"]:
        rates = {name: one["rate"] for name, one in each["contenders"].items()}
        if not rates:
            print(each["workload"])
            continue
        listed = "  ".join(f"{name} {rate:.2f}" for name, rate in rates.items())
        if "sinks" in rates and "ours" in rates:
            listed += f"  (sinks cost {rates['ours'] / rates['sinks'] - 1:.1%})"
        print(f"{each['workload']:<28} {each['kernels']:<8} {verdict(each, ceilings):<42} {listed} {each['unit']}")
    print(f"sanitizer: {report['sanitizer']}")
    print(f"{report['cases']} cases, {len(report['failures'])} failures in {report['seconds']:.0f} s")


def main() -> int:
    """Check, measure, print; the exit status is 1 when a case failed and 2 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="where the artifacts lie")
    parser.add_argument("--output", type=Path, help="where the JSON goes (default: benchmarks/results/DEVICE)")
    parser.add_argument("--repeats", type=int, default=20, help="timed runs of each contender")
    parser.add_argument("--only", type=int, help="check this many cases, and time nothing")
    parser.add_argument("--device", default="cuda", help="`cpu` checks the script itself, with the CPU artifact")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("there is no CUDA device here; the kernels' source is tested under an emulator by `make test`")
        return 2
    begin = time.monotonic()
    flash = get_local_kernel(options.build)
    # The first few are small, then come those that kernels with pipelines need: the sanitizer sees both.
    cases = [*CASES[:3], *GPU_CASES, *CASES[3:]][: options.only]
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        until = begin + CHECK_SECONDS
        failures = list(find_failures(flash, device, cases, until))
        both_ways = GPU_CASES if options.only is None else cases
        failures += name_failures("deterministic", find_failures(flash, device, both_ways, until, deterministic=True))
        if options.only is None and device.type == "cuda":
            os.environ[BASELINE] = "baseline"
            for deterministic in (False, True):
                found = find_failures(flash, device, GPU_CASES, until, deterministic=deterministic)
                failures += name_failures(f"baseline, deterministic={deterministic}", found)
            del os.environ[BASELINE]
        failures += find_layer_failures(flash, device, LAYER_CASES[: options.only])
        print("\n".join(failures) or f"{len(cases)} cases agree with fp64")
        if options.only is not None or device.type == "cpu":
            return 1 if failures else 0
        report = {
            "device": torch.cuda.get_device_name(device),
            "torch": torch.__version__,
            "cases": len(cases),
            "failures": failures,
            "sanitizer": run_sanitizer(options.build),
            "ceilings": measure_ceilings(options.repeats),
            "workloads": list(measure(flash, options.repeats, ALL_SECONDS - (time.monotonic() - begin))),
        }
    report["seconds"] = time.monotonic() - begin
    name = report["device"].lower().replace(" ", "-")
    output = options.output or ROOT / "benchmarks" / "results" / name / "gpu-check.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print_table(report)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
