"""The plug points of HTTP: applications, and where their answers go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.defer import Deferred

    from getty_tx.http.answers import AnswerFields
    from getty_tx.http.context import HTTPContext
    from getty_tx.http.request import Request
    from getty_tx.session.session import Session

__all__ = ["IApplication", "IExchange", "IRunningApplication"]


class IApplication(Interface):
    """What answers requests."""

    def serve(request: Request, exchange: IExchange) -> None:
        """
        Answer a request, now or later, by the methods of ``exchange``.

        :raise Exception: it cannot: the answer is 500, or that of a :py:class:`~getty_tx.errors.RefuseRequest`.
        """


class IRunningApplication(IApplication):
    """An application that starts and stops with its server."""

    def startApplication(reactor: Any) -> Deferred[None]:
        """Get ready; the server listens when it has fired, and does not start if it fails."""

    def stopApplication() -> Deferred[None]:
        """Come to an end; all connections are closed."""


class IExchange(Interface):
    """
    Where the answer of a request goes, and where its body comes from.

    HTTP/1.1 has one for each connection, which serves one request at a time. So each call names its request. A call for
    one that is not served any more raises a :py:class:`~getty_tx.http.answers.GoneError`.
    """

    session: Session = Attribute("The session of the connection.")
    context: HTTPContext = Attribute("What all connections of the server share.")

    hasEnded: bool = Attribute("The client has ended its side: it may have gone, or waits for its answers.")

    def isServing(request: Request) -> bool:
        """Whether the answer of this request is awaited."""

    def answer(request: Request, status: int, fields: AnswerFields, body: bytes) -> None:
        """Send a whole answer. :raise ValueError: ``Content-Length`` says another length."""

    def start(request: Request, status: int, fields: AnswerFields, length: int | None = None) -> None:
        """
        Begin an answer; its head leaves with the first bytes of the body, or with its end.

        :param length: bytes of the body; None: what ``Content-Length`` of ``fields`` says, or not known.
        """

    def write(request: Request, data: bytes) -> None:
        """Send bytes of the body. :raise ValueError: they are more than ``Content-Length`` says."""

    def flush(request: Request) -> None:
        """Send the head now if it has not left."""

    def writeFile(request: Request, file: Any, offset: int, count: int) -> Deferred[int]:
        """Send a part of a file as the next bytes of the body, as ``session.sendFile`` does."""

    def end(request: Request, trailers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """The answer is complete. :raise ValueError: it is shorter than ``Content-Length`` says: see ``fail``."""

    def inform(request: Request, status: int, fields: AnswerFields) -> None:
        """Send an interim answer, such as 103 (Early Hints); nothing to a client of HTTP/1.0."""

    def fail(request: Request, error: BaseException) -> None:
        """The application has failed: answer with 500, or cut off the answer that has begun. It is logged."""

    def refuse(request: Request, status: int, reason: str, fields: AnswerFields | None = None) -> None:
        """Answer with a status and a text that says why."""

    def handOver(request: Request, change: Callable[[], object]) -> None:
        """
        Leave the connection to another protocol: no answer is sent, and nothing more is read as HTTP.

        :param change: called soon, when what was sent before has left; it gives the transport to the other protocol.
            It is not called if the client goes before that.
        """

    def handedOver(request: Request, status: int) -> None:
        """The other protocol has answered with this status: count it. 0: the client has gone before."""

    def mustWait() -> bool:
        """Whether more than ``highWater`` bytes wait to be sent, so that the application is to wait for ``drained``."""

    def drained() -> Deferred[None]:
        """Fires when all bytes have left; fails when the client has gone."""

    def whenGone(request: Request, call: Any, orEnded: bool = False) -> None:
        """
        Call ``call()`` once if the client goes before the answer is complete.

        :param orEnded: call it also when the client has ended its side, from when on :py:attr:`hasEnded` is true.
        """

    def wantBody(request: Request) -> None:
        """Somebody waits for the body: ask the client for it if it wants that (``Expect: 100-continue``)."""

    def bodyTaken(request: Request) -> None:
        """Parts of the body were taken: the client may be read again."""

    def schemeOf(request: Request) -> str:
        """``http`` or ``https``."""

    def endsOf(request: Request) -> tuple[str, tuple[str, int] | None, tuple[str, int | None] | None]:
        """The scheme, the client, and the server's address and port; of a unix socket its path and None."""

    def clientOf(request: Request) -> tuple[str, int] | None:
        """The client's address and port."""
