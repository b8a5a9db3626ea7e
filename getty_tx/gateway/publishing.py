"""
The HTTP API of a gateway: requests and answers in JSON, as those of Centrifugo.

``POST /api/publish`` and the others need the key in a field ``X-API-Key``. The answer is ``{"result": ...}``, or
``{"error": {"code": ..., "message": ...}}`` with the errors of the protocol; both have the status 200.
"""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from getty_tx.errors import RefuseRequest
from getty_tx.gateway.protocol import (
    FORCED,
    CommandError,
    encodePublication,
    errorOf,
    positionOf,
)
from getty_tx.gateway.queries import historyOf, presenceOf, presenceResult, statsOf, textsOf
from getty_tx.groups.errors import GroupError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from getty_tx.gateway.gateway import Gateway
    from getty_tx.groups import Group
    from getty_tx.http import Router

__all__ = ["MAX_CHANNELS", "PublishingAPI"]

log = Logger()

#: Channels of one broadcast, at most.
MAX_CHANNELS = 1000

#: The error of a request that is none.
_BAD_REQUEST = 107


class PublishingAPI:
    """
    Answers the requests of those who publish.

    :param gateway: whose groups they are.
    :param key: what they have to know.
    """

    def __init__(self, gateway: Gateway, key: str) -> None:
        self._gateway = gateway
        self._key = key.encode()

    def addTo(self, router: Router, path: str) -> None:
        """Answer below a path."""
        methods = {
            "publish": self._publish,
            "broadcast": self._broadcast,
            "presence": self._presence,
            "presence_stats": self._stats,
            "history": self._history,
            "disconnect": self._disconnect,
        }
        for name, method in methods.items():
            router.post(f"{path}/{name}")(self._handler(method))

    def _handler(self, method: Any) -> Any:
        async def handle(request: Any) -> dict[str, Any]:
            if not hmac.compare_digest(request.header("X-API-Key").encode("latin-1"), self._key):
                raise RefuseRequest(401, headers={"WWW-Authenticate": "ApiKey"})
            try:
                return {"result": await method(_Params(request.content))}
            except Exception as error:
                return {"error": _told(error)}

        return handle

    def _group(self, name: str) -> Group:
        try:
            return self._gateway.groups.group(name)
        except GroupError:
            raise CommandError(_BAD_REQUEST) from None

    async def _publish(self, params: _Params) -> dict[str, Any]:
        group = self._group(params.text("channel"))
        return await self._publishTo(group, params)

    async def _publishTo(self, group: Group, params: _Params) -> dict[str, Any]:
        id = params.text("idempotency_key", "")
        return positionOf(await group.publish(params.publication(), id=id or None))

    async def _broadcast(self, params: _Params) -> dict[str, Any]:
        channels = params.value("channels", list)
        if len(channels) > MAX_CHANNELS:
            raise CommandError(106)
        params.publication()
        responses = []
        for channel in channels:
            try:
                if not isinstance(channel, str):
                    raise CommandError(_BAD_REQUEST)
                responses.append({"result": await self._publishTo(self._group(channel), params)})
            except Exception as error:
                responses.append({"error": _told(error)})
        return {"responses": responses}

    async def _presence(self, params: _Params) -> dict[str, Any]:
        return presenceResult(await presenceOf(self._group(params.text("channel"))))

    async def _stats(self, params: _Params) -> dict[str, int]:
        return await statsOf(self._group(params.text("channel")))

    async def _history(self, params: _Params) -> dict[str, Any]:
        group = self._group(params.text("channel"))
        history = await historyOf(group, params.position("since"), params.number("limit"), params.flag("reverse"))
        texts = textsOf(group, history.publications)
        return {"publications": [json.loads(text) for text in texts], **positionOf(history.position)}

    async def _disconnect(self, params: _Params) -> dict[str, Any]:
        """All sessions of a user; other ways to name them are not there."""
        user = params.text("user")
        if not user or params.has("client", "session", "whitelist"):
            raise CommandError(_BAD_REQUEST)
        told = _Params(params.value("disconnect", dict, {}))
        code, reason = told.number("code", FORCED.code), told.text("reason", FORCED.reason)
        if not 3000 <= code < 5000:
            raise CommandError(_BAD_REQUEST)
        self._group(f"user:{user}")
        await self._gateway.groups.closeUser(user, reason, code=code)
        return {}


class _Params:
    """
    What a request says.

    :param content: JSON, or a dict that was in it.
    :raise CommandError: it is no object.
    """

    def __init__(self, content: bytes | Mapping[str, Any]) -> None:
        values: Any = content
        if isinstance(content, bytes):
            try:
                values = json.loads(content)
            except (ValueError, RecursionError):
                raise CommandError(_BAD_REQUEST) from None
        if not isinstance(values, dict):
            raise CommandError(_BAD_REQUEST)
        self._values = values
        self._pkg: bytes | None = None

    def has(self, *names: str) -> bool:
        """Whether one of them is there, and not empty."""
        return any(self._values.get(name) for name in names)

    def value(self, name: str, kind: Any, default: Any = None) -> Any:
        """A value of a type. :raise CommandError: it is none."""
        value = self._values.get(name)
        value = default if value is None else value
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise CommandError(_BAD_REQUEST)
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A text. :raise CommandError: it is none."""
        text: str = self.value(name, str, default)
        return text

    def number(self, name: str, default: int = 0) -> int:
        """A whole number. :raise CommandError: it is none."""
        number: int = self.value(name, int, default)
        return number

    def flag(self, name: str) -> bool:
        """True or false. :raise CommandError: it is neither."""
        flag: bool = self.value(name, bool, False)
        return flag

    def position(self, name: str) -> tuple[str, int] | None:
        """Epoch and offset; None: there are none. :raise CommandError: they are none."""
        values = self._values.get(name)
        if values is None:
            return None
        since = _Params(values)
        offset = since.number("offset")
        if not 0 <= offset < 2**63:
            raise CommandError(_BAD_REQUEST)
        return since.text("epoch", ""), offset

    def publication(self) -> bytes:
        """The package that is published. :raise CommandError: there is no data, or JSON cannot say it."""
        if self._pkg is None:
            tags = self.value("tags", dict, {})
            if "data" not in self._values or not all(isinstance(each, str) for each in tags.values()):
                raise CommandError(_BAD_REQUEST)
            try:
                self._pkg = encodePublication(self._values["data"], tags=tags)
            except (ValueError, RecursionError):
                raise CommandError(_BAD_REQUEST) from None
        return self._pkg


def _told(error: Exception) -> dict[str, Any]:
    if not isinstance(error, CommandError | GroupError):
        log.failure("a request to the API failed")
    told = errorOf(error).asDict()
    if isinstance(error, GroupError):
        told["message"] = f"{told['message']}: {error}"
    return told
