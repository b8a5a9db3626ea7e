"""The table of states and events, walked through: each pair that can occur, on a session in memory."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost

from getty_tx.errors import SessionClosedError
from getty_tx.session import states
from getty_tx.session.states import TRANSITIONS, Event, State, transitionTable
from tests.support.memory import SessionCase, frame

if TYPE_CHECKING:
    from getty_tx.testing import Pair

INSIDE = Path(__file__).resolve().parents[2] / "docs" / "inside" / "session.md"


class TransitionTests(SessionCase):
    """A session is brought into each state, and each event is made to happen."""

    def setUp(self) -> None:
        super().setUp()
        self.gate: Deferred[None] = Deferred()

    async def _wait(self, session: Any, *_: Any) -> None:
        await self.gate

    def bring(self, state: State) -> Pair:
        """A session in this state."""
        self.gate = Deferred()
        waits = {State.CONNECTING: "open", State.LOST: "message", State.ENDED: "close"}.get(state)
        pair = self.open({} if waits is None else {waits: self._wait}, waitTime=1000.0)
        session = pair.server
        if state == State.CLOSING:
            session.close()
        elif state == State.LOST:
            pair.peer.write(frame(b"1") + frame(b"2"))
            pair.flush()
            pair.reset()
        elif state in (State.ENDED, State.GONE):
            pair.reset()
        pair.flush()
        self.assertEqual(session.state, state)
        return pair

    def cause(self, event: Event, pair: Pair) -> None:
        """Make an event happen."""
        session = pair.server
        if event in (Event.OPENED, Event.CLOSED):
            self.gate.callback(None)
        elif event == Event.PACKAGE:
            if session.state != State.LOST:
                pair.peer.write(frame(b"x"))
        elif event == Event.WRITE:
            if session.isClosed:
                self.assertRaises(SessionClosedError, session.writePkg, b"x")
            else:
                session.writePkg(b"x")
        elif event == Event.CLOSE:
            session.close()
        elif event == Event.FAIL:
            session.fail(ZeroDivisionError())
        elif event == Event.PEER_ENDED:
            pair.peer.end()
        else:
            pair.reset()
        if event not in (Event.PEER_ENDED, Event.CONNECTION_LOST) or session.state == State.CONNECTING:
            pair.flush()

    @staticmethod
    def note(passed: list[int], session: Any) -> None:
        """Keep the state that a session passes."""
        passed.append(session.state)

    def test_everyPair(self) -> None:
        """After the event the session is in the state of the table."""
        for (state, event), (after, effect) in TRANSITIONS.items():
            pair = self.bring(state)
            session = pair.server
            if (state, event) in ((State.OPEN, Event.CONNECTION_LOST), (State.CLOSING, Event.CONNECTION_LOST)):
                # It goes on to the end at once: see which states it passes.
                passed: list[int] = []
                self.heard.on["close"] = partial(self.note, passed)
                self.cause(event, pair)
                pair.flush()
                self.assertEqual((passed, session.state), ([State.ENDED], State.GONE), effect)
                continue
            if (state, event) == (State.OPEN, Event.PEER_ENDED):
                session.connection.disconnect = lambda: None  # type: ignore[method-assign]
                session.connection.shutdownWriting = lambda: None  # type: ignore[method-assign]
            self.cause(event, pair)
            if (state, event) == (State.OPEN, Event.PEER_ENDED):
                pair.flush()
            self.assertEqual(session.state, after, f"{state.name}, {event.name}: {effect}")

    def test_effects(self) -> None:
        """What the table says of onError and of packages."""
        for state, event, names in (
            (State.CONNECTING, Event.PACKAGE, ["open"]),
            (State.OPEN, Event.PACKAGE, ["open", "message"]),
            (State.CLOSING, Event.PACKAGE, ["open"]),
            (State.OPEN, Event.FAIL, ["open", "error"]),
            (State.CLOSING, Event.FAIL, ["open", "error"]),
            (State.ENDED, Event.FAIL, ["open", "error", "close"]),
        ):
            pair = self.bring(state)
            self.cause(event, pair)
            self.assertEqual(self.heard.names, names, f"{state.name}, {event.name}")
        pair = self.bring(State.LOST)
        self.gate.callback(None)
        self.assertEqual(self.heard.names, ["open", "message", "message", "error", "close"])
        self.assertIsInstance(self.heard.errors[0], ConnectionLost)
        for event in (Event.CLOSE, Event.FAIL):
            pair = self.bring(State.LOST)
            self.cause(event, pair)
            self.gate.callback(None)
            self.assertEqual(self.heard.names, ["open", "message", "error", "close"])

    def test_numbers(self) -> None:
        """The plain numbers are those of the members, in the same order."""
        for state in State:
            self.assertEqual(getattr(states, state.name), state)

    def test_documented(self) -> None:
        """The page for developers has the table as it is made from the code."""
        self.assertTrue(transitionTable() in INSIDE.read_text(), "print(transitionTable()) has the table of today")
