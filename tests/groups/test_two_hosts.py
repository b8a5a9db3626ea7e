"""The chat of the examples on two hosts: a namespace of the network with a link to this one, and one Redis."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.task import deferLater
from twisted.protocols.basic import LineOnlyReceiver
from twisted.trial.unittest import TestCase

from tests.support.namespace import Host, Running
from tests.support.redisserver import SKIP, RedisServer
from tests.tap.test_twistd import ROOT

reactor: Any = _reactor

CHAT = str(ROOT / "examples" / "chat.py")


class User(LineOnlyReceiver):
    """One who chats."""

    delimiter = b"\n"

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._waiting: tuple[str, Deferred[None]] | None = None

    def lineReceived(self, line: bytes) -> None:
        self.heard.append(line.decode())
        self._look()

    def hears(self, text: str) -> Deferred[None]:
        """Fires when a line with this text has come."""
        done: Deferred[None] = Deferred()
        self._waiting = text, done
        self._look()
        return done

    def _look(self) -> None:
        if self._waiting is not None and any(self._waiting[0] in line for line in self.heard):
            _, done = self._waiting
            self._waiting = None
            done.callback(None)


class TwoHostsTests(TestCase):
    """See above."""

    skip = SKIP
    timeout = 60

    async def chat(self, running: Running) -> int:
        """The port of a chat that has started."""
        while (found := re.search(rb"port=(\d+)", running.said)) is None:
            self.assertFalse(running.ended.called, running.said)
            await deferLater(reactor, 0.02)
        return int(found[1])

    async def test_chat(self) -> None:
        """Who is here talks with who is there; on the command line nothing differs but the environment."""
        host = Host()
        self.addCleanup(host.remove)
        server = RedisServer()
        server.start()
        self.addCleanup(server.remove)
        self.patch(os, "environ", {**os.environ, "GETTY_GROUPS": f"redis+unix://{server.path}"})
        here = Running()
        reactor.spawnProcess(here, sys.executable, [sys.executable, CHAT, f"tcp:0:interface={host.here}"], os.environ)
        self.addCleanup(here.kill)
        there = host.start(CHAT, f"tcp:0:interface={host.address}")
        self.addCleanup(there.kill)
        users = []
        for address, running in ((host.here, here), (host.address, there)):
            endpoint = HostnameEndpoint(reactor, address, await self.chat(running))
            user = User()
            await connectProtocol(endpoint, user)  # type: ignore[arg-type]
            await user.hears("you are guest")
            users.append(user)
            self.addCleanup(user.transport.abortConnection)  # type: ignore[union-attr]
        ann, bob = users
        await ann.hears("guest2 is here")
        ann.sendLine(b"/nick ann")
        await bob.hears("guest1 is ann from here on")
        ann.sendLine(b"hello over there")
        await bob.hears("ann: hello over there")
        bob.sendLine(b"/who")
        await bob.hears("ann, guest2")
        bob.sendLine(b"/quit")
        await ann.hears("guest2 has gone")
