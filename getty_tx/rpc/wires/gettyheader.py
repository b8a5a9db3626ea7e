"""
The RPC headers in the body of Getty's packages: service, method and kind of a call; the error of a reply.

As JSON, the keys are ``Service``, ``Method`` and ``CallType``, and ``Error``. As a message of protobuf (proto2), the
first three are the fields 1 (string), 2 (string) and 3 (enum), and the error is field 1 (string) of another message.
All fields are always there.
"""

from __future__ import annotations

import json
from typing import Any

from getty_tx.rpc.payloads.gojson import goJSON

__all__ = ["ONE_WAY", "TWO_WAY", "TWO_WAY_NO_REPLY", "HeaderError", "JSONHeader", "ProtobufHeader"]

#: The kinds of a call: no reply, a reply, and a reply without a result.
ONE_WAY, TWO_WAY, TWO_WAY_NO_REPLY = 1, 2, 3

_NAMES = {"CT_UNKNOWN": 0, "CT_OneWay": ONE_WAY, "CT_TwoWay": TWO_WAY, "CT_TwoWayNoReply": TWO_WAY_NO_REPLY}
_TEXTS = {number: name for name, number in _NAMES.items()}


class HeaderError(ValueError):
    """The bytes are no such header."""


class JSONHeader:
    """The headers as JSON."""

    def request(self, service: str, method: str, kind: int) -> bytes:
        """The header of a request. :raise ValueError: half of a surrogate pair in a name."""
        return b'{"Service":%s,"Method":%s,"CallType":"%s"}' % (goJSON(service), goJSON(method), _TEXTS[kind].encode())

    def response(self, error: str) -> bytes:
        """The header of a response."""
        return b'{"Error":%s}' % goJSON(error)

    def parseRequest(self, data: bytes) -> tuple[str, str, int]:
        """Service, method and kind. :raise HeaderError: the bytes are invalid."""
        fields = _object(data)
        kind = fields.get("calltype") or 0
        if isinstance(kind, str):
            kind = _NAMES.get(kind)
        if type(kind) is not int:
            raise HeaderError(f"CallType is {fields['calltype']!r:.40}")
        return _text(fields, "service"), _text(fields, "method"), kind

    def parseResponse(self, data: bytes) -> str:
        """The error. :raise HeaderError: the bytes are invalid."""
        return _text(_object(data), "error")


def _object(data: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise HeaderError(f"no JSON: {str(error) or type(error).__name__:.80}") from None
    if not isinstance(fields, dict):
        raise HeaderError("no JSON object")
    # Go matches keys without regard to case.
    return {key.lower(): value for key, value in fields.items()}


def _text(fields: dict[str, Any], key: str) -> str:
    value = fields.get(key)
    if value is None:
        return ""
    if type(value) is not str:
        raise HeaderError(f"{key} is {value!r:.40}, which is no text")
    return value


class ProtobufHeader:
    """The headers as messages of protobuf: so few fields need no library."""

    def request(self, service: str, method: str, kind: int) -> bytes:
        """The header of a request. :raise ValueError: half of a surrogate pair in a name."""
        return _field(1, service) + _field(2, method) + bytes((0x18, kind))

    def response(self, error: str) -> bytes:
        """The header of a response."""
        return _field(1, error)

    def parseRequest(self, data: bytes) -> tuple[str, str, int]:
        """Service, method and kind. :raise HeaderError: the bytes are invalid."""
        fields = _fields(data, {1: bytes, 2: bytes, 3: int})
        return _utf8(fields.get(1, b"")), _utf8(fields.get(2, b"")), fields.get(3, 0)

    def parseResponse(self, data: bytes) -> str:
        """The error. :raise HeaderError: the bytes are invalid."""
        return _utf8(_fields(data, {1: bytes}).get(1, b""))


def _field(number: int, text: str) -> bytes:
    data = text.encode()
    return bytes((number << 3 | 2,)) + _packVarint(len(data)) + data


def _packVarint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for count in range(10):
        if at + count >= len(data):
            break
        byte = data[at + count]
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, at + count + 1
    raise HeaderError("a number without an end")


def _fields(data: bytes, kinds: dict[int, type]) -> dict[int, Any]:
    """The known fields; of one that is there twice, the last. Others are skipped."""
    found: dict[int, Any] = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        value: Any
        if wire == 0:
            value, at = _varint(data, at)
        elif wire in (1, 2, 5):
            size = {1: 8, 5: 4}.get(wire, 0)
            if wire == 2:
                size, at = _varint(data, at)
            if size > len(data) - at:
                raise HeaderError(f"field {number} is longer than the header")
            value = data[at : at + size]
            at += size
        else:
            raise HeaderError(f"field {number} has the wire type {wire}")
        kind = kinds.get(number)
        if kind is not None:
            if wire != (0 if kind is int else 2):
                raise HeaderError(f"field {number} has the wire type {wire}")
            found[number] = value
    return found


def _utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise HeaderError("a text that is no UTF-8") from None
