"""Is what was timed right? Outputs are held to what the benchmark itself says they must be."""

from __future__ import annotations

import torch

from kernel_builder.bench.child.problem import Trouble, TroubleError, explain
from kernel_builder.bench.child.workloads import KERNEL, Workload


def find_difference(output: object, expected: object, atol: float, rtol: float) -> str | None:
    """Say how an output (a tensor or a sequence of tensors) differs from what is expected; None if it does not."""
    if isinstance(output, torch.Tensor) and isinstance(expected, torch.Tensor):
        if output.shape != expected.shape:
            return f"the shape is {tuple(output.shape)}, not {tuple(expected.shape)}"
        wide = torch.complex128 if output.is_complex() or expected.is_complex() else torch.float64
        ours, theirs = (each.detach().cpu().to(wide) for each in (output, expected))
        if torch.allclose(ours, theirs, atol=atol, rtol=rtol):
            return None
        worst = (ours - theirs).abs().nan_to_num(nan=torch.inf).max().item()
        return f"the largest error is {worst:.2g}, beyond atol={atol:g} and rtol={rtol:g}"
    if isinstance(output, (tuple, list)) and isinstance(expected, (tuple, list)):
        if len(output) != len(expected):
            return f"the number of outputs is {len(output)}, not {len(expected)}"
        pairs = zip(output, expected, strict=True)
        return next(filter(None, (find_difference(each, wanted, atol, rtol) for each, wanted in pairs)), None)
    return f"`self.out` is {_name(output)}, and {_name(expected)} is expected"


def verify_first(workload: Workload) -> None:
    """Run everything once and hold each output to `verify_X`, or without one to the first reference.

    Raises `TroubleError` when a call raises or an output is wrong.
    """
    outputs = _call_all(workload)
    if workload.verify is not None:
        workload.expected = _call_verify(workload)
    else:
        workload.expected = next((out for label, out in outputs.items() if label != KERNEL and out is not None), None)
    check_outputs(workload, outputs)


def verify_again(workload: Workload) -> None:
    """Verify after timing: everything runs once more, against a fresh result of `verify_X`."""
    outputs = _call_all(workload)
    if workload.verify is not None:
        workload.expected = _call_verify(workload)
    check_outputs(workload, outputs)


def forget_output(workload: Workload) -> None:
    """Leave nothing that a call which computes nothing could be taken to have made."""
    if workload.makes_output:
        workload.instance.out = None


def verify_timed(workload: Workload) -> None:
    """Hold the output that a timed sample left to the expected one; made anew if the benchmark changes its inputs."""
    if (
        workload.expected is None
        or find_difference(workload.instance.out, workload.expected, *workload.tolerances) is None
    ):
        return
    if workload.verify is not None:
        workload.expected = _call_verify(workload)
    check_outputs(workload, {KERNEL: workload.instance.out})


def check_outputs(workload: Workload, outputs: dict[str, object]) -> None:
    """Raise `TroubleError` for every output that is not the expected one."""
    if workload.expected is None:
        return
    troubles = []
    for label, output in outputs.items():
        if output is None and label != KERNEL:
            continue  # a reference that returns nothing is timed, but cannot be verified
        try:
            said = find_difference(output, workload.expected, *workload.tolerances)
        except (RuntimeError, TypeError) as error:  # what torch has no comparison for, such as sparse tensors
            said = f"it cannot be compared: {str(error).splitlines()[0]}"
        if said is not None:
            what = "the output" if label == KERNEL else f"the output of its reference `{label}`"
            message = f"{what} of `{workload.name}` is wrong: {said}"
            troubles.append(Trouble(message, str(workload.file), None, workload.name))
    if troubles:
        raise TroubleError(*troubles)


def _call_all(workload: Workload) -> dict[str, object]:
    """What everything gives that can be wrong, which the verification itself cannot."""
    return {
        label: _call(workload, label) for label, call in workload.contestants.items() if call is not workload.verify
    }


def _call(workload: Workload, label: str) -> object:
    try:
        returned = workload.contestants[label]()
    except (Exception, SystemExit) as error:
        what = f"`{workload.name}`" if label == KERNEL else f"the reference `{label}` of `{workload.name}`"
        raise TroubleError(explain(error, what, workload.file, workload.name)) from error
    return workload.instance.out if label == KERNEL else returned


def _call_verify(workload: Workload) -> object:
    assert workload.verify is not None  # noqa: S101 - for mypy: the callers have looked
    what = f"the verification of `{workload.name}`"
    try:
        expected = workload.verify()
    except (Exception, SystemExit) as error:
        raise TroubleError(explain(error, what, workload.file, workload.name)) from error
    if expected is None:
        raise TroubleError(Trouble(f"{what} returned nothing", str(workload.file), None, workload.name))
    return expected


def _name(value: object) -> str:
    return "nothing" if value is None else f"a `{type(value).__name__}`"
