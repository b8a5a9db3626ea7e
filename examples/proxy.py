"""
A TCP proxy: a listener for ``getty-serve`` that dials from the process which serves the connection.

::

    twistd -n getty-echo
    cd examples
    PROXY_CONNECT=tcp:127.0.0.1:8090 twistd -n getty-serve --codec raw --listener proxy:Listener \
        --listen tcp:8091:interface=127.0.0.1 --processes 0
    nc localhost 8091

With ``--processes`` each sub-reactor has its connections and those that it dials for them on one reactor, so that no
byte crosses from one process to another.
"""

import os

from getty_tx import Client, EventListener, NotReadyError
from getty_tx.codecs import RawCodec

DESTINATION = os.environ.get("PROXY_CONNECT", "tcp:127.0.0.1:8090")

codec = RawCodec()


class Half(EventListener):
    """One side: what comes goes to the other side."""

    other = None

    def onMessage(self, session, pkg):
        other = self.other
        if other.isClosed:
            return None
        other.writePkg(pkg)
        if other.pendingBytes <= other.highWater:
            return None
        # Nothing is read here until the slower side has taken it. If it goes away instead, its onClose says so.
        return other.drained().addErrback(lambda failure: None)

    def onClose(self, session):
        # What was written there is flushed first.
        if self.other is not None:
            self.other.close()


class Front(Half):
    """The side of whoever has connected."""

    client = None

    async def onOpen(self, session):
        # What comes meanwhile waits.
        self.client = Client(self.newBack, DESTINATION, reconnectAttempts=1)
        self.client.startService()
        self.session = session
        try:
            [self.other] = await self.client.whenReady()
        except NotReadyError as error:
            # A text goes to the log.
            session.close(str(error))

    def newBack(self, back):
        back.codec = codec
        back.listener = Half()
        back.listener.other = self.session

    def onError(self, session, error):
        print(f"{session}: {error}", flush=True)

    def onClose(self, session):
        # The pool of one session would replace it; stopped, it flushes and closes it.
        if self.client is not None:
            self.client.stopService()


class Listener(EventListener):
    """Gives each session a listener of its own."""

    def onOpen(self, session):
        session.listener = Front()
        return session.listener.onOpen(session)
