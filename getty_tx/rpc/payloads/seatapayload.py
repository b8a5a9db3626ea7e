"""Seata's messages as arguments and results: a call has one, whose class has the name of the method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from getty_tx.errors import SettingError
from getty_tx.rpc.errors import PayloadError
from getty_tx.rpc.interfaces import IPayload
from getty_tx.rpc.seata.body import decode, encode
from getty_tx.rpc.seata.messages import RESULTS

if TYPE_CHECKING:
    from getty_tx.rpc.seata.messages import Message

__all__ = ["SERVICE", "SeataPayload"]

#: The service of all calls.
SERVICE = "seata"

#: The requests by the names of their calls.
_REQUESTS = {f"{SERVICE}/{kind.__name__}": kind for kind in RESULTS}


def _requestOf(name: str) -> type[Message]:
    kind = _REQUESTS.get(name)
    if kind is None:
        raise PayloadError(
            f"{name:.80}: Seata's wire has calls such as {SERVICE}/GlobalBegin, and not this", sent=False
        )
    return kind


@implementer(IPayload)
class SeataPayload:
    """One message for the arguments, and one for the result."""

    def encodeArguments(self, name: str, arguments: tuple[Any, ...]) -> bytes:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        kind = _requestOf(name)
        if len(arguments) != 1 or type(arguments[0]) is not kind:
            raise PayloadError(f"{name} takes one {kind.__name__}, not {arguments!r:.80}", sent=False)
        return encode(arguments[0])

    def decodeArguments(self, name: str, data: bytes | memoryview) -> tuple[Any, ...]:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        return (decode(data),)

    def encodeResult(self, name: str, value: Any) -> bytes:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        self._check(name, value)
        return encode(value)

    def decodeResult(self, name: str, data: bytes | memoryview) -> Any:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        message = decode(data)
        self._check(name, message)
        return message

    def checkMethod(self, name: str, least: int, most: int) -> None:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        if name not in _REQUESTS:
            there = f"services={{{SERVICE!r}: ...}}, with methods that have the names of messages, such as GlobalBegin"
            raise SettingError(f"Seata's wire has no calls of {name}: it takes {there}")
        if not least <= 1 <= most:
            raise SettingError(f"{name} is called with one message, and the method takes another number of arguments")

    def _check(self, name: str, result: Any) -> None:
        kinds = RESULTS[_requestOf(name)]
        if type(result) not in kinds:
            wanted = " or ".join(each.__name__ for each in kinds) or "nothing"
            raise PayloadError(f"{name} is answered by {wanted}, not by {result!r:.80}")
