"""What a handler gets besides the request, with the names of ``grpc.ServicerContext``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from getty_tx.http.grpc.bridging import DONE
from getty_tx.http.grpc.context import encodingOf
from getty_tx.http.grpc.errors import StatusError
from getty_tx.http.grpc.metadata import decodeMetadata, encodeMetadata
from getty_tx.http.grpc.requests import endOfStream
from getty_tx.http.grpc.status import Code

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from getty_tx.http.grpc.servercall import ServerCall
    from getty_tx.http.grpc.serverconnection import CallConnection
    from getty_tx.session.session import Session

__all__ = ["Chosen", "ServicerContext"]


def codeFrom(value: Any) -> Code:
    """A :py:class:`~getty_tx.http.grpc.status.Code`, a number of one, or a member of ``grpc.StatusCode``."""
    number = getattr(value, "value", value)
    try:
        return Code(number[0] if isinstance(number, tuple) else number)
    except (ValueError, TypeError):
        raise ValueError(f"{value!r} is no status code of gRPC") from None


class Chosen:
    """
    What a handler has said of its answer.

    :ivar code: the status. ``text``, ``details``: of it.
    :ivar trailers: header fields behind the answer.
    :ivar encoding: how replies are compressed, ``b""``: not; None: as the server says.
    :ivar isNextPlain: the next reply is not compressed.
    :ivar aborted: what ``abort`` has raised.
    :ivar callbacks: called when the call has ended.
    """

    __slots__ = ("aborted", "callbacks", "code", "details", "encoding", "isNextPlain", "text", "trailers", "trailing")

    def __init__(self) -> None:
        self.code = Code.OK
        self.text = ""
        self.details = b""
        self.trailers: list[tuple[bytes, bytes]] = []
        self.trailing: Any = ()
        self.encoding: bytes | None = None
        self.isNextPlain = False
        self.aborted: StatusError | None = None
        self.callbacks: list[Callable[[], object]] = []


class ServicerContext:
    """
    The call, for its handler. It has the names of ``grpc.ServicerContext`` and ``grpc.aio.ServicerContext``: what is
    awaited there may be awaited here.

    :param call: the call. It does not refer to this, so that nothing is left to the garbage collector.
    """

    __slots__ = ("_call",)

    def __init__(self, call: ServerCall) -> None:
        self._call = call

    def _chosen(self) -> Chosen:
        chosen = self._call.chosen
        if chosen is None:
            chosen = self._call.chosen = Chosen()
        return chosen

    # The status

    def abort(self, code: Any, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        """
        End the call with a status that is not OK.

        :raise StatusError: always. The call ends so even if the handler catches it.
        """
        status = codeFrom(code)
        if status is Code.OK:
            raise ValueError("abort() is not for StatusCode.OK: return the reply")
        raise self._abort(StatusError(status, details, trailers=tuple(trailing_metadata)))

    def abort_with_status(self, status: Any) -> NoReturn:
        """The same with what ``grpc_status.rpc_status.to_status`` makes: code, details and trailing_metadata."""
        trailing = tuple(status.trailing_metadata or ())
        details = next((value for name, value in trailing if name == "grpc-status-details-bin"), b"")
        others = tuple(pair for pair in trailing if pair[0] != "grpc-status-details-bin")
        raise self._abort(StatusError(codeFrom(status.code), status.details, details, others))

    def _abort(self, error: StatusError) -> StatusError:
        # What cannot be sent is the handler's mistake.
        encodeMetadata(error.trailers)
        self._chosen().aborted = error
        return error

    def set_code(self, code: Any) -> None:
        """The status of the call, if the handler returns or raises something else than a StatusError."""
        self._chosen().code = codeFrom(code)

    def set_details(self, details: str) -> None:
        """The text of that status."""
        self._chosen().text = details

    def code(self) -> Code:
        """What was set."""
        chosen = self._call.chosen
        return Code.OK if chosen is None else chosen.code

    def details(self) -> str:
        """What was set."""
        chosen = self._call.chosen
        return "" if chosen is None else chosen.text

    # Metadata

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The client's metadata, as pairs."""
        return decodeMetadata(self._call.headers)

    def send_initial_metadata(self, initial_metadata: Iterable[Any]) -> Awaitable[None]:
        """Begin the answer, with metadata. It is done when this returns, which may be awaited."""
        self._call.sendHead(encodeMetadata(initial_metadata))
        return DONE

    def set_trailing_metadata(self, trailing_metadata: Iterable[Any]) -> None:
        """The metadata behind the answer."""
        trailing = tuple(trailing_metadata)
        chosen = self._chosen()
        details = [value for name, value in trailing if name == "grpc-status-details-bin"]
        if details:
            chosen.details = details[0]
        chosen.trailers = encodeMetadata(pair for pair in trailing if pair[0] != "grpc-status-details-bin")
        chosen.trailing = trailing

    def trailing_metadata(self) -> Any:
        """What was set."""
        chosen = self._call.chosen
        return () if chosen is None else chosen.trailing

    # Messages

    async def read(self) -> Any:
        """The next request of a stream; ``grpc.aio.EOF`` if there is none any more."""
        requests = self._call.requests
        if requests is None or not await requests.more():
            return endOfStream()
        return requests.take()

    def write(self, message: Any) -> Awaitable[None]:
        """Send one reply of a stream. To be awaited: it waits while the client takes too little."""
        if self._call.write(message):
            return self._call.room()
        return DONE

    def set_compression(self, compression: Any) -> None:
        """``grpc.Compression``, or ``"gzip"``, ``"deflate"``, ``"identity"``; before the answer begins."""
        self._chosen().encoding = encodingOf("compression", compression) or b""

    def disable_next_message_compression(self) -> None:
        """Send the next reply as it is."""
        self._chosen().isNextPlain = True

    # The call

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None: there is none."""
        deadline = self._call.deadline
        return None if not deadline else max(0.0, deadline - self._call.connection.seconds())

    def is_active(self) -> bool:
        """Whether the client may still get an answer."""
        return not self._call.hasEnded and not self._call.isAnswered

    def cancelled(self) -> bool:
        """Whether the call has ended before its answer was complete."""
        return self._call.hasEnded and not self._call.isAnswered

    def done(self) -> bool:
        """Whether the call has ended."""
        return not self.is_active()

    def cancel(self) -> None:
        """End the call at once."""
        self._call.reset()
        self._call.connection.flush()

    def add_callback(self, callback: Callable[[], object]) -> bool:
        """Have something called when the call has ended. :return: False if it has, so that it is not called."""
        if self._call.hasEnded:
            return False
        self._chosen().callbacks.append(callback)
        return True

    def add_done_callback(self, callback: Callable[[ServicerContext], object]) -> None:
        """The same with the context as argument; at once if the call has ended."""
        if not self.add_callback(lambda: callback(self)):
            callback(self)

    # The client

    @property
    def connection(self) -> CallConnection:
        """The connection that the call has come over."""
        return self._call.connection

    @property
    def session(self) -> Session:
        """The session that the call has come over: its addresses, its reactor, and its clock."""
        return self._call.connection.session

    def peer(self) -> str:
        """The client's address, such as ``ipv4:192.0.2.1:40000``."""
        address = self.session.remoteAddr
        if isinstance(address, IPv4Address):
            return f"ipv4:{address.host}:{address.port}"
        if isinstance(address, IPv6Address):
            return f"ipv6:%5B{address.host}%5D:{address.port}"
        return "unix:" if isinstance(address, UNIXAddress) else str(address)

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """What TLS knows of the client, by grpc's names; empty without TLS."""
        certificate = self._certificate()
        if certificate is None:
            return {}
        found: dict[str, list[bytes]] = {"transport_security_type": [b"ssl"]}
        if certificate:
            name = certificate.get_subject().CN
            if name:
                found["x509_common_name"] = [name.encode()]
        return found

    def peer_identities(self) -> Iterable[bytes] | None:
        """The common name of the client's certificate; None: it has none."""
        return self.auth_context().get("x509_common_name")

    def peer_identity_key(self) -> str | None:
        """The name of what :py:meth:`peer_identities` gives; None: it gives none."""
        return "x509_common_name" if "x509_common_name" in self.auth_context() else None

    def _certificate(self) -> Any:
        """The client's certificate; False: it has none. None: there is no TLS."""
        transport = self.session.transport
        ask = getattr(transport, "getPeerCertificate", None)
        if ask is None:
            return None
        return ask() or False
