"""`kernel-builder import`: a signed release, from a file into a registry, a cache or a directory."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from kernel_builder.artifact.pack import CHOOSE_OUTPUT, open_staging, place_artifact
from kernel_builder.cli.console import Console
from kernel_builder.cli.options import dry_run_option, json_option, pass_console, talk_options
from kernel_builder.cli.progress import show_progress
from kernel_builder.cli.publishing import keep_option, repo_option
from kernel_builder.cli.upload import describe_upload, write_receipts, write_upload_plan
from kernel_builder.disk import explain_disk
from kernel_builder.errors import BadInputError, Problem
from kernel_builder.release.bundle import Bundle, open_bundle
from kernel_builder.release.hub import Hub
from kernel_builder.release.hub_cache import find_cache, write_cache
from kernel_builder.release.intent import Destination, plan_upload
from kernel_builder.release.model import Repo
from kernel_builder.release.signing import load_trusted_keys
from kernel_builder.release.upload import run_upload


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@repo_option
@click.option(
    "--trust",
    "trusted",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A public key whose releases to take.  [default: those in the user's `trusted-keys`; repeatable]",
)
@click.option("--cache", is_flag=True, help="Into the cache of this machine's loaders, not into a registry.")
@click.option("--cache-dir", type=click.Path(path_type=Path), metavar="DIR", help="Into this cache.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Into this directory, as a build.")
@keep_option
@dry_run_option
@json_option
@talk_options
@pass_console
def import_(  # noqa: PLR0917 - click passes by name
    console: Console,
    file: Path,
    repo_id: str | None,
    trusted: Sequence[Path],
    cache_dir: Path | None,
    output: Path | None,
    *,
    cache: bool,
    keep: bool,
    dry_run: bool,
) -> None:
    """Take in a release that was exported.

    FILE is checked first: a trusted key must have signed it, and every byte must be what was signed. Then it goes to
    the registry of `HF_ENDPOINT` as `upload` would publish it, or with `--cache` to where `get_kernel` finds it without
    a network, or with `--output` to a directory for `get_local_kernel`.
    """
    if output is not None and (cache or cache_dir is not None):
        raise BadInputError(Problem("`--cache` and `--output` are two places", hint="take one of them"))
    with open_bundle(file, load_trusted_keys(trusted)) as bundle:
        console.say(f"`{file}` is {bundle.release.name} version {bundle.release.version}, `{bundle.fingerprint}`")
        if output is not None:
            _write_directory(console, bundle, output, dry_run=dry_run)
            return
        repo = Repo(_choose_repo(bundle, repo_id))
        if cache or cache_dir is not None:
            _write_cache(console, bundle, repo, cache_dir or find_cache(), dry_run=dry_run)
            return
        with show_progress(console) as listener:
            hub = Hub(listener=listener)
            target = Destination(repo, keep=keep)
            plan = plan_upload(hub, bundle.release, target, reports=bundle.reports, listener=listener)
            write_upload_plan(console, plan)
            receipts = () if dry_run else run_upload(hub, plan, listener=listener)
        if console.as_json:
            releases = [describe_upload(plan, receipts)]
            console.write_json({"dry-run": dry_run, "fingerprint": bundle.fingerprint, "releases": releases})
        write_receipts(console, [plan], [receipts])


def _choose_repo(bundle: Bundle, repo_id: str | None) -> str:
    chosen = repo_id or bundle.repo_id
    if chosen is None:
        raise BadInputError(Problem("the file names no repository", hint="name one with `--repo owner/name`"))
    return chosen


def _write_cache(console: Console, bundle: Bundle, repo: Repo, cache: Path, *, dry_run: bool) -> None:
    release = bundle.release
    snapshot, commit = (None, None) if dry_run else write_cache(release, repo, cache, bundle.digest)
    if console.as_json:
        console.write_json(
            {
                "dry-run": dry_run,
                "fingerprint": bundle.fingerprint,
                "repo-id": repo.repo_id,
                "commit": commit,
                "path": None if snapshot is None else str(snapshot),
            }
        )
    console.write(f"{repo}@{release.branch}: {len(release.variants)} variants, {len(release.files)} files in {cache}")
    console.say(f'\nload it with:\n  HF_HUB_OFFLINE=1, get_kernel("{repo}", version={release.version})')


def _write_directory(console: Console, bundle: Bundle, output: Path, *, dry_run: bool) -> None:
    if not dry_run:
        with (
            show_progress(console) as listener,
            open_staging(output, listener) as staging,
            explain_disk(f"`{output}`", CHOOSE_OUTPUT),
        ):
            for artifact in bundle.release.artifacts:
                copy = staging / artifact.path.name
                shutil.copytree(artifact.path, copy)
                place_artifact(replace(artifact, path=copy), output)
    if console.as_json:
        variants = list(bundle.release.variants)
        document = {"fingerprint": bundle.fingerprint, "path": str(output.absolute()), "variants": variants}
        console.write_json({"dry-run": dry_run, **document})
    for variant in bundle.release.variants:
        console.write(str(output / variant))
