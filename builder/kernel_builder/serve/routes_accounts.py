"""Who is who: the caller, users, organisations and their members."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kernel_builder.serve.faults import RequestError
from kernel_builder.serve.names import RepoType
from kernel_builder.serve.paging import cut_page
from kernel_builder.serve.registry import Registry, caller_of, may_read, registry_of, word
from kernel_builder.serve.tokens import Access, Caller, Organization

_PAGE = 100


def tell_caller(request: Request) -> Response:
    """Tell who sends the request, and what the token allows."""
    caller = caller_of(request)
    if not caller.is_known:
        raise RequestError(HTTPStatus.UNAUTHORIZED, "Invalid username or password.")
    registry = registry_of(request)
    role = "write" if caller.access >= Access.WRITE else "read"
    organizations = [
        {
            "type": "org",
            "id": f"org:{organization.name}",
            "name": organization.name,
            "fullname": organization.full_name,
            "avatarUrl": "",
            "isEnterprise": False,
            "canPay": False,
            "roleInOrg": organization.members.get(caller.name, role),
        }
        for organization in registry.accounts.organizations.values()
        if caller.name in organization.members or caller.may_write(organization.name)
    ]
    return JSONResponse(
        {
            **_describe_user(caller.name),
            "type": "user",
            "id": f"user:{caller.name}",
            "name": caller.name,
            "email": None,
            "emailVerified": False,
            "canPay": False,
            "isPro": False,
            "periodEnd": None,
            "orgs": organizations,
            "auth": {"type": "access_token", "accessToken": {"displayName": caller.token_name, "role": role}},
        }
    )


def _describe_user(name: str) -> dict[str, Any]:
    return {"user": name, "username": name, "fullname": name, "avatarUrl": "", "type": "user"}


def describe_organization(request: Request) -> Response:
    """Tell about an organisation: one that is declared, or whose repositories the caller may see."""
    registry, caller, name = registry_of(request), caller_of(request), word(request, "namespace")
    counts = _count_repositories(registry, caller, name)
    organization = _find_organization(registry, name, known=any(counts.values()))
    return JSONResponse(
        {
            "type": "org",
            "name": organization.name,
            "fullname": organization.full_name,
            "avatarUrl": "",
            "isVerified": organization.trusted,
            "trustedKernelPublisher": organization.trusted,
            "numUsers": len(organization.members),
            "numModels": counts[RepoType.MODEL],
            "numDatasets": counts[RepoType.DATASET],
            "numKernels": counts[RepoType.KERNEL],
            "numSpaces": 0,
            "numFollowers": 0,
        }
    )


def list_members(request: Request) -> Response:
    """List the members of an organisation with their roles."""
    registry, name = registry_of(request), word(request, "namespace")
    caller_of(request)
    members = [
        {**_describe_user(user), "role": role}
        for user, role in sorted(_find_organization(registry, name).members.items())
    ]
    page, headers = cut_page(request, members, _PAGE)
    return JSONResponse(list(page), headers=headers)


def describe_user(request: Request) -> Response:
    """Tell about somebody who has a token."""
    registry, name = registry_of(request), word(request, "namespace")
    caller_of(request)
    if name not in {caller.name for caller in registry.accounts.tokens.values()}:
        raise RequestError(HTTPStatus.NOT_FOUND, "This user does not exist")
    return JSONResponse(_describe_user(name))


def _find_organization(registry: Registry, name: str, *, known: bool = False) -> Organization:
    declared = registry.accounts.organizations.get(name.lower())
    if declared is not None:
        return declared
    if not known:
        raise RequestError(HTTPStatus.NOT_FOUND, "This organization does not exist")
    return Organization(name, name, trusted=registry.trusts(name))


def _count_repositories(registry: Registry, caller: Caller, namespace: str) -> dict[RepoType, int]:
    return {
        kind: sum(
            repository.id.namespace.lower() == namespace.lower() and may_read(repository, caller)
            for repository in registry.catalog.list(kind)
        )
        for kind in RepoType
    }


ROUTES = [
    Route("/api/whoami-v2", tell_caller),
    Route("/api/organizations/{namespace}/overview", describe_organization),
    Route("/api/organizations/{namespace}/members", list_members),
    Route("/api/users/{namespace}/overview", describe_user),
]
