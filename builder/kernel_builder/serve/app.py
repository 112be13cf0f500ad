"""The registry as one ASGI application: its routes, and what stands around every request."""

from __future__ import annotations

import errno
import logging
from http import HTTPStatus
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from kernel_builder.serve import (
    routes_accounts,
    routes_commits,
    routes_files,
    routes_lfs,
    routes_pulls,
    routes_refs,
    routes_repos,
)
from kernel_builder.serve.catalog import MovedError
from kernel_builder.serve.faults import RequestError
from kernel_builder.serve.registry import Registry, endpoint_of, repository_id
from kernel_builder.serve.surroundings import Surroundings

_LOG = logging.getLogger("kernel_builder.serve")
_MAX_HEADER = 512


def build_app(registry: Registry) -> Starlette:
    """The application that serves a registry."""
    routes = [
        route
        for module in (
            routes_accounts,
            routes_commits,
            routes_lfs,
            routes_pulls,
            routes_refs,
            routes_files,
            routes_repos,
        )
        for route in module.ROUTES
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={
            RequestError: _answer_fault,
            MovedError: _answer_moved,
            HTTPException: _answer_unknown,
            OSError: _answer_disk,
            Exception: _answer_unexpected,
        },
    )
    app.state.registry = registry
    app.add_middleware(Surroundings, patience=registry.limits.patience, local=registry.local)
    return app


def _answer_fault(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # noqa: S101 - by the table above
    headers = {"X-Error-Message": _header_text(error.message), **error.headers}
    if error.code is not None:
        headers["X-Error-Code"] = error.code
    if error.status in {HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.REQUEST_TIMEOUT}:
        headers["Connection"] = "close"
    if error.status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="registry"'
    del request
    return JSONResponse(error.body, error.status, headers)


def _answer_moved(request: Request, error: Exception) -> Response:
    """Show the way to where a repository is now, keeping the method and the body."""
    assert isinstance(error, MovedError)  # noqa: S101 - by the table above
    if "namespace" not in request.path_params:
        message = f"it is called `{error.new}` now"
        return _answer_fault(request, RequestError(HTTPStatus.NOT_FOUND, message, code="RepoNotFound"))
    old, new = repository_id(request), error.new
    path = request.scope["path"].replace(f"/{quote(str(old))}", f"/{quote(str(new))}", 1)
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"{endpoint_of(request)}{path}{query}", HTTPStatus.TEMPORARY_REDIRECT)


def _answer_unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - by the table above
    status = HTTPStatus(error.status_code)
    message = f"this registry does not know {request.method} `{request.scope['path'][:200]}`"
    code = "RepoNotFound" if status is HTTPStatus.NOT_FOUND else None
    return _answer_fault(request, RequestError(status, message, code=code))


def _answer_disk(request: Request, error: Exception) -> Response:
    """Tell a full disk as what it is; whatever else the system refuses is our mistake."""
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        _LOG.error("no space left for what clients send")
        return _answer_fault(request, RequestError(HTTPStatus.INSUFFICIENT_STORAGE, "no space left in the registry"))
    raise error


def _answer_unexpected(request: Request, error: Exception) -> Response:
    """Tell that it is our mistake; what it was, goes to the log."""
    del error
    return _answer_fault(request, RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, "the registry failed; see its log"))


def _header_text(text: str) -> str:
    plain = " ".join(text.encode("ascii", "backslashreplace").decode().split())
    return "".join(letter if letter.isprintable() else "?" for letter in plain)[:_MAX_HEADER]
