"""The URL of a Hub, as users give it: to clients in `HF_ENDPOINT`, to a registry behind a proxy in `--url`."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from kernel_builder.errors import BadInputError, Problem

_HOST = re.compile(r"[^\s<>^|%#\"'`\\@]+")


def check_endpoint(url: str, option: str) -> str:
    """Give back a URL that paths can be appended to.

    option: where it came from, for the message, which does not quote the URL: there may be a password in it. Raises
    `BadInputError` unless it begins with `http://` or `https://`, names a host, and ends before any `?` or `#`.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for one out of range
        fits = parts.scheme in {"http", "https"} and _HOST.fullmatch(parts.hostname or "") is not None
    except ValueError:
        fits = False
    if not fits or not url.isprintable() or " " in url or "?" in url or "#" in url:
        raise BadInputError(
            Problem(
                f"`{option}` is not a URL that begins with `http://` or `https://` and names a host",
                hint="write it as `https://kernels.example`, without `?` and `#`",
            )
        )
    return url
