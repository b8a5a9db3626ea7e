"""Bare Twisted with Autobahn: ``python groups_autobahn.py PORT WIRE``; see ``../groupload.c`` for what is sent.

A broadcast is ``prepareMessage`` once, and ``sendPreparedMessage`` for each member, as in Autobahn's example of it.
Settings: Twisted's default reactor, ``TCP_NODELAY`` (Autobahn's default), a backlog of 4096, no log; with ``deflate``
any offer of permessage-deflate is taken as it comes, else none is.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from twisted.internet import endpoints, reactor

members: set[Any] = set()


class Member(WebSocketServerProtocol):  # type: ignore[misc]
    """A connection, which is a member once it has said so."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        do = json.loads(payload)["do"]
        if do == "pub":
            prepared = self.factory.prepareMessage(payload)
            for member in members:
                member.sendPreparedMessage(prepared)
            return
        if do == "join":
            members.add(self)
        self.sendMessage(payload)

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:
        members.discard(self)


def accept(offers: list[Any]) -> Any:
    """Take the first offer of deflate."""
    return next(
        (PerMessageDeflateOfferAccept(each) for each in offers if isinstance(each, PerMessageDeflateOffer)), None
    )


def main(port: str, wire: str) -> None:
    factory = WebSocketServerFactory()
    factory.protocol = Member
    if wire.endswith(":deflate"):
        factory.setProtocolOptions(perMessageCompressionAccept=accept)
    endpoints.serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1:backlog=4096").listen(factory)
    reactor.run()  # type: ignore[attr-defined]


main(*sys.argv[1:])
