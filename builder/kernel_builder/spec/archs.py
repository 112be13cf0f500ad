"""Device archs as `build.toml` names them: CUDA compute capabilities and ROCm targets. `archs.toml` lists them."""

from __future__ import annotations

import re
import tomllib
from importlib import resources

from kernel_builder.spec.problems import BadValueError, show, suggest

_DATA = tomllib.loads(resources.files("kernel_builder.spec").joinpath("archs.toml").read_text(encoding="utf-8"))
_CAPABILITY = re.compile(r"(\d{1,2})\.\d([af]?)(\+PTX)?", re.ASCII)
_ROCM_FEATURES = re.compile(r"(:sramecc[+-])?(:xnack[+-])?")


def _major(capability: str) -> int:
    return int(capability.partition(".")[0])


_PLAIN: tuple[str, ...] = tuple(_DATA["cuda"]["capabilities"])
CUDA_CAPABILITIES = frozenset(
    [
        *_PLAIN,
        *(f"{capability}a" for capability in _PLAIN if _major(capability) >= _DATA["cuda"]["exact-since"]),
        *(f"{capability}f" for capability in _PLAIN if _major(capability) >= _DATA["cuda"]["family-since"]),
    ]
)
ROCM_ARCHS: frozenset[str] = frozenset(_DATA["rocm"]["archs"])
_MAJORS = frozenset(_major(capability) for capability in _PLAIN)


def parse_cuda_capability(text: str) -> str:
    """A compute capability such as `8.0`, `9.0a` or `9.0+PTX`. Raises `BadValueError` for one of no GPU family.

    The minor version is not looked at: `is_known_capability` tells whether there is such a GPU.
    """
    match = _CAPABILITY.fullmatch(text)
    if match is not None and int(match[1]) in _MAJORS:
        return text
    close = suggest(_spelled_as_capability(text), CUDA_CAPABILITIES)
    if close is not None and text.lower().endswith("+ptx"):
        close += "+PTX"
    hint = "write it as `8.0`, `9.0a` or `9.0+PTX`" if close is None else f"did you mean `{close}`?"
    raise BadValueError(f"is not a CUDA capability that this builder knows, got `{show(text)}`", hint)


def is_known_capability(text: str) -> bool:
    """Whether a GPU has this capability."""
    return text.removesuffix("+PTX") in CUDA_CAPABILITIES


def _spelled_as_capability(text: str) -> str:
    """`sm_90a`, `compute_90a` and `90a` in the spelling that the format uses; other text without its `+ptx`."""
    text = re.sub(r"\+ptx$", "", text, flags=re.IGNORECASE)
    match = re.fullmatch(r"(?:sm_?|compute_?)?(\d{1,2})(\d)([af]?)", text, re.IGNORECASE)
    return text if match is None else f"{match[1]}.{match[2]}{match[3].lower()}"


def parse_rocm_arch(text: str) -> str:
    """A ROCm target such as `gfx942` or `gfx90a:xnack-`. Raises `BadValueError` for one that no GPU has."""
    arch, separator, features = text.partition(":")
    if arch in ROCM_ARCHS and _ROCM_FEATURES.fullmatch(separator + features):
        return text
    close = None if arch in ROCM_ARCHS else suggest(arch, ROCM_ARCHS)
    hint = "write it as `gfx942` or `gfx90a:xnack-`" if close is None else f"did you mean `{close}`?"
    raise BadValueError(f"is not a ROCm arch that this builder knows, got `{show(text)}`", hint)
