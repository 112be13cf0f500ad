"""Ed25519 signatures: keys in files as `openssl` and `ssh-keygen` write them, and whom a site trusts."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import platformdirs
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from kernel_builder.disk import explain_disk
from kernel_builder.errors import BadInputError, Problem

KEY_VARIABLE = "KERNEL_BUILDER_KEY"
_LARGEST_KEY = 1 << 16
_RAW = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
_MAKE = "`kernel-builder key FILE` makes one"


def make_key(target: Path) -> Ed25519PublicKey:
    """Write a new private key, readable by its owner only, and the public one beside it as `<target>.pub`.

    Raises `BadInputError` when there is a file already.
    """
    public_file = target.with_name(f"{target.name}.pub")
    for path in (target, public_file):
        if path.exists() or path.is_symlink():
            raise BadInputError(Problem(f"there is a file `{path}` already", hint="a key is never overwritten"))
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with explain_disk(f"`{target}`", "choose another place"):
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secret)
        public_file.write_bytes(
            key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
    return key.public_key()


def load_private_key(file: Path) -> Ed25519PrivateKey:
    """Read a private key. Raises `BadInputError` for anything that is not an Ed25519 key without a passphrase."""
    content = _read(file)
    for load in (serialization.load_pem_private_key, serialization.load_ssh_private_key):
        try:
            key = load(content, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
        if isinstance(key, Ed25519PrivateKey):
            return key
    message = f"`{file}` is not a private Ed25519 key without a passphrase"
    raise BadInputError(Problem(message, hint=_MAKE))


def load_public_key(file: Path) -> Ed25519PublicKey:
    """Read a public key. Raises `BadInputError` for anything else."""
    content = _read(file)
    for load in (serialization.load_pem_public_key, serialization.load_ssh_public_key):
        try:
            key = load(content)
        except (ValueError, UnsupportedAlgorithm):
            continue
        if isinstance(key, Ed25519PublicKey):
            return key
    raise BadInputError(Problem(f"`{file}` is not a public Ed25519 key", hint="it is the file that ends in `.pub`"))


def load_trusted_keys(files: Iterable[Path]) -> tuple[Ed25519PublicKey, ...]:
    """The keys in `files`, and those in the user's own directory of trusted keys."""
    return tuple(load_public_key(file) for file in (*files, *sorted(trusted_directory().glob("*.pub"))))


def trusted_directory() -> Path:
    """Where a user keeps the public keys of those whose releases are taken without a question."""
    return platformdirs.user_config_path("kernel-builder", appauthor=False) / "trusted-keys"


def encode_key(key: Ed25519PublicKey) -> str:
    """The key as text."""
    return base64.b64encode(key.public_bytes(*_RAW)).decode("ascii")


def tell_fingerprint(key: str) -> str:
    """A short name of a key, to be compared over the telephone; `key` as `encode_key` gives it."""
    return f"SHA256:{hashlib.sha256(base64.b64decode(key)).hexdigest()[:32]}"


def sign(key: Ed25519PrivateKey, message: bytes) -> str:
    """The signature as text."""
    return base64.b64encode(key.sign(message)).decode("ascii")


def is_signed_by(key: Ed25519PublicKey, signature: str, message: bytes) -> bool:
    """Whether the owner of the key signed exactly this message."""
    try:
        key.verify(base64.b64decode(signature, validate=True), message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(_LARGEST_KEY)
    except OSError as error:
        raise BadInputError(Problem(f"cannot read the key `{file}`: {error.strerror}", hint=_MAKE)) from error
