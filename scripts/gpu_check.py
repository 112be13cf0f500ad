"""Hold the flagship's CUDA artifact against fp64 and against torch on a real GPU; the table comes last.

Takes the artifact that was built elsewhere (`kernel-builder build --backend cuda`), with nothing of the builder. Tests
every case that the CPU passes, forward and backward, in bf16 and fp16; runs compute-sanitizer on a few where it is
installed; then times forward, backward and decode beside torch's flash and cuDNN attention, a large matrix product and
a copy, interleaved, by CUDA events, and keeps all of it as JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from kernels import get_local_kernel
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention as sdpa

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.kernels.cases import CASES, AttentionCase  # noqa: E402  (the repository is not installed)
from tests.kernels.layer_cases import LAYER_CASES, LayerCase, check_layer  # noqa: E402
from tests.kernels.running import check_forward, check_gradients  # noqa: E402

HALF = (torch.bfloat16, torch.float16)
SANITIZED = 6
"""Cases under compute-sanitizer, which is a hundred times slower."""


def on_device(flash: ModuleType, device: torch.device) -> Any:
    """Return the kernel's `attention` for tensors on the CPU: they go to the device, and results come back."""

    def there(name: str, value: Any) -> Any:
        return value.to(device) if isinstance(value, torch.Tensor) and name != "rng_state" else value

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> tuple[Any, ...]:
        moved = {name: there(name, value) for name, value in options.items()}
        results = flash.attention.attend(*(there("", x) for x in (q, k, v)), **moved)
        return tuple(x.cpu() if isinstance(x, torch.Tensor) else x for x in results)

    return SimpleNamespace(attention=SimpleNamespace(attend=attend))


def find_failures(flash: ModuleType, device: torch.device, cases: list[AttentionCase]) -> Iterator[str]:
    """Yield one line for each case that is not as exact as torch's own arithmetic, or that cannot be run."""
    moved = on_device(flash, device)
    for dtype in HALF:
        for case in cases:
            for check in (check_forward, check_gradients):
                try:
                    check(moved, case, dtype)
                except Exception as error:  # noqa: BLE001  (whatever goes wrong with one case is reported, not fatal)
                    reason = (str(error).splitlines() or [type(error).__name__])[0]
                    yield f"{check.__name__} {case.name} {dtype}: {reason}"


def find_layer_failures(flash: ModuleType, device: torch.device, cases: list[LayerCase]) -> Iterator[str]:
    """Yield the same for the layers, in fp32 too."""
    for dtype in (torch.float32, *HALF):
        for case in cases:
            try:
                check_layer(flash, case, dtype, str(device))
            except Exception as error:  # noqa: BLE001  (as above)
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                yield f"{case.name} {dtype}: {reason}"


def time_all(contenders: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Return milliseconds of each contender, which run in turn; those that this GPU refuses are left out."""
    usable = {}
    for name, run in contenders.items():
        try:
            for _ in range(3):
                run()
            torch.cuda.synchronize()
            usable[name] = run
        except RuntimeError:
            continue
    times: dict[str, list[float]] = {name: [] for name in usable}
    for _ in range(repeats):
        for name, run in usable.items():
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            run()
            end.record()
            end.synchronize()
            times[name].append(begin.elapsed_time(end))
    return times


def attention_workload(
    flash: ModuleType, seqlen: int, head_dim: int, *, causal: bool, backward: bool, sinks: bool = False
) -> tuple[dict[str, Callable[[], object]], float]:
    """Return contenders for 16k tokens in all, and the useful floating-point operations of one run."""
    batch, heads = max(1, 16384 // seqlen), 2048 // head_dim
    q, k, v = (torch.randn(batch, seqlen, heads, head_dim, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    sink = torch.randn(heads, device="cuda") if sinks else None
    if backward:
        for x in (q, k, v):
            x.requires_grad_()
    heads_first = [x.transpose(1, 2) for x in (q, k, v)]
    forwards: dict[str, Callable[[], torch.Tensor]] = {
        "ours": lambda: flash.attention.attend(q, k, v, causal=causal, sinks=sink)[0]
    }
    backends = {"torch flash": SDPBackend.FLASH_ATTENTION, "torch cuDNN": SDPBackend.CUDNN_ATTENTION}
    for name, backend in {} if sinks else backends.items():

        def attend_by_torch(backend: SDPBackend = backend) -> torch.Tensor:
            with sdpa_kernel(backend):
                return sdpa(*heads_first, is_causal=causal).transpose(1, 2)

        forwards[name] = attend_by_torch
    flops = 4.0 * batch * heads * seqlen * seqlen * head_dim * (0.5 if causal else 1.0)
    if not backward:
        return dict(forwards), flops
    contenders = {}
    for name, forward in forwards.items():
        try:
            out = forward()
        except RuntimeError:
            continue
        upstream = torch.randn_like(out)
        contenders[name] = lambda out=out, upstream=upstream: torch.autograd.grad(
            out, (q, k, v), upstream, retain_graph=True
        )
    return contenders, 2.5 * flops


def decode_workload(flash: ModuleType, batch: int, keys: int) -> tuple[dict[str, Callable[[], object]], float]:
    """Return contenders for a step of 64 heads on 8 KV heads of 128, pages of 256 keys, and the bytes of K and V."""
    pages = batch * keys // 256
    q = torch.randn(batch, 1, 64, 128, device="cuda", dtype=torch.bfloat16)
    k, v = (torch.randn(pages, 256, 8, 128, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    table = torch.randperm(pages, device="cuda", dtype=torch.int32).view(batch, -1)
    lengths = torch.full((batch,), keys, device="cuda", dtype=torch.int32)
    return {
        "ours": lambda: flash.attention.attend(q, k, v, causal=True, block_table=table, seqused_k=lengths)[0]
    }, 4.0 * k.numel()


def measure_ceilings(repeats: int) -> dict[str, float]:
    """Return what the device reaches in this run: TFLOP/s of a large bf16 product, TB/s of a copy."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    big = torch.empty(1 << 30, device="cuda", dtype=torch.uint8)
    to = torch.empty_like(big)
    times = time_all({"product": lambda: a @ b, "copy": lambda: to.copy_(big)}, repeats)
    median = {name: statistics.median(each) for name, each in times.items()}
    return {"product": 2 * 8192**3 / median["product"] / 1e9, "copy": 2 * big.numel() / median["copy"] / 1e9}


def measure(flash: ModuleType, repeats: int) -> list[dict[str, Any]]:
    """Return one record per workload: rates of each contender, with the spread of its times."""
    records: list[dict[str, Any]] = []

    def record(name: str, unit: str, workload: tuple[dict[str, Callable[[], object]], float]) -> None:
        contenders, work = workload
        rates = {}
        for who, times in time_all(contenders, repeats).items():
            median = statistics.median(times)
            spread = (max(times) - min(times)) / median
            rates[who] = {"median-ms": median, "spread": spread, "rate": work / median / 1e9}
        records.append({"workload": name, "unit": unit, "contenders": rates})
        torch.cuda.empty_cache()

    for backward in (False, True):
        for head_dim in (64, 128, 256):
            for seqlen in (2048, 16384):
                for causal in (False, True):
                    name = (
                        f"{'backward' if backward else 'forward'} d{head_dim} {seqlen} {'causal' if causal else 'full'}"
                    )
                    workload = attention_workload(flash, seqlen, head_dim, causal=causal, backward=backward)
                    record(name, "TFLOP/s", workload)
    record("forward d128 16384 causal, sinks", "TFLOP/s",
           attention_workload(flash, 16384, 128, causal=True, backward=False, sinks=True))  # fmt: skip
    for batch, keys in ((1, 4096), (32, 8192)):
        record(f"decode {batch} x {keys}", "TB/s", decode_workload(flash, batch, keys))
    return records


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
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    return "clean" if ended.returncode == 0 else f"exit status {ended.returncode}: {ended.stdout[-2000:]}"


def print_table(report: dict[str, Any]) -> None:
    """Print one line per workload: rates, and ours relative to the ceiling of the run."""
    ceilings = report["ceilings"]
    print(f"{report['device']}, torch {report['torch']}: product {ceilings['product']:.0f} TFLOP/s, "
          f"copy {ceilings['copy']:.2f} TB/s")  # fmt: skip
    for each in report["workloads"]:
        rates = {name: one["rate"] for name, one in each["contenders"].items()}
        ceiling = ceilings["product" if each["unit"] == "TFLOP/s" else "copy"]
        share = f"{rates['ours'] / ceiling:5.0%} of the ceiling" if "ours" in rates else "not run"
        listed = "  ".join(f"{name} {rate:7.2f}" for name, rate in rates.items())
        print(f"{each['workload']:<34} {share}  {listed} {each['unit']}")
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
    cases = CASES[: options.only]
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        failures = list(find_failures(flash, device, list(cases)))
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
            "workloads": measure(flash, options.repeats),
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
