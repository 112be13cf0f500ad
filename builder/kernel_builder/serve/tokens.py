"""Who may do what: tokens of users, what they may write to, and the organisations that there are."""

from __future__ import annotations

import hashlib
import hmac
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

from kernel_builder.errors import BadInputError, Location, Problem
from kernel_builder.serve.faults import RequestError
from kernel_builder.serve.names import is_repository_name

ROLES = ("admin", "write", "contributor", "read")
ANYBODY = "anonymous"
_MIN_TOKEN = 8
_SHA256_LENGTH = 64
_HINT = "`docs/serve.md` shows a token file"


class Access(IntEnum):
    """What somebody may do; each may do what those before it may.

    Whoever may write somewhere may propose everywhere; the owners decide.
    """

    NONE = 0
    READ = 1
    PROPOSE = 2
    WRITE = 3


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request. namespaces: where they may write; `None` for everywhere."""

    name: str
    access: Access
    namespaces: frozenset[str] | None = None
    token_name: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether a token came with the request."""
        return self.token_name is not None

    def may_write(self, namespace: str) -> bool:
        """Whether repositories of this namespace may be made and changed."""
        return self.access >= Access.WRITE and (self.namespaces is None or namespace.lower() in self.namespaces)


@dataclass(frozen=True, slots=True)
class Organization:
    """A namespace that belongs to several users. members: user -> role."""

    name: str
    full_name: str
    trusted: bool = True
    members: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Accounts:
    """All tokens, by their SHA-256, and all organisations, by name in lower case.

    Without a token everybody may write: that is for one's own machine. anonymous: what a caller without a token may do
    when there are tokens.
    """

    tokens: Mapping[str, Caller] = field(default_factory=dict)
    organizations: Mapping[str, Organization] = field(default_factory=dict)
    anonymous: Access = Access.READ

    @property
    def is_open(self) -> bool:
        """Whether everybody may write."""
        return not self.tokens

    def authenticate(self, header: str | None) -> Caller:
        """Tell who sends an `Authorization` header. Raises `RequestError` for a token that is not known."""
        kind, _, token = (header or "").partition(" ")
        token = token.strip()
        if self.is_open:
            return Caller("local", Access.WRITE, token_name="any" if token else None)
        if header is None:
            return Caller(ANYBODY, self.anonymous)
        caller = self.tokens.get(hash_token(token)) if kind.lower() == "bearer" else None
        if caller is None:
            raise RequestError(HTTPStatus.UNAUTHORIZED, "Invalid credentials in Authorization header")
        return caller

    def merge(self, other: Self) -> Self:
        """Both tables in one."""
        return type(self)(
            {**self.tokens, **other.tokens},
            {**self.organizations, **other.organizations},
            min(self.anonymous, other.anonymous),
        )


def hash_token(token: str) -> str:
    """What is kept of a token: enough to recognise it, too little to use it."""
    return hashlib.sha256(token.encode()).hexdigest()


def token_accounts(token: str, access: Access, name: str) -> Accounts:
    """Accounts with this one token; where there is one for readers, nobody reads without.

    Raises `BadInputError` when it is too short to be a secret.
    """
    if len(token) < _MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise BadInputError(
            Problem(
                f"the {name} token must be at least {_MIN_TOKEN} printable ASCII characters without spaces",
                hint="`python3 -c 'import secrets; print(secrets.token_urlsafe())'` makes one",
            )
        )
    anonymous = Access.NONE if access is Access.READ else Access.READ
    return Accounts({hash_token(token): Caller(name, access, token_name=name)}, anonymous=anonymous)


def load_accounts(path: Path) -> Accounts:
    """Read a token file. Raises `BadInputError` that names what is wrong, and never quotes a token."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInputError(Problem(f"cannot read the token file: {reason}", Location(str(path)), _HINT)) from error
    reader = _Reader(path)
    reader.check_keys(document, ("token", "organization", "anonymous"), "the file")
    tokens = dict(reader.read_token(index, row) for index, row in enumerate(reader.tables(document, "token")))
    named = document.get("organization", {})
    reader.require(isinstance(named, dict), "organization", "must be a table of organisations")
    organizations = {name.lower(): reader.read_organization(name, table) for name, table in named.items()}
    anonymous = document.get("anonymous", "read")
    reader.require(anonymous in {"none", "read"}, "anonymous", "must be `read` or `none`")
    return Accounts(tokens, organizations, Access[anonymous.upper()])


class _Reader:
    """Reads the parts of one token file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def require(self, condition: bool, key: str, message: str) -> None:
        if not condition:
            raise BadInputError(Problem(f"`{key}` {message}", Location(str(self.path), key=key), _HINT))

    def check_keys(self, table: Mapping[str, Any], known: Iterable[str], key: str) -> None:
        unknown = sorted(set(table) - set(known))
        self.require(not unknown, key, f"has keys that mean nothing here: {', '.join(unknown)}")

    def tables(self, document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
        value = document.get(key, [])
        good = isinstance(value, list) and all(isinstance(row, dict) for row in value)
        self.require(good, key, f"must be an array of tables, `[[{key}]]`")
        return list(value)

    def read_token(self, index: int, row: Mapping[str, Any]) -> tuple[str, Caller]:
        key = f"token[{index}]"
        self.check_keys(row, ("sha256", "user", "access", "namespaces"), key)
        digest, user = row.get("sha256"), row.get("user")
        good = isinstance(digest, str) and len(digest) == _SHA256_LENGTH and set(digest) <= set("0123456789abcdef")
        self.require(good, f"{key}.sha256", "must be the SHA-256 of the token in hexadecimal")
        self.require(isinstance(user, str) and is_repository_name(user), f"{key}.user", "must name a user")
        access = row.get("access", "read")
        self.require(access in {"read", "write"}, f"{key}.access", "must be `read` or `write`")
        names = row.get("namespaces")
        listed = isinstance(names, list) and all(isinstance(name, str) and is_repository_name(name) for name in names)
        self.require(names is None or listed, f"{key}.namespaces", "must list namespaces")
        allowed = None if names is None else frozenset(name.lower() for name in names)
        return str(digest), Caller(str(user), Access[access.upper()], allowed, token_name=f"{user}-{index}")

    def read_organization(self, name: str, table: Any) -> Organization:
        key = f"organization.{name}"
        self.require(isinstance(table, dict) and is_repository_name(name), key, "must be a table with a plain name")
        self.check_keys(table, ("full-name", "trusted", "members"), key)
        members = table.get("members", {})
        good = isinstance(members, dict) and all(role in ROLES for role in members.values())
        self.require(good, f"{key}.members", f"must give each user one of the roles {', '.join(ROLES)}")
        full_name, trusted = table.get("full-name", name), table.get("trusted", True)
        self.require(isinstance(full_name, str), f"{key}.full-name", "must be a string")
        self.require(isinstance(trusted, bool), f"{key}.trusted", "must be true or false")
        return Organization(name, full_name, trusted, dict(members))


def sign(secret: bytes, *parts: object) -> str:
    """A signature that only this registry can make."""
    return hmac.new(secret, "\n".join(map(str, parts)).encode(), hashlib.sha256).hexdigest()


def is_signed(secret: bytes, signature: str, *parts: object) -> bool:
    """Whether this registry made the signature for these words."""
    return hmac.compare_digest(sign(secret, *parts).encode(), signature.encode())
