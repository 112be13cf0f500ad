"""How a value enters a page in Markdown: nothing that somebody wrote can become markup, a link or a table's edge."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from kernel_builder.render.quoting import Quoted

_MARKUP = re.compile(r"([\\`*\[\]<>|#~!])")
_UNSEEN = re.compile(r"[^\S ]+|[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069]+")
_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")  # within a word it is no markup
_ADDRESS = re.compile(r"(\S*(?:://|www\.)\S*|\S+@\S+)", re.IGNORECASE)  # sites make links of these, escaped or not


def quote_prose(text: str) -> Quoted:
    """Plain words in a paragraph or a table's cell; words between backquotes stay code, addresses become it."""
    parts = _UNSEEN.sub(" ", text).split("`")
    if len(parts) % 2 == 0:  # a lone backquote quotes nothing
        parts = ["\\`".join(parts)]
    return Quoted("".join(quote_code(part) if odd % 2 else _escape(part) for odd, part in enumerate(parts)))


def quote_code(text: str) -> Quoted:
    """A word in code; a bar would end a table's cell even there."""
    text = _UNSEEN.sub(" ", text).replace("|", "¦").replace("`", "'")
    return Quoted(f"`{text}`" if text.strip() else "")


def quote_codes(words: Iterable[str]) -> Quoted:
    """Words in code, with commas between."""
    return Quoted(", ".join(quote_code(word) for word in words))


def quote_fenced(text: str) -> Quoted:
    """Lines inside a fence. Raises `ValueError` for text that would end it."""
    if "```" in text or re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text):
        raise ValueError("a fence cannot carry this text")
    return Quoted(text)


def quote_link(path: str) -> Quoted:
    """The target of a link to a file beside the page."""
    return Quoted(quote(path))


def _escape(text: str) -> str:
    words = _ADDRESS.split(text)
    return "".join(
        quote_code(word) if odd % 2 else _UNDERSCORE.sub(r"\\_", _MARKUP.sub(r"\\\1", word))
        for odd, word in enumerate(words)
    )
