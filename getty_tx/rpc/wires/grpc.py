"""
The wire of gRPC: services with ``@rpc.method`` for its clients.

It is a whole connection, that of :py:mod:`getty_tx.http.grpc`, in the place of a codec and a Peer. ``/Service/method``
is the path of a call, and each message is what a payload makes of arguments, or of a result.
"""

from __future__ import annotations

from inspect import Parameter
from typing import TYPE_CHECKING, Any, NoReturn

from zope.interface import implementer

from getty_tx.errors import SettingError
from getty_tx.rpc.errors import PayloadError
from getty_tx.rpc.interfaces import IWire
from getty_tx.rpc.messages import Feature
from getty_tx.rpc.payloads.jsonpayload import JSONPayload
from getty_tx.rpc.payloads.protobufpayload import ProtobufPayload, typesOf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from getty_tx.rpc.context import CallContext
    from getty_tx.rpc.interfaces import IPayload, IServing
    from getty_tx.rpc.services import Handler

__all__ = ["Grpc"]

#: Settings of connections of gRPC that follow from those of a server here.
_FOLLOW = {
    "maxReceived": "maxMsgLen",
    "maxStreams": "maxCallsPerSession",
    "maxCalls": "maxCalls",
    "pingInterval": "pingInterval",
    "pingTimeout": "pingTimeout",
    "workers": "@rpc.method(threads=True)",
}


@implementer(IWire)
class Grpc:
    """
    Calls as clients of gRPC make them, over HTTP/2. For an ``rpc.Server``; it needs the extra ``getty_tx[http2]``.

    :param payload: ``"json"``: a request is an array of the arguments, or an object of them by name. Or ``"protobuf"``:
        a request and a reply are a message each.
    :param types: for ``"protobuf"``: a module that protoc has made, or a list of them, whose services have the names of
        those here; or the classes of request and reply by ``Service/method``. What is not in it is bytes.
    :param options: more settings of connections, as ``http.grpc.Server`` has them: ``maxMetadata``, ``streamWindow``,
        ``compression``, ``minPingInterval``, ``maxIdle``, ``maxAge`` and others.
    :raise SettingError: a parameter has another value; or the extra is not installed, or protobuf for ``types``.
    """

    features = frozenset(Feature) - {Feature.SLICES}

    def __init__(self, payload: str = "json", types: Any = None, **options: Any) -> None:
        self.payload: IPayload
        if payload == "json":
            if types is not None:
                raise SettingError("Grpc(types=...) is for 'protobuf', not for 'json'")
            self.payload = JSONPayload()
        elif payload == "protobuf":
            self.payload = ProtobufPayload(typesOf(types))
        else:
            raise SettingError(f"Grpc(payload={payload!r}) is none of json, protobuf")
        self.payloadName = payload
        self._options = options
        for name in options:
            if name in _FOLLOW:
                raise SettingError(f"Grpc({name}=...): give the server {_FOLLOW[name]} in place of that")
        # Only now: programs without this wire load nothing of HTTP.
        from getty_tx.http.grpc.context import ServerContext
        from getty_tx.http.two.engines import checkEngine

        # Both for their errors: connections would come too late to tell of them.
        checkEngine()
        ServerContext(**options)

    def __repr__(self) -> str:
        return f"Grpc({self.payloadName!r})"

    def codec(self) -> NoReturn:
        """:raise SettingError: always: this wire has connections, and none that is dialled."""
        raise SettingError("rpc.Grpc() is for an rpc.Server; to call services of gRPC, take http.grpc.Channel")

    def serving(self, context: CallContext, reactor: Any) -> IServing:
        """See :py:class:`~getty_tx.rpc.interfaces.IWire`."""
        from getty_tx.rpc.wires.grpcserving import GrpcServing

        return GrpcServing(self, context, reactor, self._options)

    # Messages

    def argumentsOf(self, handler: Handler, message: bytes) -> Sequence[Any]:
        """The arguments of a call. :raise PayloadError: the message is none of arguments."""
        if self.payloadName != "json":
            return self.payload.decodeArguments(handler.name, message)
        found = self.payload.decodeResult(handler.name, message)
        if type(found) is dict:
            return _byName(handler, found)
        if type(found) is not list:
            raise PayloadError(f"{handler.name}: the arguments are neither an array nor an object")
        return found

    def valueOf(self, name: str, message: bytes) -> Any:
        """What a client sends behind the arguments of a stream. :raise PayloadError: it is no value."""
        if self.payloadName == "json":
            return self.payload.decodeResult(name, message)
        # Messages of one stream are all of one type.
        return self.payload.decodeArguments(name, message)[0]


def _byName(handler: Handler, found: dict[str, Any]) -> Sequence[Any]:
    try:
        bound = handler.signature.bind(**found)
    except TypeError as error:
        raise PayloadError(f"{handler.name}{handler.signature}: {error}") from None
    if not bound.kwargs:
        return bound.args
    # Behind a parameter that was left out, or one that has no place among arguments.
    parameters = handler.signature.parameters
    own = [name for name in found if parameters[name].kind is Parameter.KEYWORD_ONLY]
    if own:
        raise PayloadError(f"{handler.name}{handler.signature}: {', '.join(own)} cannot be given")
    bound.apply_defaults()
    return bound.args
