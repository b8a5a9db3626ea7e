"""The listeners that the acceptance modules have ``getty-serve`` run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from getty_tx.codecs import RawCodec
from getty_tx.listener import EventListener
from getty_tx.session.relay import relay
from getty_tx.session.splicing import Splicer

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


class Files(EventListener):
    """Answers ``sendFile PATH`` and ``pieces PATH`` with the file: by ``sendFile``, or read and written in pieces."""

    async def onMessage(self, session: Session, pkg: Any) -> None:
        way, path = pkg.decode().split()
        with open(path, "rb") as file:
            if way == "sendFile":
                await session.sendFile(file)
                return
            while data := file.read(65536):
                session.writeBytes(data)
                await session.drained()


class Spliced(EventListener):
    """Joins the session that says ``near`` to the one that has said ``far``."""

    far: Session

    def onMessage(self, session: Session, pkg: Any) -> None:
        session.writePkg(b"ready")
        if pkg == b"far":
            self.far = session
        else:
            self.join(session, self.far)

    def join(self, near: Session, far: Session) -> None:
        relay(near, far).addErrback(lambda failure: None)


class Buffered(Spliced):
    """The same, by buffers where ``splice`` would do."""

    def join(self, near: Session, far: Session) -> None:
        Splicer.between = lambda direction: None  # type: ignore[method-assign,assignment]  # no other relay is here
        super().join(near, far)


class Delivered(Spliced):
    """The same, with packages of a RawCodec that the listener writes to the other session."""

    def join(self, near: Session, far: Session) -> None:
        for one, other in ((near, far), (far, near)):
            one.codec = RawCodec()
            one.listener = Half()
            one.listener.other = other


class Half(EventListener):
    """One side of :class:`Delivered`."""

    other: Session

    def onMessage(self, session: Session, pkg: Any) -> Any:
        self.other.writePkg(pkg)
        if self.other.pendingBytes > self.other.highWater:
            return self.other.drained()
        return None

    def onClose(self, session: Session) -> None:
        self.other.close()
