"""
The client that the Autobahn test suite's cases try: ``conformance_client.py PORT LONGEST PING PARALLEL``.

The server there says how many cases it has, plays one on each connection to ``/runCase``, which echoes, and writes its
report when it is told to.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.internet.task import react

from getty_tx import Client, EventListener
from getty_tx.codecs import RawCodec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from getty_tx.interfaces import ISession


class Echo(EventListener):
    """
    Sends every message back.

    :ivar heard: the messages of a session that does not, and None.
    :ivar over: fires when the session is.
    """

    def __init__(self, echoes: bool) -> None:
        self.echoes = echoes
        self.heard: list[Any] = []
        self.over: Deferred[None] = Deferred()

    def onMessage(self, session: Any, pkg: Any) -> None:
        """A message came."""
        if self.echoes:
            session.writePkg(pkg)
        else:
            self.heard.append(pkg)

    def onError(self, session: ISession, error: BaseException) -> None:
        """Most cases provoke one."""
        print(error, flush=True)

    def onClose(self, session: ISession) -> None:
        """The session is over, once and for all."""
        self.over.callback(None)


async def visit(server: str, path: str, settings: dict[str, float], echoes: bool = True) -> list[Any]:
    """One connection, until the server ends it; what was heard."""
    listener = Echo(echoes)

    def newSession(session: Any) -> None:
        session.codec, session.listener = RawCodec(), listener
        for name, value in settings.items():
            setattr(session, name, value)

    client = Client(newSession, f"ws:{server}:path={path}:deflate=yes", reconnectAttempts=1)
    ready = client.whenReady(timeout=30)
    client.startService()
    try:
        await ready
        await listener.over
    finally:
        await client.close()
    return listener.heard


async def main(reactor: object, port: str, longest: str, ping: str, parallel: str) -> None:
    """All cases, and the report."""
    server, settings = f"127.0.0.1:{port}", {"maxMsgLen": int(longest), "cronPeriod": float(ping)}
    [count] = await visit(server, "/getCaseCount", settings, echoes=False)

    async def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            print(f"case {number} of {count}", flush=True)
            try:
                await visit(server, f"/runCase?case={number}&agent=getty_tx", settings)
            except Exception as error:
                # It is missing in the report, which tells so.
                print(f"case {number}: {error!r}", flush=True)

    numbers = iter(range(1, int(count) + 1))
    await DeferredList([ensureDeferred(work(numbers)) for _ in range(int(parallel))])
    await visit(server, "/updateReports?agent=getty_tx", settings, echoes=False)


if __name__ == "__main__":
    react(main, sys.argv[1:])
