"""`kernel-builder export`: a release in one signed file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from kernel_builder.artifact.load import find_artifacts
from kernel_builder.audit import load_policy
from kernel_builder.cli.build_options import policy_option
from kernel_builder.cli.console import Console, shorten_path
from kernel_builder.cli.loading import map_repositories
from kernel_builder.cli.options import json_option, pass_console, project_argument, talk_options
from kernel_builder.cli.progress import show_progress
from kernel_builder.cli.publishing import (
    artifacts_option,
    choose_kernels,
    gate_options,
    kernels_option,
    places_option,
    prepare_release,
)
from kernel_builder.release.bundle import SUFFIX, write_bundle
from kernel_builder.release.card import find_reports
from kernel_builder.release.gate import Waiver, judge_artifacts
from kernel_builder.release.signing import KEY_VARIABLE, encode_key, load_private_key, tell_fingerprint
from kernel_builder.spec.reader import load_spec


@click.command()
@project_argument
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    envvar=KEY_VARIABLE,
    required=True,
    metavar="FILE",
    help="The private key to sign with; `kernel-builder key` makes one.",
)
@kernels_option
@places_option
@artifacts_option
@policy_option
@gate_options
@json_option
@talk_options
@pass_console
def export(  # noqa: PLR0917 - click passes by name
    console: Console,
    project: Path,
    key: Path,
    kernels: Sequence[str],
    output: Path | None,
    artifacts: Path | None,
    policy: str,
    *,
    waiver: Waiver,
) -> None:
    """Write releases to files that can be carried.

    Each kernel of PROJECT that was built becomes one signed file, with the same files and digests that `upload` would
    publish, and under the same conditions. `kernel-builder import` brings it into a registry or a cache.
    """
    spec = load_spec(project).spec
    secret = load_private_key(key)
    rules = load_policy(policy)
    repositories = map_repositories(spec)
    rows, documents = [], []
    found = find_artifacts((artifacts or spec.root / "build").absolute())
    with show_progress(console) as listener:
        for name, group in choose_kernels(spec, found, kernels).items():
            evidence = judge_artifacts(group, policy=rules, waiver=waiver, listener=listener)
            release = prepare_release(spec, group, evidence)
            target = (output or spec.root / "dist").absolute() / f"{name}-{release.branch}{SUFFIX}"
            reports = find_reports(spec.root, name)
            digest = write_bundle(release, target, secret, repo_id=repositories.get(name), reports=reports)
            rows.append((name, str(release.version), str(len(release.variants)), digest[:16], shorten_path(target)))
            documents.append(
                {
                    "kernel": name,
                    "version": release.version,
                    "variants": list(release.variants),
                    "digest": digest,
                    "path": str(target),
                }
            )
    fingerprint = tell_fingerprint(encode_key(secret.public_key()))
    if console.as_json:
        console.write_json({"fingerprint": fingerprint, "files": documents})
    console.write_table(("kernel", "version", "variants", "digest", "file"), rows)
    console.say(f"signed with `{fingerprint}`")
