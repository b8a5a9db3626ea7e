"""
twisted.web for ``benchmarks.http``: ``http_twisted.py PORT SHAPE [KEY CERTIFICATE]``.

Settings: Twisted's own, its default reactor (epoll on Linux), no access log, and the backlog of the other servers.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from twisted.internet import endpoints, reactor
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from benchmarks.peers.http_shapes import HELLO, OBJECT, STREAMS, WORK

if TYPE_CHECKING:
    from twisted.web.http import Request


class Answers(Resource):
    """Answers what a shape asks for."""

    isLeaf = True

    def __init__(self, shape: str) -> None:
        super().__init__()
        self._shape = shape

    def render(self, request: Any) -> Any:
        shape = self._shape
        request.setHeader(b"content-type", b"text/plain")
        if shape == "hello":
            return HELLO
        if shape == "echo":
            return request.content.read()
        if shape in WORK:
            return WORK[shape]()
        if shape == "json":
            return json.dumps(OBJECT, separators=(",", ":")).encode()
        request.registerProducer(Chunks(request, *STREAMS[shape]), False)
        return NOT_DONE_YET


class Chunks:
    """Writes a chunk whenever the transport has room."""

    def __init__(self, request: Any, size: int, count: int) -> None:
        self._request = request
        self._chunk = bytes(size)
        self._left = count

    def resumeProducing(self) -> None:
        self._request.write(self._chunk)
        self._left -= 1
        if not self._left:
            self._request.unregisterProducer()
            self._request.finish()

    def stopProducing(self) -> None:
        """The connection is lost: nobody asks again."""


class Quiet(Site):
    """Without an access log."""

    def log(self, request: Request) -> None:
        pass


def main(port: str, shape: str, *files: str) -> None:
    kind = "ssl:{}:privateKey={}:certKey={}" if files else "tcp:{}"
    description = kind.format(port, *files) + ":interface=127.0.0.1:backlog=4096"
    endpoints.serverFromString(reactor, description).listen(Quiet(Answers(shape)))
    reactor.run()


main(*sys.argv[1:])
