"""What the tests of sessions share: a test case that connects sessions in memory and sees that they leave nothing."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.codecs import LengthCodec
from getty_tx.session import outbound
from getty_tx.testing import DirectTransport, MemoryTransport, Network, Pair, Peer, RecordingListener

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.session.session import Session


def frame(payload: bytes) -> bytes:
    """A package on the wire, as LengthCodec has it by default."""
    return struct.pack(">I", len(payload)) + payload


def configure(listener: Any = None, codec: Any = None, **settings: Any) -> Callable[[Session], None]:
    """A newSession that sets what is given."""
    theCodec = LengthCodec() if codec is None else codec

    def newSession(session: Session) -> None:
        session.codec = theCodec
        if listener is not None:
            session.listener = listener
        for name, value in settings.items():
            setattr(session, name, value)

    return newSession


class SessionCase(SynchronousTestCase):
    """Tests of one session with a raw peer, ``self.pair``; its listener is ``self.heard``."""

    def setUp(self) -> None:
        self.patch(outbound, "DIRECT", outbound.DIRECT | {DirectTransport})
        self.heard = RecordingListener()

    def open(
        self,
        on: dict[str, Any] | None = None,
        *,
        codec: Any = None,
        transport: type[MemoryTransport] = DirectTransport,
        autoClose: bool = False,
        network: dict[str, Any] | None = None,
        newSession: Any = None,
        wrap: Any = None,
        **settings: Any,
    ) -> Pair:
        """
        Connect a session whose listener runs the hooks ``on``.

        :param wrap: takes the clock, a factory and whether it is the client's, and returns the factory to use.
        """
        self.heard = RecordingListener(on)
        self.network = Network(transport=transport, **(network or {}))
        self.factory = self.network.serverFactory(newSession or configure(self.heard, codec, **settings))
        if wrap is None:
            self.pair = self.network.join(self.factory.buildProtocol(None), Peer(autoClose))
        else:
            peers = Factory()
            peers.protocol = lambda: Peer(autoClose)
            near, far = wrap(self.network.clock, self.factory, False), wrap(self.network.clock, peers, True)
            self.pair = self.network.join(near.buildProtocol(None), far.buildProtocol(None))
            # The handshake, where there is one.
            self.pair.flush()
        return self.pair

    def assertEnded(self) -> None:
        """The connection has gone and left nothing behind."""
        context = self.factory.context
        self.assertEqual((context.connections, context.sessions, context.handshaking), (0, set(), set()))
        self.assertEqual(len(context.wheel), 0, "timers are left on the wheel")
        self.assertFalse(context.wheel.running)
        # The reset of an aborted transport and the wheel's last turn come with the reactor's next.
        self.pair.flush()
        self.assertEqual(self.pair.clock.getDelayedCalls(), [])
