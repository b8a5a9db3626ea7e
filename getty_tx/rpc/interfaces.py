"""The plug points of calls: wires and payloads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from getty_tx.interfaces import IReadWriter

__all__ = ["IPayload", "IServing", "IWire", "IWireCodec"]


class IWire(Interface):
    """
    How calls look on the network. One object serves any number of sessions.

    It may have ``opened(peer)`` as well, which is called when the session of a peer is open, before any call over it.

    It may have ``registering(options, names) -> options`` as well: what a Server takes to register itself, of which
    ``service`` is one, with what the wire's peers want to find there; ``names`` are the ``Service/method`` that it has.

    It may have ``common`` as well: an object whose ``@rpc.method`` every service has, where it has none of that name.

    It may have ``serving(context, reactor) -> IServing`` as well, where it is no codec but whole connections, which a
    Server has in place of peers. Its ``codec()`` raises a SettingError, which says what a client is to do.
    """

    features: Any = Attribute("a frozenset of :py:class:`getty_tx.rpc.messages.Feature`: what it can say")
    payload: Any = Attribute("an :py:class:`IPayload`")

    def codec() -> IReadWriter:
        """A codec for one session; it provides :py:class:`IWireCodec`."""


class IServing(Interface):
    """The connections of one Server, where its wire makes them, with the services and settings of its CallContext."""

    protocols: Any = Attribute("application protocols (ALPN) that the Server speaks, as bytes; empty: it names none")

    def checkEndpoint(endpoint: Any) -> None:
        """:raise SettingError: these connections cannot be made at an endpoint of the Server."""

    def newSession(session: Any) -> None:
        """Make the connection of a new session: be its listener, and set its codec."""

    def drain(seconds: float) -> Any:
        """
        Take no new calls, and serve those that were made. The Server listens no longer.

        :return: a Deferred that fires when all has ended, or after so many seconds.
        """


class IWireCodec(Interface):
    """
    The codec of one session, whose packages are those of :py:mod:`getty_tx.rpc.messages`.

    The payload of a request that it does not read may be the :py:class:`~getty_tx.rpc.errors.RpcError` that says why:
    it is the answer.

    One that decodes arguments while it reads has ``refusal``. The peer sets it to a function, which is asked before: it
    returns the error that is the answer, as there are too many calls; or None.

    One whose wire has slices has ``check(session, message)`` as well, which raises what ``write`` would. One whose
    callers may not tell replies apart has ``inOrder``: while it is true, calls in run one after the other.
    """

    understood: Any = Attribute("a frozenset of features that the peer is known to understand")


class IPayload(Interface):
    """
    How arguments and results become bytes.

    It may have ``encodeRaised(name, error) -> bytes | None`` as well: the result for an exception that a method has
    raised, or None if that is an error like others. Where the methods of services are known, it has
    ``namesOf(service)``, too: their names, and whether they are streams; and ``checkMethod(name, least, most)``, which
    raises a SettingError if a method that takes so many arguments cannot be served.
    """

    def encodeArguments(name: str, arguments: tuple[Any, ...]) -> bytes:
        """
        The bytes of a call's arguments.

        :param name: ``Service/method``.
        :raise PayloadError: they cannot be encoded.
        """

    def decodeArguments(name: str, data: bytes | memoryview) -> tuple[Any, ...] | list[Any]:
        """The arguments. :raise PayloadError: the bytes are invalid."""

    def encodeResult(name: str, value: Any) -> bytes:
        """The bytes of a result. :raise PayloadError: it cannot be encoded."""

    def decodeResult(name: str, data: bytes | memoryview) -> Any:
        """The result. :raise PayloadError: the bytes are invalid."""
