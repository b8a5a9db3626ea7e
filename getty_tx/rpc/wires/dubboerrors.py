"""
The errors of Dubbo's calls: statuses, and exceptions of Java.

What this end says of a call, such as that its time is over, is a status with a text. What a method raises is an
exception of Java: an object of its class, of which every consumer reads the fields ``detailMessage``, ``cause``,
``stackTrace`` and ``suppressedExceptions``.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from getty_tx.rpc.errors import PayloadError
from getty_tx.rpc.hessian import Decoder, JavaObject, Limits, TypedList, TypedMap, encode
from getty_tx.rpc.messages import ErrorReply

__all__ = ["CODE", "HESSIAN", "OK", "exceptionOf", "failedReply", "statusOf", "thrownReply"]

OK = 20

#: The number of Hessian 2 among the serializations.
HESSIAN = 2

#: That of fastjson2: a provider with Dubbo 3.2 in Java prefers it, so it writes the texts of statuses with it.
_FASTJSON = 23

#: Types of texts in fastjson2: up to 47 characters with one byte each; and others, with how they are encoded.
_SHORT_TEXT, _LONG_TEXT = 0x49, 0x79
_CHARSETS = {_LONG_TEXT: "latin-1", 0x7A: "utf-8", 0x7B: "utf-16", 0x7C: "utf-16-le", 0x7D: "utf-16-be"}

#: Statuses by codes, as org.apache.dubbo.remoting.exchange.Response has them; other codes are exceptions. 100 is its
#: SERVER_THREADPOOL_EXHAUSTED_ERROR, which WrappedChannelHandler.sendFeedback answers to what its threads do not take:
#: the method was not run, and consumers try another provider.
_STATUSES = {"deadline": 31, "payload": 40, "noMethod": 60, "cancelled": 70, "lost": 70, "refused": 100}

#: BAD_RESPONSE, with which Java's ExchangeCodec answers in place of a result that it cannot encode. For one that is too
#: long newer versions have 25, which older consumers do not know: it is 50 here, too.
_BAD_RESULT = 50

#: Codes by statuses; others are "internal". 25: a result is too long; 40: a request cannot be read; 50: see above.
_CODES = {25: "payload", 30: "deadline", 31: "deadline", 40: "payload", 50: "payload", 60: "noMethod", 100: "refused"}

#: The class of exceptions that name none.
_EXCEPTION = "java.lang.RuntimeException"

#: The attachment with the code of an error that names no class.
CODE = "getty-code"

#: The class of the exceptions of calls by ``$invoke``. Their callers may not have the class of the exception itself: it
#: is a field, and the message another one. Java sends this class, if it has it: it is in the jar ``dubbo``, and in
#: ``dubbo-compatible``. The same below org.apache.dubbo is not known by those of 2.6.
_BY_NAME, _ANY_BY_NAME = "com.alibaba.dubbo.rpc.service.GenericException", ".rpc.service.GenericException"
_CLASS, _MESSAGE = "exceptionClass", "exceptionMessage"

_OF_THROWABLE = ("detailMessage", "cause", "stackTrace", "suppressedExceptions")


def statusOf(message: ErrorReply) -> int | None:
    """The status that says an error; None: it is an exception."""
    return _BAD_RESULT if message.isOfResult else _STATUSES.get(message.code)


def exceptionOf(message: ErrorReply, limit: int, isByName: bool = False) -> bytes:
    """
    The exception of an error, encoded.

    One that came from another provider is passed on as it is. A code with a dot is the name of the class, and details
    that are a mapping are more of its fields; what cannot be encoded of them is left out.

    :param limit: characters of the text, at most.
    :param isByName: the call came by ``$invoke``.
    """
    details = message.details
    isException = isinstance(details, JavaObject) and "detailMessage" in details.fields
    # That of a call by name is one for such calls only.
    if isException and isByName is details.name.endswith(_ANY_BY_NAME):
        try:
            return encode(details)
        except PayloadError:
            # Changed by the method.
            details = None
    fields: dict[str, Any] = {
        "detailMessage": cut(message.text, limit),
        "cause": None,
        # Java's getStackTrace() of some versions fails with none at all.
        "stackTrace": TypedList("[java.lang.StackTraceElement", []),
        "suppressedExceptions": [],
    }
    name = cut(message.code, 200) if "." in message.code else _EXCEPTION
    if isByName:
        text = fields["detailMessage"]
        fields["detailMessage"] = f"{name}: {text}"
        return encode(JavaObject(_BY_NAME, {**fields, _CLASS: name, _MESSAGE: text}))
    if isinstance(details, Mapping):
        more = {str(key): value for key, value in details.items() if key not in _OF_THROWABLE}
        try:
            return encode(JavaObject(name, {**fields, **more}))
        except PayloadError:
            pass
    return encode(JavaObject(name, fields))


def cut(text: str, limit: int) -> str:
    """So much of a text."""
    return text[: max(limit, 0)]


def thrownReply(number: int, value: Any, metadata: Mapping[str, str] | None) -> ErrorReply:
    """The error of an exception that a peer has sent: its class is the code, its message the text."""
    name, fields = _EXCEPTION, {}
    if isinstance(value, JavaObject):
        name, fields = value.name, value.fields
    elif isinstance(value, TypedMap):
        name, fields = value.type or name, dict(value)
    text = fields.get("detailMessage", value if isinstance(value, str) else None)
    if name.endswith(_ANY_BY_NAME) and isinstance(fields.get(_CLASS), str):
        name, text = fields[_CLASS], fields.get(_MESSAGE)
    more = dict(metadata or {})
    code = more.pop(CODE, name)
    return ErrorReply(number, code, text if isinstance(text, str) else name, value, more or None)


def failedReply(number: int, status: int, serialization: int, body: bytes, limits: Limits) -> ErrorReply:
    """
    The error of a status; its body is a text. The status is the details.

    A provider in Java writes the text in the serialization that it likes best, whatever that of the request was. One
    that cannot be read does not hide the status.
    """
    text, more = None, ""
    if serialization == _FASTJSON:
        text = textOfFastjson(body)
    elif serialization != HESSIAN:
        more = f", and a text in the serialization {serialization}, which is not Hessian 2"
    elif body:
        with suppress(PayloadError):
            text = Decoder(body, limits).read()
    if not isinstance(text, str) or not text:
        text = f"the peer has answered with status {status}{more}"
    return ErrorReply(number, _CODES.get(status, "internal"), text, status)


def textOfFastjson(body: bytes) -> str | None:
    """
    The text in a body that fastjson2 has written; None if it is none, or is not there as a whole.

    It begins with the length of what follows, in four bytes. Then, as ``com.alibaba.fastjson2.JSONB`` has it, a short
    text has its number of characters in the byte of its type; and others have their number of bytes behind it, in one
    to five.
    """
    kind, first = (body[4:6] + b"\0\0")[:2]
    more, begin = 0, 6
    if _SHORT_TEXT <= kind < _LONG_TEXT:
        charset, size, begin = "latin-1", kind - _SHORT_TEXT, 5
    elif kind in _CHARSETS and first <= 0x48:
        charset = _CHARSETS[kind]
        if first < 0x30:
            size = first
        elif first < 0x40:
            more, size = 1, first - 0x38
        elif first < 0x48:
            more, size = 2, first - 0x44
        else:
            more, size = 4, 0
    else:
        return None
    size = (size << 8 * more) + int.from_bytes(body[begin : begin + more], "big")
    begin += more
    return body[begin : begin + size].decode(charset, "replace") if 0 <= size <= len(body) - begin else None
