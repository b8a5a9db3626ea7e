"""Metadata as header fields: names, and values that are text or, where the name ends with ``-bin``, bytes."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from typing import TYPE_CHECKING, Any

from getty_tx.http.grpc.errors import StatusError
from getty_tx.http.grpc.status import Code

if TYPE_CHECKING:
    from collections.abc import Iterable

    from getty_tx.http.two.interfaces import Headers

__all__ = ["fieldsOf", "metadataOf"]

_NAME = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[ -~]*")

#: Fields of an answer that are no metadata.
_OWN = frozenset(
    {
        b"grpc-encoding",
        b"grpc-accept-encoding",
        b"grpc-status",
        b"grpc-message",
        b"content-type",
        b"grpc-timeout",
        b"te",
    }
)


def fieldsOf(metadata: Any) -> list[tuple[bytes, bytes]]:
    """
    Metadata as fields.

    :param metadata: pairs, or a mapping. Names are written small.
    :raise StatusError: a name or a value cannot be sent.
    """
    pairs: Iterable[Any] = metadata.items() if hasattr(metadata, "items") else metadata
    fields = []
    for name, value in pairs:
        small = name.lower()
        if not _NAME.fullmatch(small) or small.startswith("grpc-"):
            raise StatusError(Code.INTERNAL, f"metadata: {name!r} cannot be a name", sent=False)
        if small.endswith("-bin"):
            raw = b64encode(value if isinstance(value, bytes) else str(value).encode()).rstrip(b"=")
        else:
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            if not isinstance(text, str) or not _VALUE.fullmatch(text):
                raise StatusError(Code.INTERNAL, f"metadata: {name}={value!r} is not printable ASCII", sent=False)
            raw = text.strip().encode("ascii")
        fields.append((small.encode("ascii"), raw))
    return fields


def metadataOf(headers: Headers) -> tuple[tuple[str, str | bytes], ...]:
    """The metadata among the fields. Values of ``-bin`` that are no base64 are left out."""
    found: list[tuple[str, str | bytes]] = []
    for name, value in headers:
        if name in _OWN or name.startswith(b":"):
            continue
        text = name.decode("latin-1")
        if name.endswith(b"-bin"):
            for part in value.split(b","):
                try:
                    found.append((text, b64decode(part.strip() + b"=" * (-len(part.strip()) % 4), validate=True)))
                except Base64Error:
                    continue
        else:
            found.append((text, value.decode("latin-1")))
    return tuple(found)
