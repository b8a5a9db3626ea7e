"""The errors of calls as JSON: the payload of an error's frame in TTHeader."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from getty_tx.rpc.messages import ErrorReply

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["errorPayload", "errorReply"]


def errorPayload(message: ErrorReply, limit: int) -> bytes:
    """The error as JSON; the details are left out if they are no JSON, and the text is cut if ``limit`` asks for it."""
    content: dict[str, Any] = {"code": str(message.code), "text": message.text}
    if message.details is not None:
        try:
            whole = json.dumps({**content, "details": message.details}, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError):
            whole = b""
        if whole and len(whole) <= limit:
            return whole
    payload = json.dumps(content).encode()
    if len(payload) > limit:
        # A character has 12 bytes at most.
        content = {"code": content["code"][:40], "text": message.text[: max(0, limit - 600) // 12]}
        payload = json.dumps(content).encode()
    return payload


def errorReply(number: int, payload: bytes, metadata: Mapping[str, str] | None) -> ErrorReply:
    """The error of a payload; one that cannot be read is ``internal``."""
    try:
        content = json.loads(payload)
        code, text, details = str(content["code"]), str(content["text"]), content.get("details")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        code, text, details = "internal", "the peer's error reply cannot be read", None
    return ErrorReply(number, code, text, details, metadata)
