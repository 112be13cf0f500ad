"""`kernel-builder key`: a pair of keys for signing releases."""

from __future__ import annotations

from pathlib import Path

import click

from kernel_builder.cli.console import Console
from kernel_builder.cli.options import json_option, pass_console, talk_options
from kernel_builder.release.signing import encode_key, make_key, tell_fingerprint


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@talk_options
@pass_console
def key(console: Console, file: Path) -> None:
    """Make a pair of keys for signing.

    FILE becomes the private key (Ed25519, PEM), to be kept secret; FILE.pub the public one, to be given to those who
    are to trust it. Keys of `openssl genpkey -algorithm ed25519` and `ssh-keygen -t ed25519` do as well.
    """
    public = make_key(file)
    fingerprint = tell_fingerprint(encode_key(public))
    if console.as_json:
        console.write_json({"private": str(file), "public": f"{file}.pub", "fingerprint": fingerprint})
    console.write(f"{file}.pub {fingerprint}")
    console.say(f"sign with `kernel-builder export --key {file}`; give `{file}.pub` to those who import", style="dim")
