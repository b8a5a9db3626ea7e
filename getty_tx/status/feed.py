"""The feed of the live page: a WebSocket that sends the status once a second, and takes requests of the page."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from twisted.internet.task import LoopingCall, SchedulerStopped
from twisted.logger import Logger

from getty_tx.codecs import RawCodec
from getty_tx.errors import GettyError, SettingError
from getty_tx.listener import EventListener
from getty_tx.status.groups import forPage
from getty_tx.status.lasterrors import MAX_ERRORS
from getty_tx.status.methods import BY_CALLS, hasCalls, methodsOf
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

#: Open pages, each of which has one connection.
MAX_PAGES = 500

#: Bytes of a message from a page.
MAX_REQUEST = 4096

#: Rows of the table in each message.
MAX_ROWS = 200

#: Methods in each message: those with the most calls.
METHODS = replace(BY_CALLS, limit=50)


class Feed(EventListener):
    """
    Sends the status to all pages; it is gathered once for all of them.

    A page sends JSON: first ``{"token": ...}``, if reading needs it; ``{"sort": ..., "descending": ..., "offset": ...,
    "limit": ...}`` for another part of the table; and ``{"close": id, "token": ...}`` to close a session, with the
    ``"pid"`` of its process if the table has that column.
    """

    def __init__(self, source: ISource, access: Access, errors: LastErrors, reactor: Any) -> None:
        self._source = source
        self._access = access
        self._errors = errors
        self._reactor = reactor
        self._pages: dict[Session, Query] = {}
        self._loop: LoopingCall | None = None
        self._last: Snapshot | None = None
        sessions = SessionServerFactory(self._newSession, maxSessions=MAX_PAGES, reactor=reactor)
        self._context = sessions.context
        self.factory = WebSocketSessionServerFactory.sharing(sessions, UpgradeOptions(paths=(FEED,)))

    def _newSession(self, session: Session) -> None:
        session.codec = RawCodec()
        session.listener = self
        session.name = "status-page"
        session.maxMsgLen = MAX_REQUEST

    def stop(self) -> Deferred[None]:
        """Close the pages; fires when all are closed."""
        self._stopLoop()
        return self._context.closeAll()

    def onOpen(self, session: Session) -> None:
        """A page has connected: send it the status, or ask for the token."""
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
        """A page has disconnected."""
        self._pages.pop(session, None)
        if not self._pages:
            self._stopLoop()

    def onMessage(self, session: Session, pkg: Any) -> None:
        """Handle a request of a page."""
        try:
            request = json.loads(pkg)
            if not isinstance(request, dict):
                raise ValueError("a request must be a JSON object")
            self._handle(session, request)
        except (ValueError, RecursionError) as error:
            # SettingError is a ValueError.
            session.writePkg(json.dumps({"error": f"{error}"[:300]}))

    def _handle(self, session: Session, request: dict[str, Any]) -> None:
        token = request.pop("token", "")
        if not isinstance(token, str):
            raise SettingError("token is not a string")
        if session not in self._pages:
            if not self._access.mayRead(token):
                session.writePkg(json.dumps({"wants": "token"}))
                return
            self._admit(session)
        if "close" in request:
            self._close(session, request["close"], request.get("pid"), token)
        elif request:
            unknown = request.keys() - {"sort", "descending", "offset", "limit"}
            if unknown:
                raise SettingError(f"unknown field {min(unknown)!r:.40}")
            query = Query(**request).of(self._source.columns)
            self._pages[session] = Query(query.sort, query.descending, query.offset, min(query.limit, MAX_ROWS))
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
            closed.addCallbacks(self._closed, self._closeFailed, (session, number), {}, (session, number), {})
            closed.addErrback(self._failed)

    def _closed(self, closed: bool, session: Session, number: int) -> None:
        if closed:
            log.info("session {number} was closed on the status page", number=number)
        _answer(session, number, "closed" if closed else "no such session is open")

    def _closeFailed(self, failure: Failure, session: Session, number: int) -> None:
        failure.trap(GettyError)
        _answer(session, number, failure.getErrorMessage())

    # Sending

    def _sendAll(self) -> None:
        collected = self._source.collect()
        collected.addCallback(self._collected).addErrback(self._failed)

    def _collected(self, snapshot: Snapshot) -> None:
        previous, self._last = self._last, snapshot
        state = self._state(snapshot, previous)
        if hasCalls(snapshot):
            state["calls"] = methodsOf(snapshot, METHODS)
        self._send(list(self._pages), json.dumps(state))

    def _send(self, sessions: list[Session], state: str = "null") -> None:
        """Send the state, and to each page its part of the table; pages with the same query share one message."""
        groups: dict[Query, list[Session]] = {}
        for session in sessions:
            # A page that does not read gets nothing more, until its writeTimeout closes it.
            if session in self._pages and not session.pendingBytes:
                groups.setdefault(self._pages[session], []).append(session)
        for query, group in groups.items():
            table = self._source.table(query)
            table.addCallback(self._sendTable, state, group).addErrback(self._failed)

    def _sendTable(self, table: dict[str, Any], state: str, group: list[Session]) -> None:
        text = f'{{"state": {state}, "table": {json.dumps(table)}}}'
        for session in group:
            if not session.isClosed:
                session.writePkg(text)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(SchedulerStopped):
            log.failure("cannot send the status to its pages", failure)

    def _state(self, snapshot: Snapshot, previous: Snapshot | None) -> dict[str, Any]:
        """The sums of the process, for the page."""
        endpoints = snapshot.endpoints
        states = {state: sum(endpoint.states.get(state, 0) for endpoint in endpoints) for state in STATES}
        states["handshaking"] = sum(service.handshaking for service in snapshot.services)
        return {
            "time": self._reactor.seconds(),
            "mayClose": self._access.hasToken,
            "services": [
                {"name": service.name, "isReady": service.isReady, "isStopping": service.isStopping,
                 "endpoints": list(service.endpoints), "sessions": sum(
                     sum(endpoint.states.values()) for endpoint in service.endpoints.values())}
                for service in snapshot.services
            ],
            "problems": self._source.problems(),
            "warnings": self._source.warnings(),
            "states": states,
            "readPkgs": sum(endpoint.totals.readPkgs for endpoint in endpoints),
            "writePkgs": sum(endpoint.totals.writePkgs for endpoint in endpoints),
            "readBytes": sum(endpoint.totals.readBytes for endpoint in endpoints),
            "writeBytes": sum(endpoint.totals.writeBytes for endpoint in endpoints),
            "pendingBytes": sum(endpoint.pendingBytes for endpoint in endpoints),
            "opened": sum(endpoint.opened for endpoint in endpoints),
            "closed": sum(sum(endpoint.totals.closed.values()) for endpoint in endpoints),
            "refused": sum(sum(service.refused.values()) for service in snapshot.services),
            "reconnects": sum(service.reconnects for service in snapshot.services),
            "queued": sum(service.queued for service in snapshot.services),
            "paused": sum(sum(endpoint.paused.values()) for endpoint in endpoints),
            "lag": _mean(snapshot.lag, None if previous is None else previous.lag),
            "turn": _mean(snapshot.turn, None if previous is None else previous.turn),
            "handler": _mean(snapshot.handler, None if previous is None else previous.handler),
            "errors": self._allErrors(),
            "subreactors": [
                _stateOf(member, [] if previous is None else previous.members) for member in snapshot.members
            ],
            "providers": [
                {"service": service.name, **asdict(service.providers)}
                for service in snapshot.services if service.providers is not None
            ],
            "grpcHealth": [
                {"service": service.name, "names": service.health} for service in snapshot.services if service.health
            ],
            "registries": [asdict(registry) for registry in snapshot.registries],
            "groups": forPage(snapshot.groups),
        }  # fmt: skip

    def _allErrors(self) -> list[dict[str, Any]]:
        errors = [*self._errors.list(), *self._source.errors()]
        return sorted(errors, key=lambda error: error["time"], reverse=True)[:MAX_ERRORS]


def _stateOf(member: MemberSnapshot, previous: list[MemberSnapshot]) -> dict[str, Any]:
    """A process of a sub-reactor, for the page, which computes the rates."""
    snapshot = member.snapshot
    state: dict[str, Any] = {"number": member.number, "pid": member.pid, "state": member.state}
    if snapshot is None:
        return state
    endpoints = snapshot.endpoints
    last = next((each.snapshot for each in previous if each.pid == member.pid), None)
    return {
        **state,
        "sessions": sum(sum(endpoint.states.values()) for endpoint in endpoints),
        "readPkgs": sum(endpoint.totals.readPkgs for endpoint in endpoints),
        "writePkgs": sum(endpoint.totals.writePkgs for endpoint in endpoints),
        "readBytes": sum(endpoint.totals.readBytes for endpoint in endpoints),
        "writeBytes": sum(endpoint.totals.writeBytes for endpoint in endpoints),
        "pendingBytes": sum(endpoint.pendingBytes for endpoint in endpoints),
        "cpu": snapshot.cpu,
        "lag": _mean(snapshot.lag, None if last is None else last.lag),
    }


def _answer(session: Session, number: Any, answer: str) -> None:
    if not session.isClosed:
        session.writePkg(json.dumps({"close": number, "answer": answer}))


def _mean(histogram: Histogram, previous: Histogram | None) -> float | None:
    """The mean of the times since the last message; None if there was none."""
    count, total = histogram.count, histogram.sum
    if previous is not None:
        count -= previous.count
        total -= previous.sum
    return total / count if count > 0 else None
