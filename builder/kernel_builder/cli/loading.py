"""How a user loads what was built: lines to copy, exact to the path."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from kernel_builder.artifact.model import Artifact
from kernel_builder.spec.model import BuildSpec

_ATTENTION_FUNCTIONS = ("flash_attn_varlen_func", "flash_attn_forward")  # what transformers looks for


def list_loading_lines(spec: BuildSpec, artifacts: Sequence[Artifact]) -> Iterator[str]:
    """For each kernel: the call in Python, the environment variable for `get_kernel`, the line for transformers."""
    repo_ids = map_repositories(spec)
    places = {artifact.metadata.name: artifact.path.parent for artifact in artifacts}
    for name, place in sorted(places.items()):
        repo_id = repo_ids.get(name, f"local/{name}")
        yield f"\nload `{name}` with:"
        yield "  from pathlib import Path"
        yield "  from kernels import get_local_kernel"
        yield f"  kernel = get_local_kernel(Path({str(place)!r}))"
        yield f"or where a program asks for `{repo_id}`, with:"
        yield f"  LOCAL_KERNELS={shlex.quote(f'{repo_id}={place}')} python ..."
        if any(_is_attention(artifact) for artifact in artifacts if artifact.metadata.name == name):
            yield "and in transformers, with the same variable:"
            implementation = f"{repo_id}@v{spec.general.version}"
            yield f'  AutoModelForCausalLM.from_pretrained(..., attn_implementation="{implementation}")'


def map_repositories(spec: BuildSpec) -> dict[str, str]:
    """Kernel name -> Hub repository, for those that declare one."""
    declared = {spec.general.name: spec.general.hub_repo_id} | {face.name: face.hub_repo_id for face in spec.faces}
    return {name: repo_id for name, repo_id in declared.items() if repo_id is not None}


def _is_attention(artifact: Artifact) -> bool:
    source = Path(artifact.path / "__init__.py")
    text = source.read_text(encoding="utf-8", errors="replace") if source.is_file() else ""
    return any(name in text for name in _ATTENTION_FUNCTIONS)
