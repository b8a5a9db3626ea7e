"""``grpc-timeout``: one to eight digits and a unit (PROTOCOL-HTTP2.md)."""

from __future__ import annotations

import re

from getty_tx.http.grpc.errors import StatusError
from getty_tx.http.grpc.status import Code

__all__ = ["decodeTimeout", "encodeTimeout"]

_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}

_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")


def decodeTimeout(value: bytes) -> float:
    """Seconds. :raise StatusError: it is no time."""
    found = _TIMEOUT.fullmatch(value)
    if found is None:
        raise StatusError(Code.INTERNAL, f"grpc-timeout {value.decode('latin-1')!r} is no time, such as 100m")
    return int(found[1]) * _UNITS[found[2]]


def encodeTimeout(seconds: float) -> bytes:
    """Seconds as the value of the field, in the finest unit that has room for it, rounded up; at least 1n."""
    for unit, size in ((b"n", 1e-9), (b"u", 1e-6), (b"m", 1e-3), (b"S", 1.0), (b"M", 60.0)):
        number = seconds / size
        if number <= 99_999_999:
            return b"%d%b" % (max(1, -int(-number // 1)), unit)
    return b"%dH" % min(99_999_999, -int(-seconds // 3600))
