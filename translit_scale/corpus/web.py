"""What the web leaves in sentences: HTML, URLs and e-mail addresses. They are counted, and removed on request.

They are removed and not replaced by a placeholder: that would be the same Latin word in every language and in both
halves of a pair, which is what cross-lingual training feeds on.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Collection, Iterator
from html.entities import html5
from typing import Literal, get_args

import regex

Kind = Literal["html", "url", "email"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""In the order in which they are removed: a URL may be inside a tag, and an address inside a URL."""

_MAX_CHARS = 2**16
"""No sentence of a shard is longer. The time of a search can grow with the square of the length."""
_INLINE = (
    "a|abbr|acronym|b|bdi|bdo|big|cite|code|data|del|dfn|em|font|i|ins|kbd|label|mark|q|rb|rp|rt|ruby|s|samp|small|"
    "span|strike|strong|sub|sup|time|tt|u|var|wbr"
)
"""Elements inside a line of text: without their tags the words stay as they are (`m<sup>2</sup>`, `<b>A</b>n`). The
tags of all others separate words."""
_OTHERS = (
    "address|article|aside|audio|blockquote|body|br|button|canvas|caption|center|col|colgroup|dd|details|dir|div|dl|dt|"
    "embed|fieldset|figcaption|figure|footer|form|frame|frameset|h1|h2|h3|h4|h5|h6|head|header|hr|html|iframe|img|"
    "input|li|link|main|map|meta|nav|nobr|noscript|object|ol|optgroup|option|p|param|picture|pre|script|section|select|"
    "source|style|summary|svg|table|tbody|td|textarea|tfoot|th|thead|title|tr|ul|video"
)
_TAG = regex.compile(
    rf"</?(?:(?P<inline>{_INLINE})|{_OTHERS})"
    r"(?:\s*/?>|\s[^<>=]*=[^<>]*(?:>|\Z))"  # no attributes, or some; the tag may be cut off at the end of the sentence
    r"|<(?:!--|!doctype\b|!\[|\?(?:xml|php)\b)[^<>]*>",
    regex.IGNORECASE,
)
"""Tags of known elements only: `<nick>` and `<name@host>` occur in text, and so does `a<b and c>d`."""
_AMPERSAND = r"(?:amp|#0*38|#[xX]0*26);"
_ENTITY = regex.compile(
    rf"&(?P<nested>(?:{_AMPERSAND})*)(?P<last>(?:[a-zA-Z][a-zA-Z0-9]{{1,31}}|#[0-9]{{1,7}}|#[xX][0-9a-fA-F]{{1,6}});)?"
)
"""A character reference that ends with a semicolon, also if its `&` is one: `&amp;lt;` is `<`, encoded twice."""

_CHAR = (
    r"[\p{L}\p{M}\p{N}--\p{Han}--\p{Hiragana}--\p{Katakana}--\p{Thai}--\p{Lao}--\p{Khmer}--\p{Myanmar}--\p{Tibetan}]"
)
"""A letter or digit inside an address. Scripts without spaces do not count: in them text may follow an address."""
_INSIDE = rf"(?:{_CHAR}|[-_~%/?#@!$&'*+,;:.=|])"
_LAST = rf"(?:{_CHAR}|[-_~%/#@$&*+=|])"
_PARENTHESES = rf"\({_INSIDE}*+\)"
_URL = rf"(?<!{_CHAR})(?:(?:https?|ftps?)://|www\.)(?:{_PARENTHESES}|{_INSIDE})*(?:{_PARENTHESES}|{_LAST})"
_LABEL = rf"{_CHAR}(?:(?:{_CHAR}|-){{0,61}}{_CHAR})?"
_EMAIL = (
    rf"(?<!{_CHAR}|[._%+-])(?:mailto:)?(?:{_CHAR}|[_%+-])(?:{_CHAR}|[._%+-]){{0,63}}+"
    rf"@{_LABEL}(?:\.{_LABEL})*\.(?:xn--[a-z0-9]{{1,59}}|[\p{{L}}\p{{M}}&&{_CHAR}]{{2,63}})(?!{_CHAR})"
)


def _with_brackets(pattern: str) -> regex.Pattern[str]:
    """The pattern with the white space before it, and with the brackets around it if they contain nothing else."""
    enclosed = "|".join(rf"{left}\s*{pattern}\s*{right}" for left, right in ((r"\(", r"\)"), (r"\[", r"\]"), "<>"))
    return regex.compile(rf"(?<!\s)\s*+(?:{enclosed}|{pattern})", regex.IGNORECASE | regex.VERSION1)


_ADDRESSES = {"url": _with_brackets(_URL), "email": _with_brackets(_EMAIL)}


def found_in(text: str) -> list[Kind]:
    """The kinds that occur in a text."""
    return list(_found_in(text)) if _may_have_any(text) else []


def _found_in(text: str) -> Iterator[Kind]:
    if ("<" in text and _TAG.search(text)) or ("&" in text and _without_entities(text) != text):
        yield "html"
    if _may_have_url(text) and _ADDRESSES["url"].search(text):
        yield "url"
    if "@" in text and _ADDRESSES["email"].search(text):
        yield "email"


def remove(text: str, kinds: Collection[Kind], counts: Counter[Kind] | None = None) -> str:
    """A text without some kinds: HTML is decoded and loses its tags, addresses go with the brackets around them.

    Args:
        text: if it has more than `_MAX_CHARS` characters, it stays as it is.
        counts: each kind that is removed goes up by one.
    """
    if not _may_have_any(text) or len(text) > _MAX_CHARS:
        return text
    for kind in KINDS:
        if kind in kinds and (shorter := _without(text, kind)) != text:
            text = shorter
            if counts is not None:
                counts[kind] += 1
    return text


def _without(text: str, kind: Kind) -> str:
    if kind == "html":
        if "&" in text:
            text = _without_entities(text)
        return _TAG.sub(lambda match: "" if match["inline"] else " ", text) if "<" in text else text
    may_have = "@" in text if kind == "email" else _may_have_url(text)
    return _ADDRESSES[kind].sub("", text) if may_have else text


def _without_entities(text: str) -> str:
    return _ENTITY.sub(_decoded, text)


def _decoded(match: regex.Match[str]) -> str:
    last = match["last"] or ""
    if last.startswith("#") or last in html5:
        return html.unescape(f"&{last}").replace("\ufffd", "")  # for what is no character, such as `&#0;`
    return f"&{last}"


def _may_have_any(text: str) -> bool:
    """False for nearly all plain text, after a quick look."""
    return "<" in text or "&" in text or "@" in text or _may_have_url(text)


def _may_have_url(text: str) -> bool:
    return "://" in text or "ww." in text or "WW." in text
