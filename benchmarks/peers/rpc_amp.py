"""Twisted AMP, on Twisted's default reactor: see ``rpc_load.py`` for the command line.

Settings: Twisted's own, and TCP_NODELAY at both ends, which is off otherwise. A box of AMP has at most 65,535 bytes in
a value. AMP has no deadlines: the caller's ``addTimeout`` is the nearest.
"""

from __future__ import annotations

import json
import operator
import sys
from typing import Any

import rpc_load
from twisted.internet import defer, endpoints, protocol, reactor
from twisted.protocols import amp


class JSON(amp.Argument):
    """A value as JSON."""

    def toString(self, value: Any) -> bytes:
        return json.dumps(value, separators=(",", ":")).encode()

    def fromString(self, data: bytes) -> Any:
        return json.loads(data)


class SayBytes(amp.Command):
    commandName = b"say"
    arguments = [(b"value", amp.String())]
    response = [(b"value", amp.String())]


class SayJSON(amp.Command):
    commandName = b"say"
    arguments = [(b"value", JSON())]
    response = [(b"value", JSON())]


COMMANDS: dict[str, Any] = {"bytes": SayBytes, "json": SayJSON}


def serve(port: int, content: str, isAsync: bool) -> None:
    async def sayLater(value: Any) -> Any:
        return {"value": value}

    class Echo(amp.AMP):
        def connectionMade(self) -> None:
            super().connectionMade()
            self.transport.setTcpNoDelay(True)

        def say(self, value: Any) -> Any:
            return defer.ensureDeferred(sayLater(value)) if isAsync else {"value": value}

        COMMANDS[content].responder(say)

    reactor.listenTCP(port, protocol.Factory.forProtocol(Echo), backlog=4096, interface="127.0.0.1")
    reactor.run()


def call(load: rpc_load.Load, content: str) -> None:
    command, timeout = COMMANDS[content], load.timeout

    def caller(connection: amp.AMP) -> Any:
        def say(value: Any) -> Any:
            waiting = connection.callRemote(command, value=value)
            return waiting if timeout is None else waiting.addTimeout(timeout, reactor)

        return defer.ensureDeferred(load.caller(say, operator.itemgetter("value")))

    async def run() -> None:
        endpoint = endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", load.port)
        opened = [await endpoint.connect(protocol.Factory.forProtocol(amp.AMP)) for _ in range(load.connections)]
        for connection in opened:
            connection.transport.setTcpNoDelay(True)
        load.begin()
        await defer.gatherResults([caller(each) for each in opened for _ in range(load.depth)])

    defer.ensureDeferred(run()).addErrback(lambda failure: failure.printTraceback()).addBoth(lambda _: reactor.stop())
    reactor.run()


sys.exit(rpc_load.main(serve, call))
