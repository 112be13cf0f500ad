"""What a Hub's refusals mean: which may pass, what to do about the others, and how to tell them without secrets."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from huggingface_hub import get_token
from huggingface_hub.errors import HfHubHTTPError

TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_MOST_SECONDS = 30.0
_SECRETS = (
    r"hf_[A-Za-z0-9]{8,}",
    r"(?<=://)[^/\s@]+(?=@)",
    r"(?i:bearer\s+)\S+",
    r"(?<=[?&])[^=&\s]*(?i:sig|token)[^=&\s]*=[^&\s]+",
)
_SECRET = re.compile("|".join(_SECRETS))


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed in a while: the network, an overloaded or restarting server."""
    for link in _chain(error):
        number = _status_of(link)
        if number is not None:
            return number in TRANSIENT
        # By name, since `huggingface_hub` changed its HTTP library once and may again.
        if isinstance(link, ConnectionError | TimeoutError) or any(
            kind.__name__ == "TransportError" for kind in type(link).__mro__
        ):
            return not isinstance(link, PermissionError)
    return False


def explain(error: BaseException) -> str:
    """What went wrong in one line, without anything secret."""
    told = next((link for link in _chain(error) if _status_of(link) is not None), error)
    number = _status_of(told)
    server = getattr(told, "server_message", None)
    text = str(server or str(told).strip() or type(told).__name__)
    line = next((line.strip() for line in text.splitlines() if line.strip()), type(told).__name__)
    prefix = "" if number is None or str(number) in line else f"HTTP {number}: "
    return redact(prefix + line)


def redact(text: str) -> str:
    """The text without tokens, passwords in URLs, and signatures of links."""
    token = get_token()
    if token:
        text = text.replace(token, "***")
    return _SECRET.sub("***", text)


def advise(error: BaseException) -> str | None:
    """What to do about it."""
    match status(error):
        case 401:
            return "`hf auth login` stores a token, `HF_TOKEN` gives one; it must be allowed to write"
        case 403:
            return "the token must be allowed to write to this repository; `--create-pr` proposes the change instead"
        case 404:
            return "check the name of the repository, and whether the token may see it"
        case 413:
            return "the server takes no request of this size"
        case None | 429 | 500 | 502 | 503 | 504:
            return "nothing is half done: run the same command again"
        case _:
            return None


def status(error: BaseException) -> int | None:
    """The HTTP status behind an error, if there is one."""
    return next((number for link in _chain(error) if (number := _status_of(link)) is not None), None)


def _status_of(error: BaseException) -> int | None:
    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def choose_pause(attempt: int, error: BaseException) -> float:
    """Twice as long each time, spread so that many clients do not come back together; or what the server asks for."""
    asked = next(
        (link.response.headers.get("Retry-After") for link in _chain(error) if isinstance(link, HfHubHTTPError)), None
    )
    if asked is not None and asked.isdigit():
        return min(float(asked), 10 * _MOST_SECONDS)
    return min(2.0**attempt, _MOST_SECONDS) * random.uniform(0.5, 1)  # noqa: S311 - nothing secret
