"""Hold the flagship's CUDA artifact against fp64 and against torch on a real GPU; the table comes last.

Takes the artifact that was built elsewhere (`kernel-builder build --backend cuda`), with nothing of the builder; where
the project has none, and the builder is installed, it is built first, which takes minutes that do not count. Tests
every case that the CPU passes and longer ones, forward and backward, in bf16 and fp16, the longer ones also with
`deterministic`, whose bits are compared, and both ways by the baseline kernels; compares numbers in other layouts with
the same numbers side by side, and calls on a stream of their own, in captured and compiled graphs and on another GPU
with plain ones; runs compute-sanitizer on a few cases where it is installed; then times forward,
backward (both ways) and decode beside the baseline, torch's flash and cuDNN attention, a large matrix product and a
copy, interleaved, by CUDA events, holds what each of them computed against attention in fp32, and keeps all of it as
JSON. It ends within nine minutes: what has no time left is named and not timed, and a kernel that does not end is
named, too.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
for _name in ("scripts", "tests"):
    # The repository is not installed, and packages of such names are, on many machines.
    sys.modules[_name] = ModuleType(_name)
    sys.modules[_name].__path__ = [str(ROOT / _name)]

from scripts.gpu_artifact import describe_torch, obtain_kernel  # noqa: E402
from scripts.gpu_layouts import find_layout_failures  # noqa: E402
from scripts.gpu_report import finish  # noqa: E402
from scripts.gpu_sanitizer import run_sanitizer  # noqa: E402
from scripts.gpu_surroundings import find_surroundings_failures  # noqa: E402
from scripts.gpu_timing import first_line, list_faults, measure, measure_ceilings  # noqa: E402
from scripts.gpu_workloads import BASELINE, Place, list_workloads  # noqa: E402
from tests.kernels.cases import CASES, AttentionCase, Inputs, draw_inputs  # noqa: E402
from tests.kernels.gpu_cases import GPU_CASES  # noqa: E402
from tests.kernels.layer_cases import LAYER_CASES, LayerCase, check_layer  # noqa: E402
from tests.kernels.running import (  # noqa: E402
    Result,
    Upstream,
    check_each_gradient,
    check_results,
    draw_upstream,
    run_kernel,
    run_oracle,
)

HALF = (torch.bfloat16, torch.float16)
SANITIZED = 4
"""Cases under compute-sanitizer, which is a hundred times slower; they run both ways."""

CHECK_SECONDS = 270
ALL_SECONDS = 510
LAST_SECONDS = 535
"""When whatever still runs is given up."""

HAS_HUNG = 3
TOKENS_ON_CPU = 128


def on_device(flash: ModuleType, device: torch.device, *, deterministic: bool) -> Any:
    """Return the kernel's `attention` for tensors on the CPU: they go to the device, and results come back."""

    def there(name: str, value: Any) -> Any:
        return value.to(device) if isinstance(value, torch.Tensor) and name != "rng_state" else value

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> tuple[Any, ...]:
        moved = {name: there(name, value) for name, value in options.items()}
        results = flash.attention.attend(*(there("", x) for x in (q, k, v)), **moved, deterministic=deterministic)
        return tuple(x.cpu() if isinstance(x, torch.Tensor) else x for x in results)

    return SimpleNamespace(attention=SimpleNamespace(attend=attend))


_DOING = ["starting"]


def say(doing: str) -> None:
    """Remember what is being done, for when it does not end."""
    _DOING[0] = doing


def is_lost(device: torch.device) -> bool:
    """Return whether an error of the GPU, such as an access outside of its memory, ended its work for this process."""
    try:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    except RuntimeError:
        return True
    return False


def find_failures(
    flash: ModuleType, device: torch.device, cases: list[AttentionCase], until: float, *, deterministic: bool = False
) -> Iterator[str]:
    """Yield one line for each case that is less exact than torch's own arithmetic, cannot be run, or came too late.

    deterministic: also those whose gradients, made a second time, have other bits.
    """
    moved = on_device(flash, device, deterministic=deterministic)
    if is_lost(device):
        return
    checks = (check_gradients, check_bits) if deterministic else (check_forward, check_gradients)
    for dtype in HALF:
        for case in cases:
            if time.monotonic() > until:
                yield f"{case.name} {dtype}: no time was left for it"
                continue
            for check in checks:
                doing = f"{check.__name__} {case.name} {dtype}"
                say(doing)
                try:
                    check(moved, case, dtype)
                except Exception as error:  # noqa: BLE001  (whatever goes wrong with one case is reported, not fatal)
                    yield f"{doing}: {first_line(error)}"
                    if is_lost(device):
                        yield f"{doing}: the GPU takes no more work from this process; nothing after this was checked"
                        return


@cache
def refer_to(case: AttentionCase, dtype: torch.dtype) -> tuple[Inputs, Upstream, Result, Result]:
    """Return what a case is given, and what comes out in fp64 and by torch in its own precision, both ways.

    Made by the CPU, once for all kernels that are held against it: that takes longer than they do.
    """
    drawn = draw_inputs(case, dtype)
    out = torch.empty((*drawn.q.shape[:-1], drawn.v.shape[-1]))
    upstream = draw_upstream(out, torch.empty(0), with_lse=False)
    exact, by_torch = (run_oracle(case, drawn.to(precision), upstream) for precision in (torch.float64, dtype))
    return drawn, upstream, exact, by_torch


def check_forward(flash: Any, case: AttentionCase, dtype: torch.dtype) -> None:
    """Assert that out is as near to the exact result as torch's in this precision, and lse nearer."""
    drawn, _, exact, by_torch = refer_to(case, dtype)
    with torch.no_grad():
        actual = run_kernel(flash, case, drawn.to(dtype))
    check_results(case, drawn, (actual, exact, by_torch), dtype)


def check_gradients(flash: Any, case: AttentionCase, dtype: torch.dtype) -> None:
    """Assert that each gradient is as near to the exact one as torch's in this precision."""
    drawn, upstream, exact, by_torch = refer_to(case, dtype)
    actual = run_kernel(flash, case, drawn.to(dtype), upstream)
    check_each_gradient(case, drawn, upstream, (actual, exact, by_torch))


def check_bits(flash: Any, case: AttentionCase, dtype: torch.dtype) -> None:
    """Assert that gradients are the same bits when they are made again."""
    drawn, upstream, *_ = refer_to(case, dtype)
    first, second = (run_kernel(flash, case, drawn.to(dtype), upstream).gradients for _ in range(2))
    for name in first:
        if not torch.equal(first[name], second[name]):
            raise AssertionError(f"{case!r}: d{name} has other bits the second time")


def find_layer_failures(flash: ModuleType, device: torch.device, cases: list[LayerCase]) -> Iterator[str]:
    """Yield the same for the layers, in fp32 too."""
    for dtype in (torch.float32, *HALF):
        for case in cases:
            say(f"{case.name} {dtype}")
            if is_lost(device):
                return
            try:
                check_layer(flash, case, dtype, str(device))
            except Exception as error:  # noqa: BLE001  (as above)
                yield f"{case.name} {dtype}: {first_line(error)}"


def name_failures(way: str, failures: Iterator[str]) -> list[str]:
    """Return the lines with what was asked for before each."""
    return [f"{way}: {failure}" for failure in failures]


def check(
    flash: ModuleType, device: torch.device, options: argparse.Namespace, until: float, report: dict[str, Any]
) -> tuple[int, list[str]]:
    """Hold cases against fp64; return how many, and what failed. The report gets the kernels of each layout."""
    # The first few are small, then come those that kernels with pipelines need: the sanitizer sees both.
    cases = [*CASES[:3], *GPU_CASES, *CASES[3:]][: options.only]
    failures = list(find_failures(flash, device, cases, until))
    both_ways = GPU_CASES if options.only is None else cases
    failures += name_failures("deterministic", find_failures(flash, device, both_ways, until, deterministic=True))
    if options.only is None and device.type == "cuda":
        os.environ[BASELINE] = "baseline"
        for deterministic in (False, True):
            found = find_failures(flash, device, GPU_CASES, until, deterministic=deterministic)
            failures += name_failures(f"baseline, deterministic={deterministic}", found)
        del os.environ[BASELINE]
    if options.only is None and not is_lost(device):
        say("layouts")
        failures += find_layout_failures(Place(flash, device), report["layouts"])
        say("streams and graphs")
        failures += find_surroundings_failures(Place(flash, device))
    failures += find_layer_failures(flash, device, LAYER_CASES[: options.only])
    return len(cases), failures


def torch_device(text: str) -> torch.device:
    """Return the device of an argument."""
    try:
        device = torch.device(text)
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"`{text}` is no device: {first_line(error)}") from error
    if device.type not in ("cuda", "cpu"):
        raise argparse.ArgumentTypeError(f"`{text}` is neither a CUDA device nor `cpu`")
    return device


def main() -> int:
    """Check, measure, print; the exit status is 1 if anything was wrong, 2 without GPU or kernel, 3 if one hangs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="where the artifacts lie")
    parser.add_argument("--output", type=Path, help="where the JSON goes (default: benchmarks/results/DEVICE)")
    parser.add_argument("--repeats", type=int, default=20, help="timed runs of each contender")
    parser.add_argument("--only", type=int, help="check this many cases, and time nothing")
    parser.add_argument(
        "--device", type=torch_device, default="cuda", help="`cpu` checks the script itself, with the CPU artifact"
    )
    options = parser.parse_args()
    device: torch.device = options.device
    if device.type == "cuda" and not torch.cuda.is_available():
        print(
            f"there is no CUDA device here for {describe_torch()}; "
            "the kernels' source is tested under an emulator by `make test`"
        )
        return 2
    flash = obtain_kernel(options.build, device)
    begin = time.monotonic()
    if isinstance(flash, str):
        print(f"there is nothing to check: {flash}")
        return 2
    torch.set_float32_matmul_precision("highest")  # what fp32 is the judge of
    report: dict[str, Any] = {"device": "cpu", "torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": None}
    report |= {"cases": 0, "failures": [], "layouts": {}, "workloads": []}
    if device.type == "cuda":
        report |= {"device": torch.cuda.get_device_name(device), "cudnn": torch.backends.cudnn.version()}
    name = report["device"].lower().replace(" ", "-")
    output = options.output or ROOT / "benchmarks" / "results" / name / "gpu-check.json"
    failures = report["failures"]

    def give_up() -> None:
        failures.append(f"{_DOING[0]}: not done after {LAST_SECONDS} s")
        finish(report, output, time.monotonic() - begin)
        os._exit(HAS_HUNG)

    watchdog = threading.Timer(LAST_SECONDS, give_up)
    watchdog.daemon = True
    watchdog.start()
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        report["cases"], found = check(flash, device, options, begin + CHECK_SECONDS, report)
        print("\n".join(found) or f"{report['cases']} cases agree with fp64", flush=True)
        failures += found
        if options.only is not None:
            return 1 if failures else 0
        if device.type == "cuda":
            say("compute-sanitizer")
            report["sanitizer"], has_found = run_sanitizer(
                [sys.executable, __file__, "--build", str(options.build), "--only", str(SANITIZED)]
            )
            failures += ["compute-sanitizer has found errors"] if has_found else []
        say("a large product and a copy")
        place = Place(flash, device) if device.type == "cuda" else Place(flash, device, TOKENS_ON_CPU)
        try:
            report["ceilings"] = measure_ceilings(place, options.repeats)
            left = ALL_SECONDS - (time.monotonic() - begin)
            report["workloads"].extend(measure(place, list_workloads(place), options.repeats, left, say))
        except RuntimeError as error:
            failures.append(f"{_DOING[0]}: {first_line(error)}")
    failures += list_faults(report["workloads"])
    watchdog.cancel()
    finish(report, output, time.monotonic() - begin)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
