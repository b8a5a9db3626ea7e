"""
Another host for tests: a network namespace with a link to this one, which can go down.

::

    host = Host()                               # skips the test where there can be none
    self.addCleanup(host.remove)
    process = host.run("tests.support.namespace", host.address, "etcd:...")
    host.vanish()                               # nothing comes from it any more, no FIN either

As a program it is a host's provider of the service ``echo``: ``python -m tests.support.namespace ADDRESS REGISTRY``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Any
from unittest import SkipTest

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol

from getty_tx import EventListener, Server
from getty_tx.codecs import LineCodec

__all__ = ["Host", "Running"]

reactor: Any = _reactor

#: Seconds after which the provider ends by itself, should its test have been killed.
LIFETIME = 60


class Running(ProcessProtocol):
    """A program on a host. :ivar ended: fires when it has ended."""

    def __init__(self) -> None:
        self.said = b""
        self.ended: Deferred[None] = Deferred()

    def outReceived(self, data: bytes) -> None:
        """What it says, errors, too."""
        self.said += data

    errReceived = outReceived

    def processEnded(self, reason: Any) -> None:
        """It is gone."""
        reason.trap(ProcessDone, ProcessTerminated)
        self.ended.callback(None)

    async def kill(self) -> None:
        """End it."""
        if not self.ended.called:
            self.transport.signalProcess("KILL")  # type: ignore[union-attr]  # Twisted sets it
        await self.ended


class Host:
    """
    A namespace, with this one at the other end of its link.

    :ivar address: its own address; ``here`` is that of this side.
    :raise SkipTest: there can be none: ``ip`` is missing, or this user may not make any.
    """

    def __init__(self) -> None:
        if shutil.which("ip") is None:
            raise SkipTest("ip is missing (Debian: iproute2)")
        number = os.getpid()
        self.name = f"getty{number}"
        self._link = f"gt{number}"
        # Of the network for measurements (RFC 2544), which nobody routes; four addresses for each process.
        place = number * 4 % (1 << 17)
        net = f"198.{18 + (place >> 16)}.{place >> 8 & 255}."
        self.here, self.address = f"{net}{(place & 255) + 1}", f"{net}{(place & 255) + 2}"
        try:
            _ip("netns", "add", self.name)
            _ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
            _ip("address", "add", f"{self.here}/30", "dev", self._link)
            _ip("link", "set", self._link, "up")
            _ip("-n", self.name, "address", "add", f"{self.address}/30", "dev", "eth0")
            _ip("-n", self.name, "link", "set", "eth0", "up")
        except subprocess.CalledProcessError as error:
            self.remove()
            raise SkipTest(f"no network namespace can be made: {error.stderr.decode().strip()}") from None

    def run(self, module: str, *arguments: str) -> Running:
        """Run a module on it."""
        return self.start("-m", module, *arguments)

    def start(self, *arguments: str) -> Running:
        """Run Python on it."""
        running = Running()
        args = ["ip", "netns", "exec", self.name, sys.executable, *arguments]
        reactor.spawnProcess(running, shutil.which("ip"), args, env=os.environ)
        return running

    def vanish(self) -> None:
        """Its link goes down."""
        _ip("-n", self.name, "link", "set", "eth0", "down")

    def remove(self) -> None:
        """Remove it, as far as it is there."""
        for arguments in (("link", "delete", self._link), ("netns", "delete", self.name)):
            subprocess.run(["ip", *arguments], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, check=True)


def main(address: str, registry: str) -> None:
    """Provide ``echo`` at an address, as a registry is told."""

    def newSession(session: Any) -> None:
        session.codec = LineCodec()
        session.listener = EventListener()

    Server(newSession, f"tcp:0:interface={address}", service="echo", registry=registry).startService()
    reactor.callLater(LIFETIME, reactor.stop)
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
