"""What every route works with: the storage, the accounts, the limits; and how one request asks for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import unquote

from starlette.requests import Request

from kernel_builder.serve.catalog import Catalog, MovedError
from kernel_builder.serve.faults import RequestError, bad_request, no_such_repository
from kernel_builder.serve.names import RepoId, RepoType
from kernel_builder.serve.repository import Repository
from kernel_builder.serve.storage import Storage
from kernel_builder.serve.tokens import Access, Accounts, Caller


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request may ask for, in bytes and seconds."""

    file: int = 4 << 30
    commit: int = 8 << 30
    json: int = 8 << 20
    patience: float = 60.0
    """How long a client may take for its next bytes, and to take ours."""
    part: int = 64 << 20
    """Large files above this size are sent in parts of it."""


@dataclass(frozen=True, slots=True)
class Registry:
    """One registry while it is served. lfs: ask clients to send large files by themselves, not within the commit."""

    storage: Storage
    catalog: Catalog
    accounts: Accounts = field(default_factory=Accounts)
    limits: Limits = field(default_factory=Limits)
    lfs: bool = False
    url: str | None = None
    trusted: frozenset[str] | None = None
    """Namespaces, in lower case, whose kernels clients load without being told to; `None` for all."""
    local: bool = False
    """Whether everybody may write, but only from this machine."""

    def trusts(self, namespace: str) -> bool:
        """Whether clients are told that a publisher can be trusted."""
        return self.trusted is None or namespace.lower() in self.trusted


def registry_of(request: Request) -> Registry:
    """The registry that a request came to."""
    registry: Registry = request.app.state.registry
    return registry


def caller_of(request: Request) -> Caller:
    """Who sent a request. Raises `RequestError` for a token that is not known."""
    return registry_of(request).accounts.authenticate(request.headers.get("authorization"))


def endpoint_of(request: Request) -> str:
    """The URL that clients reach the registry by, without a slash at its end."""
    return (registry_of(request).url or str(request.base_url)).rstrip("/")


def word(request: Request, name: str) -> str:
    """A part of the path, decoded. Raises `RequestError` unless it is UTF-8."""
    try:
        return unquote(request.path_params[name], errors="strict")
    except UnicodeDecodeError as error:
        raise bad_request(f"the {name} in the URL is not UTF-8") from error


def repository_id(request: Request) -> RepoId:
    """The repository that a path names, without looking whether it exists. Raises `RequestError`."""
    kinds = request.path_params.get("kinds", RepoType.MODEL.plural)
    kind = RepoType.parse_plural(kinds)
    if kind is None:
        raise RequestError(HTTPStatus.NOT_FOUND, f"`{kinds}` are not kept here")
    return RepoId.parse(kind, word(request, "namespace"), word(request, "name"))


def open_repository(request: Request, access: Access = Access.READ) -> tuple[Repository, Caller]:
    """The repository that a path names, for a caller who may do that with it. Raises `RequestError`.

    A private repository looks as if it did not exist to whoever may not read it.
    """
    return check_access(request, repository_id(request), access)


def check_access(request: Request, wanted: RepoId, access: Access) -> tuple[Repository, Caller]:
    """The same for a repository that is named in a body."""
    caller = caller_of(request)
    repository = find_readable(request, wanted, caller)
    if repository is None:
        if not caller.is_known and not registry_of(request).accounts.is_open:
            raise RequestError(HTTPStatus.UNAUTHORIZED, "Invalid username or password.", code="RepoNotFound")
        raise no_such_repository(wanted)
    if access is Access.WRITE or (access is Access.PROPOSE and caller.access < Access.PROPOSE):
        require_write(request, caller, wanted.namespace)
    return repository, caller


def find_readable(request: Request, wanted: RepoId, caller: Caller) -> Repository | None:
    """The repository, if there is one that the caller may know of."""
    catalog = registry_of(request).catalog
    if caller.access < Access.READ or not catalog.has(wanted):
        return None
    try:
        repository = catalog.find(wanted)
    except MovedError as moved:
        if may_read(catalog.find(moved.new), caller):
            raise
        return None
    return repository if may_read(repository, caller) else None


def may_read(repository: Repository, caller: Caller) -> bool:
    """Whether a caller may know of a repository."""
    if not repository.settings.private:
        return caller.access >= Access.READ
    known = caller.is_known or caller.access >= Access.WRITE
    namespace = repository.id.namespace.lower()
    return known and (caller.namespaces is None or namespace in caller.namespaces)


def require_write(request: Request, caller: Caller, namespace: str) -> None:
    """Raise `RequestError` unless the caller may write in this namespace."""
    if caller.may_write(namespace):
        return
    if not caller.is_known and not registry_of(request).accounts.is_open:
        raise RequestError(HTTPStatus.UNAUTHORIZED, "Invalid username or password.")
    if caller.access < Access.WRITE:
        message = "this token may read, not write: use one with write access"
    else:
        message = f'You don\'t have the rights to write under the namespace "{namespace}"'
    raise RequestError(HTTPStatus.FORBIDDEN, message)


def require_author(request: Request, caller: Caller, namespace: str, author: str) -> None:
    """Raise `RequestError` unless the caller began a discussion, or may write where it is."""
    if caller.name != author:
        require_write(request, caller, namespace)
