"""The page of a kernel's repository: how to load it, what it holds, what stands behind it, and what does not."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel_builder.artifact.model import Artifact, Metadata
from kernel_builder.backend import Backend
from kernel_builder.bench.report import is_busy, is_readable, load_report
from kernel_builder.bench.table import list_rows
from kernel_builder.errors import BadInputError
from kernel_builder.release.contents import RESULTS_FOLDER
from kernel_builder.release.model import Evidence, Holding, Release, Repo
from kernel_builder.render.environment import render_template
from kernel_builder.variant import ArchVariant, parse_variant

_ATTENTION_NAMES = {"flash_attn_varlen_func", "flash_attn_forward"}  # what transformers looks for
_KNOWN = """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 cc-by-4.0
cc-by-nc-4.0 cc-by-nc-sa-4.0 cc-by-sa-4.0 cc0-1.0 ecl-2.0 epl-1.0 epl-2.0 eupl-1.1 eupl-1.2 gpl gpl-2.0
gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 mit mpl-2.0 ms-pl ncsa ofl-1.1 osl-3.0 postgresql unlicense wtfpl zlib
"""
_LICENSES = frozenset(_KNOWN.split())
"""License ids that the Hub knows; it refuses a page with any other."""

_LAYERS = "layers."
_DEVICES = {
    Backend.CPU: "cpu",
    Backend.CUDA: "cuda",
    Backend.ROCM: "rocm",
    Backend.METAL: "mps",
    Backend.XPU: "xpu",
    Backend.CANN: "npu",
}
"""What the loader calls the devices of a backend."""

_MOST_ROWS = 60
_COLUMNS = (0, 1, 3, 7, 8)
"""Workload, threads, median, comparison and who verified it in a row of a benchmark's table."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a page tells beyond the release itself.

    is_trusted: whether loaders take this owner's kernels without being told to. left: variants on the branch that this
    release does not touch. reports: the project's benchmark reports.
    """

    repo: Repo
    is_trusted: bool
    left: Sequence[Holding] = ()
    reports: Sequence[Mapping[str, Any]] = ()


def render_card(release: Release, page: Page) -> bytes:
    """Write the page; equal values give equal bytes."""
    metadata = release.holdings[0].metadata
    holdings = sorted((*release.holdings, *page.left), key=lambda holding: holding.variant)
    license_id = metadata.license.lower()
    names = sorted({name for holding in holdings for name in holding.interface.names})
    lists = [("Public names", names), *_list_capabilities(holdings)]
    return render_template(
        "card.md.j2",
        license=license_id if license_id in _LICENSES else "other",
        license_name=None if license_id in _LICENSES else metadata.license,
        name=release.name,
        warnings=list(_list_warnings(release)),
        loading=_write_loading(release, page),
        examples=list(_list_examples(release, page, holdings, names)),
        notes=list(_list_notes(release, page, metadata)),
        lists=[(title, words) for title, words in lists if words],
        version=str(release.version),
        variants=[_describe_variant(holding, release) for holding in holdings],
        tables=[table for report in page.reports if (table := _make_table(report, release)) is not None],
        figures=[figure.path for figure in release.figures],
    )


def find_reports(project: Path, kernel: str) -> tuple[Mapping[str, Any], ...]:
    """The benchmark reports that a project keeps of one of its kernels, by file name."""
    reports = []
    for path in sorted((project / RESULTS_FOLDER).rglob("*.json")):
        if not path.resolve().is_relative_to(project.resolve()):
            continue
        try:
            report = load_report(path)
        except BadInputError:
            continue  # something else that is kept there
        if report.get("kernel") == kernel:
            reports.append(report)
    return tuple(reports)


def _write_loading(release: Release, page: Page) -> str:
    repo = json.dumps(page.repo.repo_id)
    permission = "" if page.is_trusted else f", trust_remote_code=[{repo}]"
    return f"from kernels import get_kernel\n\nkernel = get_kernel({repo}, version={release.version}{permission})"


def _list_examples(
    release: Release, page: Page, holdings: Sequence[Holding], names: Sequence[str]
) -> Iterator[tuple[str, str]]:
    if _ATTENTION_NAMES & set(names):
        yield "In `transformers`, as the attention of a model", _write_model(release, page)
    layers = [name.removeprefix(_LAYERS) for name in names if name.startswith(_LAYERS)]
    layers = [name for name in layers if name[:1].isupper()]  # classes, as their names tell
    if layers:
        devices = sorted({_DEVICES.get(holding.metadata.backend, "") for holding in holdings} - {""})
        yield (
            "In the place of layers that models declare to be replaceable",
            _write_mapping(release, page, layers, devices),
        )


def _write_mapping(release: Release, page: Page, layers: Sequence[str], devices: Sequence[str]) -> str:
    repo = json.dumps(page.repo.repo_id)
    permission = "" if page.is_trusted else f", trust_remote_code=[{repo}]"
    lines = [
        "from kernels import LayerRepository, register_kernel_mapping",
        "",
        "register_kernel_mapping({",
        f"    name: {{device: LayerRepository({repo}, layer_name=name, version={release.version}{permission})",
        f"           for device in {json.dumps(list(devices))}}}",
        f"    for name in {json.dumps(list(layers))}",
        "})",
    ]
    return "\n".join(lines)


def _write_model(release: Release, page: Page) -> str:
    """`transformers` takes version 1 where none is named."""
    implementation = page.repo.repo_id if release.version == 1 else f"{page.repo.repo_id}@{release.branch}"
    lines = [
        "from transformers import AutoModelForCausalLM",
        "",
        "model = AutoModelForCausalLM.from_pretrained(",
        '    "your-org/your-model",',
        f"    attn_implementation={json.dumps(implementation)},",
        *([] if page.is_trusted else ["    allow_all_kernels=True,"]),
        ")",
    ]
    return "\n".join(lines)


def _list_notes(release: Release, page: Page, metadata: Metadata) -> Iterator[str]:
    if len(release.variants) + len(page.left) == 1:
        yield f'To load it without a network later, load it once with `revision="{release.branch}"`, not `version`.'
    else:
        fetch = f'snapshot_download("{page.repo}", repo_type="{page.repo.repo_type}", revision="{release.branch}")'
        yield f"To load it without a network later, fetch all of it once: `huggingface_hub.{fetch}`."
    if metadata.python_depends:
        yield "It needs these Python packages: " + ", ".join(f"`{name}`" for name in metadata.python_depends) + "."
    for title, url in (("Sources", metadata.source), ("Upstream", metadata.upstream)):
        if url is not None:
            yield f"{title}: `{url}`"


def _list_warnings(release: Release) -> Iterator[str]:
    """What was published although it should not have been; silence means that nothing was."""
    for word, judged in (
        ("no audit has passed", {name: each.audit for name, each in release.evidence.items()}),
        ("no test run is recorded", {name: each.tests for name, each in release.evidence.items()}),
    ):
        missing = sorted(name for name, value in judged.items() if value is None)
        if missing:
            which = "any variant" if len(missing) == len(judged) else ", ".join(f"`{name}`" for name in missing)
            yield f"Published at the publisher's own risk: {word} for {which}."
    if any(is_dirty(holding.metadata) for holding in release.holdings):
        yield "Built from sources with changes that no commit has."


def is_dirty(metadata: Metadata) -> bool:
    """Whether what was built differs from the commit that the metadata names."""
    return (
        metadata.provenance is not None and metadata.provenance.kernel is not None and metadata.provenance.kernel.dirty
    )


def _list_capabilities(holdings: Sequence[Holding]) -> Iterator[tuple[str, list[str]]]:
    """What users may rely on with every variant, and what else with every variant of a backend."""
    promised: dict[str, set[str]] = {}
    for holding in holdings:
        record = holding.metadata.record
        words = set(() if record is None else record.capabilities)
        backend = str(holding.metadata.backend)
        promised[backend] = promised.get(backend, words) & words
    everywhere = set.intersection(*promised.values())
    yield "Users may rely on", sorted(everywhere)
    for backend, words in sorted(promised.items()):
        yield f"On {backend} also on", sorted(words - everywhere)


def _describe_variant(holding: Holding, release: Release) -> dict[str, str]:
    evidence = release.evidence.get(holding.variant)
    unknown = Evidence("as published before", "as published before") if evidence is None else evidence
    archs = ", ".join(holding.metadata.archs or ())
    return {
        "variant": holding.variant,
        "devices": f"{holding.metadata.backend}{f' ({archs})' if archs else ''}",
        "audit": unknown.audit or "not passed",
        "tests": unknown.tests or "none recorded",
        "digest": _find_digest(holding),
    }


def _find_digest(holding: Holding) -> str:
    """The hex sha256 of the library, or one over the digests of all files of a variant that has none."""
    digest = holding.metadata.digest
    if digest is None or digest.algorithm != "sha256":
        return "not recorded"
    try:
        variant = parse_variant(holding.variant)
    except ValueError:
        return "not recorded"
    library = Artifact(Path(), variant, holding.metadata).library if isinstance(variant, ArchVariant) else None
    if library is not None and library.name in digest.files:
        return base64.b64decode(digest.files[library.name]).hex()
    return _tested_artifact(holding.metadata) or "not recorded"


def _make_table(report: Mapping[str, Any], release: Release) -> dict[str, Any] | None:
    """The figures of one report; None for one that cannot be read, or has none."""
    if not is_readable(report):
        return None
    machine = report["machine"]
    title = f"on {machine['cpu']} with torch {machine['torch']}, {report['date'][:10]}"
    tested = {_tested_artifact(holding.metadata) for holding in release.holdings}
    if report["artifact"] not in tested:
        title += ", with an earlier build"
    if any(is_busy(run, machine["usable-cores"]) for run in report["runs"]):
        title += ", while other programs ran"
    rows = [[row[column] for column in _COLUMNS] for row in list_rows(report)]
    if not rows:
        return None
    if len(rows) > _MOST_ROWS:
        title += f"; the first {_MOST_ROWS} of {len(rows)} workloads"
    return {"title": title, "rows": rows[:_MOST_ROWS]}


def _tested_artifact(metadata: Metadata) -> str | None:
    """The digest of the files, as test records and benchmark reports name it."""
    if metadata.digest is None:
        return None
    listed = json.dumps(dict(sorted(metadata.digest.files.items())), separators=(",", ":"))
    return hashlib.sha256(listed.encode()).hexdigest()
