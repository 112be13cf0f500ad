"""Documents like a `build.toml`: a good one, changed in a few places by hypothesis, and a writer that spells it."""

from __future__ import annotations

import copy
import datetime as dt
import json
import math
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

GOOD: dict[str, Any] = {
    "general": {
        "name": "relu",
        "version": 1,
        "edition": 5,
        "license": "MIT",
        "backends": ["cpu", "cuda", "xpu"],
        "upstream": "https://example.org/relu.git",
        "python-depends": ["einops"],
        "kernel-depends": [{"repo-id": "a/b", "version": 1}, {"repo-id": "c/d", "revision": "main"}],
        "hub": {"repo-id": "kernels-test/relu", "branch": "main"},
        "cuda": {"minver": "12.8", "maxver": "13.0", "python-depends": ["nvidia-cutlass-dsl"]},
        "xpu": {"python-depends": ["onednn"], "kernel-depends": []},
        "neuron": {"python-depends": ["nki"]},
        "tpu": {},
    },
    "torch": {
        "src": ["torch-ext/torch_binding.cpp", "torch-ext/torch_binding.h"],
        "include": ["."],
        "pyext": ["py", "json"],
        "minver": "2.9",
        "maxver": "2.13",
        "stable-abi": {"cpu": "2.10", "cuda": "2.11"},
        "cxx-flags": ["-O2"],
    },
    "kernel": {
        "relu_cpu": {"backend": "cpu", "depends": ["torch"], "src": ["cpu/relu.cpp"], "cxx-flags": ["-fopenmp"]},
        "relu": {
            "backend": "cuda",
            "depends": ["torch", "cutlass_3_6"],
            "src": ["cuda/relu.cu"],
            "include": ["cuda"],
            "cuda-capabilities": ["8.0", "9.0a"],
            "cuda-flags": ["-O3"],
            "cuda-minver": "12.8",
        },
        "relu_xpu": {"backend": "xpu", "depends": [], "src": ["xpu/relu.cpp"], "sycl-flags": []},
    },
}
WORDS = [
    *(
        "",
        " ",
        "relu",
        "Relu",
        "cpu",
        "cuda",
        "rocm",
        "metal",
        "tpu",
        "torch",
        "torch-noarch",
        "tvm-ffi",
        "kernel",
        "hub",
    ),
    *(
        "a/b",
        "../x",
        "/x",
        "x.cpp",
        "x\\y",
        "8.0",
        "9.0a",
        "gfx942",
        "2.9",
        "2",
        "2.9.1",
        "02.9",
        "main",
        "einops",
        "numpy",
    ),
    *("git@h:p", "ftp://x", "metal-cpp", "edition", "src", "universal", "language", "cuda_capabilities", "rocm_archs"),
]
SCALARS = st.one_of(
    st.sampled_from(WORDS),
    st.text(max_size=8),
    st.integers(-2, 9),
    st.sampled_from([2**63 - 1, 2**63, -(2**70), 10**30]),
    st.booleans(),
    st.floats(),
    st.dates(),
    st.datetimes(min_value=dt.datetime(1, 1, 2)),  # noqa: DTZ001 - TOML has local ones
    st.times(),
)
KEYS = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(sorted({key for table in (*GOOD["kernel"].values(), *GOOD.values()) for key in table})),
    st.text(max_size=4),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=5,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) inside a document."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """The good document with up to four changes: a value replaced, removed or added."""
    document = copy.deepcopy(GOOD)
    for _ in range(draw(st.integers(0, 4))):
        everywhere = list(places(document))
        if not everywhere:
            break
        container, key = draw(st.sampled_from(everywhere))
        match draw(st.sampled_from(["replace", "replace", "remove", "add"])):
            case "replace":
                container[key] = draw(VALUES)
            case "remove":
                del container[key]
            case "add" if isinstance(container, dict):
                container[draw(KEYS)] = draw(VALUES)
            case _:
                container.append(draw(VALUES))
    return document


def write_document(document: dict[str, Any], path: tuple[str, ...] = ()) -> str:
    """The document as TOML: each table under a header of its own, in the order of the dictionary."""
    lines = [f"[{'.'.join(map(quote, path))}]"] if path else []
    lines += [f"{quote(key)} = {write_value(value)}" for key, value in document.items() if not isinstance(value, dict)]
    inner = [write_document(value, (*path, key)) for key, value in document.items() if isinstance(value, dict)]
    return "\n".join([*lines, *inner]) + "\n"


def quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def write_value(value: Any) -> str:  # noqa: PLR0911 - one per type of TOML
    match value:
        case bool():
            return str(value).lower()
        case float() if math.isnan(value) or math.isinf(value):
            return str(value)
        case str():
            return quote(value)
        case list():
            return f"[{', '.join(map(write_value, value))}]"
        case dict():
            return "{" + ", ".join(f"{quote(key)} = {write_value(inner)}" for key, inner in value.items()) + "}"
        case dt.date() | dt.time():
            return value.isoformat()
        case _:
            return repr(value)
