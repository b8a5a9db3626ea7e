"""
The states of a session, and what each event does in each of them.

The life of a session goes from left to right, and never back::

    CONNECTING --> OPEN --> CLOSING --> LOST --> ENDED --> GONE

States may be left out: a connection can be lost in any of the first three.
"""

from __future__ import annotations

from enum import Enum, IntEnum

__all__ = [
    "CLOSING",
    "CONNECTING",
    "ENDED",
    "GONE",
    "LOST",
    "OPEN",
    "TRANSITIONS",
    "Event",
    "State",
    "transitionTable",
]


class State(IntEnum):
    """
    A session's state. ``session.state`` is a plain int, which Python compares faster than a member.

    ``isClosed`` is true from CLOSING on.
    """

    CONNECTING = 0
    OPEN = 1
    CLOSING = 2
    LOST = 3
    ENDED = 4
    GONE = 5


CONNECTING, OPEN, CLOSING, LOST, ENDED, GONE = range(6)


class Event(Enum):
    """What can happen to a session; the value is how the documentation names it."""

    OPENED = "onOpen has returned"
    PACKAGE = "a package is complete"
    WRITE = "writePkg() is called"
    CLOSE = "close() is called"
    FAIL = "a callback, the codec or a time-out fails"
    PEER_ENDED = "the peer ends its side"
    CONNECTION_LOST = "the connection is lost"
    CLOSED = "onClose has returned"


_S, _E = State, Event

#: The state after an event, and what happens; a pair that is missing cannot occur. Events that arrive during a callback
#: take effect when it has returned.
TRANSITIONS: dict[tuple[State, Event], tuple[State, str]] = {
    (_S.CONNECTING, _E.OPENED): (_S.OPEN, "packages are delivered from here on"),
    (_S.CONNECTING, _E.PACKAGE): (_S.CONNECTING, "waits for onOpen"),
    (_S.CONNECTING, _E.WRITE): (_S.CONNECTING, "is sent"),
    (_S.CONNECTING, _E.CLOSE): (_S.CLOSING, "pending bytes are flushed"),
    (_S.CONNECTING, _E.FAIL): (_S.CLOSING, "onError, then as close()"),
    (_S.CONNECTING, _E.PEER_ENDED): (_S.CONNECTING, "takes effect after onOpen"),
    (_S.CONNECTING, _E.CONNECTION_LOST): (_S.LOST, "what came is delivered after onOpen"),
    (_S.OPEN, _E.PACKAGE): (_S.OPEN, "onMessage"),
    (_S.OPEN, _E.WRITE): (_S.OPEN, "is sent"),
    (_S.OPEN, _E.CLOSE): (_S.CLOSING, "pending bytes are flushed, what comes is discarded"),
    (_S.OPEN, _E.FAIL): (_S.CLOSING, "onError, then as close()"),
    (_S.OPEN, _E.PEER_ENDED): (
        _S.CLOSING,
        "when what came is delivered, unless the listener says that it has more to send; pending bytes are flushed",
    ),
    (_S.OPEN, _E.CONNECTION_LOST): (_S.LOST, "what came is delivered, then onError unless the end was orderly"),
    (_S.CLOSING, _E.PACKAGE): (_S.CLOSING, "is discarded"),
    (_S.CLOSING, _E.WRITE): (_S.CLOSING, "SessionClosedError"),
    (_S.CLOSING, _E.CLOSE): (_S.CLOSING, "nothing"),
    (_S.CLOSING, _E.FAIL): (_S.CLOSING, "onError, if there was none"),
    (_S.CLOSING, _E.PEER_ENDED): (_S.CLOSING, "the connection is closed when pending bytes are out"),
    (_S.CLOSING, _E.CONNECTION_LOST): (_S.LOST, "onError, if pending bytes are lost and the close was not ours"),
    (_S.LOST, _E.PACKAGE): (_S.LOST, "onMessage, for what came before"),
    (_S.LOST, _E.WRITE): (_S.LOST, "SessionClosedError"),
    (_S.LOST, _E.CLOSE): (_S.LOST, "what came before is dropped"),
    (_S.LOST, _E.FAIL): (_S.LOST, "onError, if there was none; what came before is dropped"),
    (_S.ENDED, _E.WRITE): (_S.ENDED, "SessionClosedError"),
    (_S.ENDED, _E.CLOSE): (_S.ENDED, "nothing"),
    (_S.ENDED, _E.FAIL): (_S.ENDED, "is logged"),
    (_S.ENDED, _E.CLOSED): (_S.GONE, "close callbacks are called, attributes are emptied"),
    (_S.GONE, _E.WRITE): (_S.GONE, "SessionClosedError"),
    (_S.GONE, _E.CLOSE): (_S.GONE, "nothing"),
}


def transitionTable() -> str:
    """``TRANSITIONS`` as a table of the documentation, in Markdown: a row for each event, a column for each state."""
    lines = ["| | " + " | ".join(state.name for state in State) + " |", "| --- |" + " --- |" * len(State)]
    for event in Event:
        cells = [f"`{event.value}`" if "(" in event.value else event.value]
        for state in State:
            found = TRANSITIONS.get((state, event))
            if found is None:
                cells.append("")
            else:
                after, effect = found
                cells.append(effect if after == state else f"{after.name}: {effect}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
