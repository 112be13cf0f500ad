"""What can go wrong with a request, as the Hub's clients expect to be told: a status, a code and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus


class RequestError(Exception):
    """A request that is answered with an error. `code` goes into the header that clients choose their exception by."""

    def __init__(
        self,
        status: HTTPStatus,
        message: str,
        *,
        code: str | None = None,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.body = {"error": message} if body is None else body
        self.headers = headers or {}


def bad_request(message: str) -> RequestError:
    """The request itself is wrong."""
    return RequestError(HTTPStatus.BAD_REQUEST, message, code="BadRequest")


def no_such_repository(repository: object) -> RequestError:
    """There is none of that name, or none that this caller may know of."""
    return RequestError(HTTPStatus.NOT_FOUND, f"Repository `{repository}` not found", code="RepoNotFound")


def no_such_revision(revision: str) -> RequestError:
    """The repository exists; the branch, tag or commit does not."""
    return RequestError(HTTPStatus.NOT_FOUND, f"Invalid rev id: `{revision}`", code="RevisionNotFound")


def no_such_entry(path: str) -> RequestError:
    """The revision exists; the file or folder does not."""
    return RequestError(HTTPStatus.NOT_FOUND, f"Entry not found: `{path}`", code="EntryNotFound")


def too_large(what: str, limit: int) -> RequestError:
    """More bytes than this registry takes."""
    return RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{what} is larger than {limit} bytes, the limit here")


def conflict(message: str) -> RequestError:
    """What is to be made exists already."""
    return RequestError(HTTPStatus.CONFLICT, message)


def damaged(what: str) -> RequestError:
    """Stored bytes are not those that were received. They are never served."""
    message = f"{what} is damaged on the registry's disk: restore it from a backup, or upload it again"
    return RequestError(HTTPStatus.GONE, message, code="Damaged")  # clients would try again after a 500
