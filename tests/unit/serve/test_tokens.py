from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from kernel_builder.errors import BadInputError
from kernel_builder.serve.faults import RequestError
from kernel_builder.serve.tokens import Access, Accounts, is_signed, load_accounts, sign, token_accounts

TOKEN = "a-token-of-somebody"  # noqa: S105 - nobody's
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()
ROW = f'[[token]]\nuser = "me"\nsha256 = "{DIGEST}"\n'


def load(tmp_path: Path, text: str) -> Accounts:
    path = tmp_path / "tokens.toml"
    path.write_text(text, encoding="utf-8")
    return load_accounts(path)


def test_a_file(tmp_path: Path) -> None:
    accounts = load(
        tmp_path,
        f'anonymous = "none"\n{ROW}access = "write"\nnamespaces = ["Lab"]\n'
        '[organization.Lab]\nfull-name = "The Lab"\ntrusted = false\nmembers = { me = "admin" }\n',
    )
    caller = accounts.authenticate(f"Bearer {TOKEN}")
    assert (caller.name, caller.access) == ("me", Access.WRITE)
    assert caller.may_write("lab")
    assert caller.may_write("LAB")
    assert not caller.may_write("elsewhere")
    assert accounts.authenticate(None).access is Access.NONE
    assert accounts.organizations["lab"].members == {"me": "admin"}
    assert not accounts.organizations["lab"].trusted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("token = 3", "`token` must be an array of tables"),
        ("unknown = 1", "keys that mean nothing here: unknown"),
        ("[[token]]\nuser = 'me'", "`token[0].sha256` must be the SHA-256"),
        (f"[[token]]\nuser = 'me'\nsha256 = '{DIGEST.upper()}'", "`token[0].sha256`"),
        (f"[[token]]\nuser = '../me'\nsha256 = '{DIGEST}'", "`token[0].user` must name a user"),
        (f"{ROW}access = 'root'", "`token[0].access` must be `read` or `write`"),
        (f"{ROW}namespaces = 'lab'", "`token[0].namespaces` must list namespaces"),
        (f"{ROW}token = 'x'", "`token[0]` has keys"),
        ("organization = 1", "`organization` must be a table"),
        ("[organization.'a b']", "`organization.a b` must be a table with a plain name"),
        ("[organization.lab.members]\nme = 'king'", "one of the roles admin, write, contributor, read"),
        ("[organization.lab]\ntrusted = 1", "`organization.lab.trusted` must be true or false"),
        ("anonymous = 'write'", "`anonymous` must be `read` or `none`"),
        ("[[token", "cannot read the token file"),
    ],
)
def test_files_that_make_no_sense(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadInputError) as refused:
        load(tmp_path, text)
    assert words in str(refused.value)


def test_everybody_may_write_without_tokens() -> None:
    caller = Accounts().authenticate(None)
    assert caller.may_write("anything")
    assert not caller.is_known


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"bearer  {TOKEN[1:]}"]
)
def test_tokens_that_are_not_known(header: str) -> None:
    accounts = token_accounts(TOKEN, Access.WRITE, "writer")
    assert accounts.authenticate(f"bearer {TOKEN}").name == "writer"
    with pytest.raises(RequestError, match="Invalid credentials"):
        accounts.authenticate(header)


def test_with_a_token_for_readers_nobody_reads_without() -> None:
    writers, readers = token_accounts(TOKEN, Access.WRITE, "writer"), token_accounts(TOKEN[::-1], Access.READ, "reader")
    assert writers.authenticate(None).access is Access.READ
    for both in (writers.merge(readers), readers.merge(writers)):
        assert both.authenticate(None).access is Access.NONE
        assert not both.is_open


def test_signatures_are_for_their_words_only() -> None:
    signature = sign(b"secret", "a", 1)
    assert is_signed(b"secret", signature, "a", 1)
    for secret, words in (
        (b"other", ("a", 1)),
        (b"secret", ("a", 2)),
        (b"secret", ("a",)),
        (b"secret", ("a", "1", "")),
    ):
        assert not is_signed(secret, signature, *words)
    assert not is_signed(b"secret", "\u00e9", "a", 1)
