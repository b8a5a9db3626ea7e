"""
What processes of tests run: listeners for ``--listener`` and targets for Processes.

Some hundred processes import this. So it imports nothing that a server does not import anyway: no trial, no
certificates.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from getty_tx import EventListener, Server
from getty_tx.codecs import LengthCodec, LineCodec
from getty_tx.tap.echo import EchoListener

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.application.service import IService
    from twisted.internet.interfaces import IStreamServerEndpoint

    from getty_tx.session.session import Session

__all__ = ["Answer", "Who", "Whose", "makeEcho", "makeWho"]


class Who(EventListener):
    """Answers with its process id, and obeys commands."""

    def onMessage(self, session: Session, pkg: Any) -> None:
        """A line came."""
        if pkg == b"stick":
            time.sleep(1000)
        if pkg == b"reactor":
            from twisted.internet import reactor

            session.writePkg(type(reactor).__module__.encode())
        elif pkg == b"web":
            session.writePkg(b"%d" % ("twisted.web.server" in sys.modules))
        else:
            session.writePkg(b"%d" % os.getpid())


class Whose(EventListener):
    """Answers with the user of its process."""

    def onMessage(self, session: Session, pkg: bytes) -> None:
        """Answer."""
        session.writePkg(b"%d %d" % (os.getuid(), os.getgid()))


class Answer(EventListener):
    """A client's listener: sends a word and prints the answer."""

    def onOpen(self, session: Session) -> None:
        """Send the word."""
        session.writePkg(b"a word")

    def onMessage(self, session: Session, pkg: bytes) -> None:
        """Print the answer, and close."""
        print("heard", pkg.decode(), flush=True)
        session.close()


def makeWho(endpoints: Sequence[IStreamServerEndpoint]) -> IService:
    """Make the service of a sub-reactor: lines, to :class:`Who`."""

    def newSession(session: Session) -> None:
        session.codec = LineCodec()
        session.listener = Who()

    return Server(newSession, *endpoints)


def makeEcho(endpoints: Sequence[IStreamServerEndpoint]) -> IService:
    """Make the service of a sub-reactor: frames, which come back; its name is ``echo``."""

    def newSession(session: Session) -> None:
        session.codec = LengthCodec()
        session.listener = EchoListener()

    server = Server(newSession, *endpoints)
    server.setName("echo")
    return server
