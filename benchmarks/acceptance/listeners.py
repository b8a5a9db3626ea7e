"""The listeners that the acceptance modules have ``getty-serve`` run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from getty_tx.listener import EventListener

if TYPE_CHECKING:
    from getty_tx.session.session import Session

#: Bytes of the answer of :class:`Amplify`.
AMPLIFIED = 65536

#: Bytes that :class:`WriteAndClose` and :class:`WriteAll` write.
WRITTEN = 20_000_000

# No period divides a power of two, so that a lost, doubled or moved piece does not look right.
CONTENT = (bytes(range(251)) * (WRITTEN // 251 + 1))[:WRITTEN]


class Amplify(EventListener):
    """Answers every request, however small, with 64 KiB."""

    ANSWER = bytes(AMPLIFIED)

    def onMessage(self, session: Session, pkg: Any) -> None:
        session.writePkg(self.ANSWER)


class WriteAll(EventListener):
    """Answers the first package with 20 MB, and nothing after it."""

    def onMessage(self, session: Session, pkg: Any) -> None:
        if "answered" not in session.attributes:
            session.attributes["answered"] = True
            session.writeBytes(CONTENT)


class WriteAndClose(EventListener):
    """Answers the first package with 20 MB and closes in the same call."""

    def onMessage(self, session: Session, pkg: Any) -> None:
        if "answered" not in session.attributes:
            session.attributes["answered"] = True
            session.writeBytes(CONTENT)
            session.close()


class Tell(EventListener):
    """Answers each message with the process id and the message; notes in a file how many it took of each session.

    The environment variable ``TAKEN`` names the file; a line for each session that has ended.
    """

    def __init__(self) -> None:
        self.pid = b"%d " % os.getpid()
        self.file = os.open(os.environ.get("TAKEN", os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def onMessage(self, session: Session, pkg: Any) -> None:
        session.writePkg(self.pid + pkg)

    def onClose(self, session: Session) -> None:
        os.write(self.file, b"%d\n" % session.stats.readPkgs)
