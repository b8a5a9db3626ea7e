"""Conditional requests and ranges (RFC 9110, 13 and 14), and the choice of an encoding."""

from __future__ import annotations

import re
from calendar import timegm
from email.utils import parsedate_tz
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from getty_tx.http.request import Request

__all__ = ["acceptedOf", "rangeOf", "statusFor"]

_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')

#: One range of bytes; the digits of a number of 64 bits.
_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,19})-([0-9]{0,19})[ \t]*", re.IGNORECASE)

_QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)


def statusFor(request: Request, tag: str, changed: int) -> int:
    """
    What the conditions of a request for something that exists lead to.

    :param tag: its strong entity tag, with the quotes.
    :param changed: when it was changed last, in seconds since 1970.
    :return: 200, 304 or 412.
    """
    match = request.header("If-Match")
    if match:
        if match != "*" and tag not in _TAG.findall(match):
            return 412
    else:
        until = _secondsOf(request.header("If-Unmodified-Since"))
        if until is not None and changed > until:
            return 412
    differs = request.header("If-None-Match")
    if differs:
        if differs == "*" or tag in [each.removeprefix("W/") for each in _TAG.findall(differs)]:
            return 304
    else:
        since = _secondsOf(request.header("If-Modified-Since"))
        if since is not None and changed <= since:
            return 304
    return 200


def rangeOf(request: Request, tag: str, size: int) -> tuple[int, int] | None:
    """
    The bytes that a request with ``Range`` is for.

    ``If-Range`` is compared with the tag only: a date does not tell two changes of one second apart.

    :param size: bytes that there are.
    :return: the first one, and how many; None: all, for there is no range, more than one, or a malformed one.
    :raise ValueError: there are no such bytes.
    """
    text = request.header("Range")
    if not text or request.method != "GET":
        return None
    condition = request.header("If-Range")
    if condition and condition != tag:
        return None
    found = _RANGE.fullmatch(text)
    if found is None or found[0].rstrip().endswith("=-"):
        return None
    first, last = found[1], found[2]
    if not first:
        if not last:
            return None
        count = min(int(last), size)
        start, end = size - count, size
    else:
        start = int(first)
        if last and int(last) < start:
            return None
        end = min(int(last) + 1, size) if last else size
    if start >= end:
        raise ValueError(f"{text!r} is beyond the end of {size} bytes")
    return start, end - start


def acceptedOf(text: str, known: Sequence[str]) -> Iterable[str]:
    """
    The encodings that a client takes.

    :param text: the value of ``Accept-Encoding``.
    :param known: names of encodings, in lower case, the preferred one first.
    :return: those of them that the client takes, in their order.
    """
    if not text:
        return []
    taken: dict[str, bool] = {}
    for part in text.lower().split(","):
        name, _, parameters = part.partition(";")
        quality = _QUALITY.fullmatch(parameters.strip())
        taken[name.strip()] = not parameters or (quality is not None and float(quality[1]) > 0)
    others = taken.get("*", False)
    return [name for name in known if taken.get(name, others)]


def _secondsOf(text: str) -> int | None:
    """A date of HTTP in seconds since 1970; None: it is none."""
    if not text:
        return None
    try:
        parts = parsedate_tz(text)
        return None if parts is None else timegm(parts[:9]) - (parts[9] or 0)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
