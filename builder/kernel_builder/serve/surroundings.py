"""What stands around every request: who may ask at all, the path as it was sent, and an end to waiting."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOG = logging.getLogger("kernel_builder.serve")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


class Surroundings:
    """The outermost layer of the application.

    patience: seconds that a client may take for a piece of its answer. local: whether only this machine is served, and
    everybody on it may write. Then a page in this machine's browser must not: it may send requests here, and with a
    name that it leads to this machine it may read the answers too.
    """

    def __init__(self, app: ASGIApp, *, patience: float, local: bool) -> None:
        self.app = app
        self.patience = patience
        self.local = local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._find_refusal(Headers(scope=scope))
        if refusal is not None:
            status, message = refusal
            headers = {"X-Error-Message": message, "Connection": "close"}
            await JSONResponse({"error": message}, status, headers)(scope, receive, send)
            return

        async def send_in_time(message: Message) -> None:
            await asyncio.wait_for(send(message), self.patience)

        # `refs%2Fheads%2Fmain` is one part of a path; decoded before the routes match, it would be three.
        path = scope["raw_path"].decode("ascii", "replace")
        try:
            await self.app({**scope, "path": path}, receive, send_in_time)
        except TimeoutError:
            _LOG.warning("gave up on a client that does not take its answer")

    def _find_refusal(self, headers: Headers) -> tuple[HTTPStatus, str] | None:
        host = _HOST.fullmatch(headers.get("host", ""))
        if host is None:
            return HTTPStatus.BAD_REQUEST, "the request does not say which host it is for"
        if "origin" in headers or headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            return HTTPStatus.FORBIDDEN, "this registry is not for the pages of other sites"
        if self.local and not _is_this_machine(host[1].strip("[]")):
            return HTTPStatus.FORBIDDEN, "this registry is called by the name of its machine only"
        return None


def _is_this_machine(name: str) -> bool:
    if name.lower() in {"localhost", "localhost."} or name.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
