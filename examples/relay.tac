"""
A Twisted application with a server and a client in it: lines that come on one side go to a pool of sessions on the other.

::

    twistd -n getty-echo
    twistd -n --pidfile= -y examples/relay.tac
    nc localhost 8091

``RELAY_LISTEN`` and ``RELAY_CONNECT`` in the environment are other endpoints than ``tcp:8091:interface=127.0.0.1`` and
``tcp:127.0.0.1:8090``. Two of twistd in one folder would share its pid file, so this one has none.

Every session of the server shares the pool: a line takes the number of its session along, and the reply, which is
expected to begin with the same number, finds its way back by it.
"""

import os

from twisted.application.service import Application

from getty_tx import Client, EventListener, Server
from getty_tx.codecs import LineCodec

codec = LineCodec()
asking = {}


class Front(EventListener):
    """Hears of those who ask."""

    def onOpen(self, session):
        asking[session.id] = session

    def onMessage(self, session, pkg):
        sessions = pool.sessions
        if sessions:
            # Always the same one, while the pool is whole: replies come in the order of the lines. Where order does not
            # matter, pool.pick() chooses.
            sessions[session.id % len(sessions)].writePkg(b"%d %b" % (session.id, pkg))
        else:
            session.writePkg(b"nobody is there, try again")

    def onClose(self, session):
        # Of a session that onOpen never heard of, nothing is kept.
        asking.pop(session.id, None)


class Back(EventListener):
    """Hears of those who answer."""

    def onMessage(self, session, pkg):
        number, _, text = pkg.partition(b" ")
        session = asking.get(int(number))
        # It may be gone, or going, since it asked.
        if session is not None and not session.isClosed:
            session.writePkg(text)


def newFront(session):
    session.codec = codec
    session.listener = Front()
    session.readTimeout = 300


def newBack(session):
    session.codec = codec
    session.listener = Back()


application = Application("relay")
pool = Client(newBack, os.environ.get("RELAY_CONNECT", "tcp:127.0.0.1:8090"), number=2)
pool.setServiceParent(application)
server = Server(newFront, os.environ.get("RELAY_LISTEN", "tcp:8091:interface=127.0.0.1"), maxSessions=1000)
server.setServiceParent(application)
