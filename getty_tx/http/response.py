"""What a handler answers with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from getty_tx.errors import SettingError
from getty_tx.http.answers import AnswerFields

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["BYTES", "JSON", "TEXT", "Response", "encodeJSON", "headersOf"]

#: Fields of what is answered without a Response.
BYTES = AnswerFields([(b"Content-Type", b"application/octet-stream")])
TEXT = AnswerFields([(b"Content-Type", b"text/plain; charset=utf-8")])
JSON = AnswerFields([(b"Content-Type", b"application/json")])
_EMPTY = AnswerFields()

#: What the server says itself of an answer, or of the connection.
_OWN = {"connection", "content-length", "date", "keep-alive", "server", "trailer", "transfer-encoding", "upgrade"}

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def encodeJSON(value: Any) -> bytes:
    """A value as JSON in UTF-8. :raise ValueError: it has NaN or infinity. :raise TypeError: it is no JSON."""
    return _encode(value).encode("utf-8")


class Response:
    """
    An answer.

    ::

        http.Response(201, headers={"Location": "/users/7"})
        http.Response(body={"id": 7})
        http.Response(body="<h1>It works</h1>", contentType="text/html; charset=utf-8")

    :param status: 200 to 599.
    :param body: bytes, str as UTF-8, a dict or list as JSON; or an iterable or async iterable of bytes or str, which is
        sent as it comes.
    :param headers: more fields: a mapping, or pairs where a name comes several times; str are encoded as Latin-1.
    :param contentType: in place of that of the body's type.
    :raise ValueError: the status or a field cannot stand in an answer.
    :raise TypeError: the body is none of these.

    :ivar status: the status.
    :ivar fields: its fields.
    :ivar body: the body as bytes, or the iterable.
    :ivar isStream: the body is sent as it comes.
    """

    __slots__ = ("body", "fields", "isStream", "status")

    def __init__(
        self,
        status: int = 200,
        body: Any = b"",
        headers: Mapping[Any, Any] | Iterable[tuple[Any, Any]] | None = None,
        contentType: str | None = None,
    ) -> None:
        if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
            raise ValueError(f"status={status!r} ends no request: give one from 200 to 599")
        self.status = status
        self.isStream = False
        fields = _EMPTY
        if isinstance(body, str):
            body, fields = body.encode("utf-8"), TEXT
        elif isinstance(body, dict | list):
            body, fields = encodeJSON(body), JSON
        elif isinstance(body, bytes | bytearray | memoryview):
            body = bytes(body)
            fields = BYTES if body else _EMPTY
        elif hasattr(body, "__aiter__") or hasattr(body, "__iter__"):
            self.isStream = True
            fields = BYTES
        else:
            raise TypeError(f"body={body!r} is neither bytes, str, dict or list nor an iterable of bytes")
        if headers or contentType is not None:
            pairs = [] if headers is None else list(headers.items() if hasattr(headers, "items") else headers)
            encoded = [(_asBytes(name), _asBytes(value)) for name, value in pairs]
            if contentType is not None:
                encoded.insert(0, (b"Content-Type", _asBytes(contentType)))
            elif fields is not _EMPTY and not any(name.lower() == b"content-type" for name, _ in encoded):
                encoded.insert(0, (b"Content-Type", fields.lines[14:-2]))
            fields = AnswerFields(encoded)
        self.body = body
        self.fields = fields


def headersOf(name: str, value: Any) -> AnswerFields:
    """A check of a setting: fields that every answer has, as those of a :py:class:`Response`."""
    try:
        given = value.items() if hasattr(value, "items") else value
        pairs = [(_asBytes(each), _asBytes(said)) for each, said in given]
        fields = AnswerFields(pairs)
    except (TypeError, ValueError) as error:
        raise SettingError(f"{name}: {error}") from None
    for each, _ in pairs:
        if each.decode("ascii").lower() in _OWN:
            raise SettingError(f"{name}: {each.decode('ascii')} is the server's own; leave it out")
    return fields


def _asBytes(value: Any) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode("latin-1")
        except UnicodeEncodeError:
            raise ValueError(f"{value!r} cannot stand in a head: use Latin-1") from None
    if isinstance(value, int):
        return b"%d" % value
    return bytes(value)
