"""Metadata: pairs of a name and a value beside the messages, and how they look as header fields."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error
from typing import TYPE_CHECKING, Any

from getty_tx.http.grpc.errors import StatusError
from getty_tx.http.grpc.status import Code

if TYPE_CHECKING:
    from collections.abc import Iterable

    from getty_tx.http.two.interfaces import Headers

__all__ = ["decodeMetadata", "encodeMetadata"]

#: Fields of a call that are no metadata (PROTOCOL-HTTP2.md, "Requests"); ``grpc-`` and ``:`` are reserved, too. And
#: what HTTP/2 has not (RFC 9113, 8.2.2), or counts itself: who gets it ends the stream, or the connection.
_OWN = frozenset(
    [
        b"te",
        b"content-type",
        b"content-length",
        b"host",
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"transfer-encoding",
        b"upgrade",
    ]
)

_NAME = re.compile(r"[0-9a-z_.-]+")

#: ASCII-Value of PROTOCOL-HTTP2.md.
_VALUE = re.compile(rb"[ -~]*")


def decodeMetadata(fields: Headers) -> tuple[tuple[str, str | bytes], ...]:
    """
    The metadata among header fields, in their order.

    :raise StatusError: a value of a name with ``-bin`` is no base64.
    """
    found: list[tuple[str, str | bytes]] = []
    for name, value in fields:
        if name[:1] == b":" or name in _OWN or name.startswith(b"grpc-"):
            continue
        key = name.decode("latin-1")
        if name.endswith(b"-bin"):
            found += [(key, decodeBinary(name, part)) for part in value.split(b",")]
        else:
            found.append((key, value.decode("latin-1")))
    return tuple(found)


def decodeBinary(name: bytes, value: bytes) -> bytes:
    """Bytes of base64, with padding or without. :raise StatusError: it is none."""
    text = value.strip(b" \t").rstrip(b"=")
    try:
        return b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except Error:
        raise StatusError(Code.INTERNAL, f"metadata {name.decode('latin-1')} is no base64") from None


def encodeMetadata(pairs: Iterable[Any]) -> list[tuple[bytes, bytes]]:
    """
    Header fields of metadata.

    :param pairs: of a name and a str, or bytes where the name ends with ``-bin``; also grpc's own ``Metadata``.
    :raise ValueError: a name or a value cannot be sent. TypeError: it is no pair.
    """
    fields = []
    for name, value in pairs:
        if not _NAME.fullmatch(name) or name.startswith("grpc-") or name.encode() in _OWN:
            raise ValueError(f"metadata {name!r}: names have 0-9 a-z _ . and -, and are none of HTTP/2's or grpc-")
        if name.endswith("-bin"):
            if not isinstance(value, bytes):
                raise ValueError(f"metadata {name!r}: the value is no bytes, as -bin says")
            fields.append((name.encode(), b64encode(value).rstrip(b"=")))
            continue
        raw = value.encode() if isinstance(value, str) else value
        if not isinstance(raw, bytes) or not _VALUE.fullmatch(raw):
            raise ValueError(f"metadata {name!r}: the value is no printable ASCII; a name with -bin has bytes")
        # gRPC allows for it, and HTTP/2 asks for it (RFC 9113, 8.2.1).
        fields.append((name.encode(), raw.strip(b" ")))
    return fields
