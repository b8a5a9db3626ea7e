"""What the live page is fed with: once a second, over a WebSocket of the project's own server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twisted.internet.task import LoopingCall, SchedulerStopped
from twisted.logger import Logger

from getty_tx.codecs import RawCodec
from getty_tx.errors import GettyError, SettingError
from getty_tx.listener import EventListener
from getty_tx.status.lasterrors import MOST as MOST_ERRORS
from getty_tx.status.port import FEED
from getty_tx.status.snapshot import STATES
from getty_tx.status.table import Query
from getty_tx.transports.factories import SessionServerFactory
from getty_tx.transports.websocket import WebSocketSessionServerFactory
from getty_tx.transports.websocket.request import UpgradeOptions

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

    from getty_tx.session.session import Session
    from getty_tx.status.histogram import Histogram
    from getty_tx.status.lasterrors import LastErrors
    from getty_tx.status.resources import Access
    from getty_tx.status.snapshot import MemberSnapshot, Snapshot
    from getty_tx.status.source import ISource

__all__ = ["Feed"]

log = Logger()

#: Seconds between two messages to a page.
PERIOD = 1.0

#: Pages at once, each of which is a connection.
MOST_PAGES = 500

#: Bytes of a message that a page may send.
MOST_ASKED = 4096

#: Rows that a page may have in each message.
MOST_ROWS = 200


class Feed(EventListener):
    """
    Sends the state of things to all pages, gathered once for all of them.

    A page sends JSON: ``{"token": ...}`` first where reading takes it, ``{"sort": ..., "descending": ..., "offset":
    ..., "limit": ...}`` for another part of the table, and ``{"close": id, "token": ...}``, with the ``"pid"`` of the
    session's process where the table has that.
    """

    def __init__(self, source: ISource, access: Access, errors: LastErrors, reactor: Any) -> None:
        self._source = source
        self._access = access
        self._errors = errors
        self._reactor = reactor
        self._pages: dict[Session, Query] = {}
        self._loop: LoopingCall | None = None
        self._last: Snapshot | None = None
        sessions = SessionServerFactory(self._newSession, maxSessions=MOST_PAGES, reactor=reactor)
        self._context = sessions.context
        self.factory = WebSocketSessionServerFactory.sharing(sessions, UpgradeOptions(paths=(FEED,)))

    def _newSession(self, session: Session) -> None:
        session.codec = RawCodec()
        session.listener = self
        session.name = "status-page"
        session.maxMsgLen = MOST_ASKED

    def stop(self) -> Deferred[None]:
        """Close the pages; fires when they are gone."""
        self._stopLoop()
        return self._context.closeAll()

    def onOpen(self, session: Session) -> None:
        """A page is there."""
        if self._access.isLocal:
            self._admit(session)
        else:
            session.writePkg(json.dumps({"wants": "token"}))

    def _admit(self, session: Session) -> None:
        self._pages[session] = Query(limit=50)
        if self._loop is None:
            self._loop = loop = LoopingCall(self._sendAll)
            loop.clock = self._reactor
            loop.start(PERIOD)
        else:
            self._send([session])

    def _stopLoop(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.stop()

    def onClose(self, session: Session) -> None:
        """A page is gone."""
        self._pages.pop(session, None)
        if not self._pages:
            self._stopLoop()

    def onMessage(self, session: Session, pkg: Any) -> None:
        """A page asks for something."""
        try:
            asked = json.loads(pkg)
            if not isinstance(asked, dict):
                raise ValueError("it is no object")
            self._do(session, asked)
        except (ValueError, RecursionError) as error:
            # SettingError is a ValueError.
            session.writePkg(json.dumps({"error": f"{error}"[:300]}))

    def _do(self, session: Session, asked: dict[str, Any]) -> None:
        token = asked.pop("token", "")
        if not isinstance(token, str):
            raise SettingError("token is no string")
        if session not in self._pages:
            if not self._access.mayRead(token):
                session.writePkg(json.dumps({"wants": "token"}))
                return
            self._admit(session)
        if "close" in asked:
            self._close(session, asked["close"], asked.get("pid"), token)
        elif asked:
            unknown = asked.keys() - {"sort", "descending", "offset", "limit"}
            if unknown:
                raise SettingError(f"{min(unknown)!r:.40} is nothing that can be asked for")
            query = Query(**asked).of(self._source.columns)
            self._pages[session] = Query(query.sort, query.descending, query.offset, min(query.limit, MOST_ROWS))
            self._send([session])

    def _close(self, session: Session, number: Any, pid: Any, token: str) -> None:
        if not self._access.hasToken:
            _answer(session, number, "closing a session needs --status-token")
        elif not self._access.mayClose(token):
            _answer(session, number, "wrong token")
        elif type(number) is not int or type(pid) not in (int, type(None)):
            _answer(session, number, "no such session is open")
        else:
            closed = self._source.close(number, "asked for on the status page", pid)
            closed.addCallbacks(self._closed, self._closedNot, (session, number), {}, (session, number), {})
            closed.addErrback(self._failed)

    def _closed(self, closed: bool, session: Session, number: int) -> None:
        if closed:
            log.info("session {number} was closed on the status page", number=number)
        _answer(session, number, "closed" if closed else "no such session is open")

    def _closedNot(self, failure: Failure, session: Session, number: int) -> None:
        failure.trap(GettyError)
        _answer(session, number, failure.getErrorMessage())

    # Sending

    def _sendAll(self) -> None:
        asked = self._source.collect()
        asked.addCallback(self._collected).addErrback(self._failed)

    def _collected(self, snapshot: Snapshot) -> None:
        before, self._last = self._last, snapshot
        state = json.dumps(self._state(snapshot, before))
        self._send(list(self._pages), state)

    def _send(self, sessions: list[Session], state: str = "null") -> None:
        """Send the state, and to each its part of the table; what many look at is gathered and written once."""
        groups: dict[Query, list[Session]] = {}
        for session in sessions:
            # A page that does not read gets no more; its writeTimeout ends it.
            if session in self._pages and not session.pendingBytes:
                groups.setdefault(self._pages[session], []).append(session)
        for query, group in groups.items():
            asked = self._source.table(query)
            asked.addCallback(self._sendTable, state, group).addErrback(self._failed)

    def _sendTable(self, table: dict[str, Any], state: str, group: list[Session]) -> None:
        text = f'{{"state": {state}, "table": {json.dumps(table)}}}'
        for session in group:
            if not session.isClosed:
                session.writePkg(text)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(SchedulerStopped):
            log.failure("the status page could not be fed", failure)

    def _state(self, snapshot: Snapshot, before: Snapshot | None) -> dict[str, Any]:
        """Sums of the process, as the page shows them."""
        ends = snapshot.ends
        states = {state: sum(end.states.get(state, 0) for end in ends) for state in STATES}
        states["handshaking"] = sum(service.handshaking for service in snapshot.services)
        return {
            "time": self._reactor.seconds(),
            "mayClose": self._access.hasToken,
            "services": [
                {"name": service.name, "isReady": service.isReady, "isStopping": service.isStopping,
                 "endpoints": list(service.endpoints), "sessions": sum(
                     sum(end.states.values()) for end in service.endpoints.values())}
                for service in snapshot.services
            ],
            "problems": self._source.problems(),
            "states": states,
            "readPkgs": sum(end.totals.readPkgs for end in ends),
            "writePkgs": sum(end.totals.writePkgs for end in ends),
            "readBytes": sum(end.totals.readBytes for end in ends),
            "writeBytes": sum(end.totals.writeBytes for end in ends),
            "pendingBytes": sum(end.pendingBytes for end in ends),
            "opened": sum(end.opened for end in ends),
            "closed": sum(sum(end.totals.closed.values()) for end in ends),
            "refused": sum(sum(service.refused.values()) for service in snapshot.services),
            "reconnects": sum(service.reconnects for service in snapshot.services),
            "queued": sum(service.queued for service in snapshot.services),
            "paused": sum(sum(end.paused.values()) for end in ends),
            "lag": _mean(snapshot.lag, None if before is None else before.lag),
            "turn": _mean(snapshot.turn, None if before is None else before.turn),
            "handler": _mean(snapshot.handler, None if before is None else before.handler),
            "errors": self._allErrors(),
            "subreactors": [
                _stateOf(member, [] if before is None else before.members) for member in snapshot.members
            ],
        }  # fmt: skip

    def _allErrors(self) -> list[dict[str, Any]]:
        faults = [*self._errors.list(), *self._source.errors()]
        return sorted(faults, key=lambda fault: fault["time"], reverse=True)[:MOST_ERRORS]


def _stateOf(member: MemberSnapshot, before: list[MemberSnapshot]) -> dict[str, Any]:
    """A sub-reactor's process, as the page shows it; rates are the page's."""
    snapshot = member.snapshot
    state: dict[str, Any] = {"number": member.number, "pid": member.pid, "state": member.state}
    if snapshot is None:
        return state
    ends = snapshot.ends
    known = next((each.snapshot for each in before if each.pid == member.pid), None)
    return {
        **state,
        "sessions": sum(sum(end.states.values()) for end in ends),
        "readPkgs": sum(end.totals.readPkgs for end in ends),
        "writePkgs": sum(end.totals.writePkgs for end in ends),
        "readBytes": sum(end.totals.readBytes for end in ends),
        "writeBytes": sum(end.totals.writeBytes for end in ends),
        "pendingBytes": sum(end.pendingBytes for end in ends),
        "cpu": snapshot.cpu,
        "lag": _mean(snapshot.lag, None if known is None else known.lag),
    }


def _answer(session: Session, number: Any, answer: str) -> None:
    if not session.isClosed:
        session.writePkg(json.dumps({"close": number, "answer": answer}))


def _mean(histogram: Histogram, before: Histogram | None) -> float | None:
    """The mean of the times since the last message, or None where there was none."""
    count, total = histogram.count, histogram.sum
    if before is not None:
        count -= before.count
        total -= before.sum
    return total / count if count > 0 else None
