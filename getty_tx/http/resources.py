"""http.Resources: a tree of twisted.web resources, so those of Klein, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import Request as WebRequest
from twisted.web.server import Site
from zope.interface import implementer

from getty_tx import settings
from getty_tx.errors import SettingError
from getty_tx.http.answers import AnswerFields
from getty_tx.http.body import tooLarge
from getty_tx.http.interfaces import IApplication

if TYPE_CHECKING:
    from twisted.internet.interfaces import IAddress
    from twisted.web.http_headers import Headers

    from getty_tx.http.interfaces import IExchange
    from getty_tx.http.request import Request

__all__ = ["Resources"]

log = Logger()

#: Marks a limit that is the server's.
_SERVERS: Any = object()


@implementer(IApplication)
class Resources:
    """
    A tree of resources of twisted.web.

    ::

        router.mount("/site", http.Resources(root))
        router.mount("/api", http.Resources(klein.resource()))

    A resource gets a :py:class:`twisted.web.server.Request` when the body is complete; a long one is in a temporary
    file. ``request.isSecure()`` and ``request.getClientAddress()`` are what trusted proxies say.

    What a resource writes without a producer waits in memory; above the session's ``maxPending``, 16 MiB, the client is
    cut off. The text of a status is the usual one, whatever ``setResponseCode`` says. WebSockets of twisted.web are not
    served.

    :param root: the resource at the root, or at the prefix of :py:meth:`~getty_tx.http.Router.mount`.
    :param maxBody: bytes of a body; more is refused with 413. None: no limit; left out: the server's ``maxBody``.
    :raise SettingError: the root is no resource, or the limit is none.
    """

    def __init__(self, root: Any, maxBody: int | None = _SERVERS) -> None:
        if not IResource.providedBy(root):
            raise SettingError(f"{root!r} is no resource: give what provides twisted.web.resource.IResource")
        if maxBody is not _SERVERS:
            settings.optionalCount("maxBody", maxBody)
        self._root = root
        self._maxBody = maxBody
        self._site: _Site | None = None

    def serve(self, request: Request, exchange: IExchange) -> None:
        """Render the resource of the path."""
        limit = exchange.context.maxBody if self._maxBody is _SERVERS else self._maxBody
        content = request.content
        length = request.fields.length if content is None else len(content)
        if limit is not None and length > limit:
            raise tooLarge(limit)
        site = self._site
        if site is None:
            # Not before: it asks for a reactor, by which its sessions expire.
            reactor = exchange.session.context.reactor
            site = self._site = _Site(self._root, reactor=reactor)  # type: ignore[no-untyped-call]  # Twisted's
        channel = _Channel(request, exchange, site)
        if content is None:
            Deferred.fromCoroutine(_gathered(channel, request, limit)).addErrback(channel.fail)
            return
        channel.page.gotLength(length)
        channel.page.handleContentChunk(content)
        channel.run()


async def _gathered(channel: _Channel, request: Request, limit: int | None) -> None:
    """Take the body as it comes, and render the resource."""
    body = request.body
    assert body is not None
    length = request.fields.length
    channel.page.gotLength(length if length >= 0 else None)
    size = 0
    async for part in body:
        size += len(part)
        if limit is not None and size > limit:
            raise tooLarge(limit)
        channel.page.handleContentChunk(part)
    channel.run()


class _Site(Site):
    """What a request asks for its resource and its session."""

    def getResourceFor(self, request: Any) -> Any:
        # Twisted's own are set by now. The server has them, too.
        _removeOwn(request.responseHeaders)
        count = request.channel.depth
        above = request.channel.above
        request.prepath, request.postpath = [*above, *request.postpath[:count]], request.postpath[count:]
        return super().getResourceFor(request)  # type: ignore[no-untyped-call]  # Twisted's


def _removeOwn(headers: Headers) -> None:
    headers.removeHeader(b"Server")
    headers.removeHeader(b"Date")


class _Page(WebRequest):
    """The request that a resource gets."""

    def processingFailed(self, reason: Failure) -> Failure:
        """Answer with 500, or cut off the answer that has begun; the client is not told why."""
        channel = getattr(self, "channel", None)
        if channel is None:
            log.failure("{request}: failed after its end", failure=reason, request=self)
        else:
            channel.fail(reason)
        return reason


class _Channel:
    """
    What twisted.web's request takes for its :py:class:`twisted.web.http.HTTPChannel`: it writes to the exchange.

    :ivar page: twisted.web's request.
    :ivar site: what it asks for its resource.
    :ivar transport: the facade over the session's.
    :ivar depth: segments of the path that the prefix of the mount has.
    :ivar above: segments of the path that a proxy has left out, see ``request.rootPath``.
    """

    __slots__ = (
        "_call",
        "_exchange",
        "_isPush",
        "_isWaiting",
        "_producer",
        "_request",
        "above",
        "depth",
        "page",
        "site",
        "transport",
    )

    def __init__(self, request: Request, exchange: IExchange, site: _Site) -> None:
        self._request = request
        self._exchange = exchange
        self._producer: Any = None
        # Whether the producer is a push producer; it is paused, or a pull producer not asked, while the client is slow.
        self._isPush = self._isWaiting = False
        self._call: Any = None
        self.site = site
        self.transport = exchange.session.transport
        self.depth = request.root.count(b"/")
        self.above = request.rootPath.encode("utf-8").split(b"/")[1:]
        # Not typed in Twisted.
        newPage: Any = _Page
        page = self.page = newPage(self)
        for name, value in request.headers:
            page.requestHeaders.addRawHeader(name, value)
        page.parseCookies()
        exchange.whenGone(request, lambda: self._lose(Failure(ConnectionLost("the client has gone"))))

    def run(self) -> None:
        """Render the resource; the body is complete."""
        request = self._request
        try:
            self.page.requestReceived(
                request.method.encode("ascii"), request.target, b"HTTP/" + request.version.encode()
            )
        except Exception as error:
            # What is raised while the resource is rendered goes to processingFailed.
            log.debug("{request}: its form cannot be read: {error!r}", request=request, error=error)
            self._respondToBadRequestAndDisconnect()

    def fail(self, reason: Failure) -> None:
        """The resource has failed, the body is too large, or the client has gone before its end."""
        assert reason.value is not None
        self._exchange.fail(self._request, reason.value)
        self._lose(reason)

    def _lose(self, reason: Failure) -> None:
        """Nothing more is sent."""
        producer = self._producer
        self.unregisterProducer()
        if producer is not None:
            self._tell(producer.stopProducing)
        self.page.connectionLost(reason)

    def _tell(self, call: Any) -> None:
        try:
            call()
        except Exception:
            self.page.processingFailed(Failure())

    # What the request calls

    def _respondToBadRequestAndDisconnect(self) -> None:
        """
        A form is malformed.

        The request calls this private method of its channel when ``multipart/form-data`` has no parts; there is no
        public one.
        """
        self._exchange.refuse(self._request, 400, "the form is malformed")
        self._lose(Failure(ConnectionLost("the form is malformed")))

    def getPeer(self) -> IAddress:
        """The client's address; behind a trusted proxy, as that says."""
        remote: Any = self._exchange.session.remoteAddr
        client = self._exchange.clientOf(self._request)
        if client is None or client == (getattr(remote, "host", None), getattr(remote, "port", None)):
            address: IAddress = remote
            return address
        return (IPv6Address if ":" in client[0] else IPv4Address)("TCP", *client)

    def getHost(self) -> IAddress:
        """This end's address."""
        return self._exchange.session.localAddr

    def isSecure(self) -> bool:
        """Whether the client uses TLS; behind a trusted proxy, as that says."""
        return self._exchange.schemeOf(self._request) == "https"

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """Begin the answer. :raise ValueError: the status ends no request, or a field cannot stand in a head."""
        # The exchange makes the chunks.
        self.page.chunked = 0
        if not self._exchange.isServing(self._request):
            return
        status = int(code)
        if not 200 <= status <= 599:
            raise ValueError(f"the status {status} ends no request: give one from 200 to 599")
        if self.page.path == b"*":
            # No resource was asked for.
            _removeOwn(headers)
        pairs = [(name, value) for name, values in headers.getAllRawHeaders() for value in values]
        self._exchange.start(self._request, status, AnswerFields(pairs))

    def write(self, data: bytes) -> None:
        """Send a part of the body. :raise ValueError: it is longer than ``Content-Length`` says."""
        exchange = self._exchange
        if not exchange.isServing(self._request):
            return
        exchange.write(self._request, data)
        if self._isPush and not self._isWaiting and exchange.mustWait():
            self._wait()
            self._producer.pauseProducing()

    def requestDone(self, page: WebRequest) -> None:
        """The answer is complete."""
        if self._exchange.isServing(self._request):
            try:
                self._exchange.end(self._request)
            except ValueError as error:
                self._exchange.fail(self._request, error)

    def loseConnection(self) -> None:
        """Close the connection when what was written has left."""
        self._exchange.session.close()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Pause and resume a push producer, or ask a pull producer for each part."""
        self._producer = producer
        self._isPush = bool(streaming)
        if not self._isWaiting and self._exchange.mustWait():
            self._wait()
        if not self._isWaiting:
            self._again()
        elif streaming:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """It has ended."""
        self._producer = None
        self._isPush = False
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    # The producer's turns

    def _wait(self) -> None:
        """Until the client has taken all."""
        self._isWaiting = True
        self._exchange.drained().addCallbacks(self._drained, lambda _: None)

    def _drained(self, _: None) -> None:
        self._isWaiting = False
        if self._isPush:
            self._tell(self._producer.resumeProducing)
        else:
            self._again()

    def _again(self) -> None:
        """Ask a pull producer for its next part when other connections have had their turn."""
        if self._producer is not None and not self._isPush and self._call is None:
            self._call = self._exchange.session.context.reactor.callLater(0, self._pull)

    def _pull(self) -> None:
        self._call = None
        self._tell(self._producer.resumeProducing)
        if self._producer is None or self._isWaiting:
            return
        if self._exchange.mustWait():
            self._wait()
        else:
            self._again()
