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

from getty_tx import Client, EventListener, NotReadyError, relay
from getty_tx.codecs import RawCodec

DESTINATION = os.environ.get("PROXY_CONNECT", "tcp:127.0.0.1:8090")

codec = RawCodec()


def newBack(back):
    """The side of the destination. Its codec is never asked: relay takes the bytes."""
    back.codec = codec


class Listener(EventListener):
    """The side of the client."""

    async def onOpen(self, session):
        # Bytes wait until the relay has them.
        client = Client(newBack, DESTINATION, reconnectAttempts=1)
        client.startService()
        try:
            [back] = await client.whenReady()
        except NotReadyError as error:
            client.stopService()
            # A str reason is for the log.
            session.close(str(error))
            return
        # onOpen returns now, and the relay lasts. When it is over the pool would connect again.
        relay(session, back).addErrback(print).addBoth(lambda _: client.stopService())

    def onError(self, session, error):
        print(f"{session}: {error}", flush=True)
