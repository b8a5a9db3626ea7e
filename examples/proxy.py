"""
A TCP proxy: a listener for ``getty-serve`` that connects from the process that serves the connection.

::

    twistd -n getty-echo
    cd examples
    PROXY_CONNECT=tcp:127.0.0.1:8090 twistd -n getty-serve --codec raw --listener proxy:Listener \
        --listen tcp:8091:interface=127.0.0.1 --processes 0
    nc localhost 8091

With ``--processes`` each sub-reactor has both connections of a client on its reactor, so that no bytes pass between
processes.
"""

import os

from getty_tx import Client, EventListener, NotReadyError
from getty_tx.codecs import RawCodec

DESTINATION = os.environ.get("PROXY_CONNECT", "tcp:127.0.0.1:8090")

codec = RawCodec()


class Half(EventListener):
    """One side of the proxy: sends each package to the other side."""

    other = None

    def onMessage(self, session, pkg):
        other = self.other
        if other.isClosed:
            return None
        other.writePkg(pkg)
        if other.pendingBytes <= other.highWater:
            return None
        # Pause this side until the slower one has sent the bytes. If that one closes instead, its onClose handles it.
        return other.drained().addErrback(lambda failure: None)

    def onClose(self, session):
        # Pending bytes of the other side are sent first.
        if self.other is not None:
            self.other.close()


class Front(Half):
    """The side of the client."""

    client = None

    async def onOpen(self, session):
        # Packages wait until this returns.
        self.client = Client(self.newBack, DESTINATION, reconnectAttempts=1)
        self.client.startService()
        self.session = session
        try:
            [self.other] = await self.client.whenReady()
        except NotReadyError as error:
            # A str reason is for the log.
            session.close(str(error))

    def newBack(self, back):
        back.codec = codec
        back.listener = Half()
        back.listener.other = self.session

    def onError(self, session, error):
        print(f"{session}: {error}", flush=True)

    def onClose(self, session):
        # The pool would reconnect; stopService() flushes and closes its session.
        if self.client is not None:
            self.client.stopService()


class Listener(EventListener):
    """Gives each session its own listener."""

    def onOpen(self, session):
        session.listener = Front()
        return session.listener.onOpen(session)
