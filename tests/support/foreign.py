"""
Other implementations of TLS as peers: commands that run as processes, and a server and a client of ours for them.

What is not installed is skipped, and says so.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import ProcessProtocol
from twisted.trial.unittest import SkipTest, TestCase

from getty_tx.client import Client
from getty_tx.endpoints import clientEndpoint
from getty_tx.server import Server
from getty_tx.testing import RecordingListener
from getty_tx.tls import clientPolicy, serverPolicy, wrapClient, wrapServer
from tests.support.certificates import Authority
from tests.support.memory import configure

if TYPE_CHECKING:
    from twisted.python.failure import Failure

__all__ = ["LOCAL", "Command", "ForeignCase"]

LOCAL = "127.0.0.1"


class Command(ProcessProtocol):
    """
    A command.

    :ivar output: what it has printed.
    :ivar ended: fires with that when it has ended.
    """

    def __init__(self) -> None:
        self.output = b""
        self.ended: Deferred[bytes] = Deferred()
        self._waiting: dict[bytes, Deferred[bytes]] = {}

    def printed(self, wanted: bytes) -> Deferred[bytes]:
        """Fires with all that the command has printed, when ``wanted`` is in it."""
        self._waiting[wanted] = Deferred()
        waiting = self._waiting[wanted]
        self._tell()
        return waiting

    def write(self, data: bytes) -> None:
        """Give the command something to read."""
        self.transport.write(data)  # type: ignore[union-attr]

    def outReceived(self, data: bytes) -> None:
        self.output += data
        self._tell()

    errReceived = outReceived

    def _tell(self) -> None:
        for wanted in [each for each in self._waiting if each in self.output]:
            self._waiting.pop(wanted).callback(self.output)

    def processEnded(self, reason: Failure) -> None:  # type: ignore[override]  # Twisted gives it no types
        self.ended.callback(self.output)


class ForeignCase(TestCase):
    """Whole stacks on trial's reactor, with a process or a thread at the other end."""

    timeout = 60

    def setUp(self) -> None:
        self.authority = Authority(self.mktemp())
        self.files = self.authority.issue([LOCAL])

    def command(self, *arguments: Any, **environment: str) -> Command:
        """Run a command, to its end or that of the test."""
        program = shutil.which(arguments[0])
        if program is None:
            raise SkipTest(f"{arguments[0]} is not installed")
        command = Command()
        there: Any = reactor
        env = {**os.environ, **environment}
        process = there.spawnProcess(command, program, [str(each) for each in arguments], env=env)

        def end() -> Deferred[bytes]:
            if not command.ended.called:
                process.signalProcess("KILL")
            return command.ended

        self.addCleanup(end)
        return command

    async def serve(self, on: dict[str, Any], codec: Any = None, trustRoot: str | None = None, **settings: Any) -> int:
        """A server of ours; its port. What its sessions hear is in ``heard``."""
        self.heard = RecordingListener(on)
        endpoint = TCP4ServerEndpoint(reactor, 0, interface=LOCAL)
        policy = serverPolicy(*self.files, trustRoot=trustRoot)
        self.server = Server(configure(self.heard, codec, **settings), wrapServer(policy, endpoint))
        self.server.startService()
        self.addCleanup(self.server.stopService)
        [address] = await self.server.whenListening()
        port: int = address.port  # type: ignore[attr-defined]
        return port

    def pool(
        self, port: int, on: dict[str, Any], codec: Any = None, policy: Any = None, number: int = 1, **settings: Any
    ) -> Client:
        """A pool of ours. What its sessions hear is in ``dialled``."""
        self.dialled = RecordingListener(on)
        policy = policy or clientPolicy(LOCAL, trustRoot=self.authority.path)
        endpoint: Any = wrapClient(policy, clientEndpoint(f"tcp:{LOCAL}:{port}", reactor))
        newSession = configure(self.dialled, codec, **settings)
        client = Client(newSession, endpoint, number=number, reconnectInterval=0.05)
        client.startService()
        self.addCleanup(client.close)
        return client
