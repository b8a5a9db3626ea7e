"""
Both engines side by side, frame by frame, and the rules by which they may differ.

``python -m tests.support.framerules 10000 1`` counts how often each rule is used, by 10,000 examples of each side and
the seed 1.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpack import Decoder, HPACKError

from getty_tx.http.two.h2engine import H2Engine
from getty_tx.http.two.ngh2engine import NgEngine
from tests.support.frames import Run, greeting, split
from tests.support.http2 import CONTINUATION, DATA, GOAWAY, HEADERS, PRIORITY, PUSH_PROMISE, SETTINGS, WINDOW_UPDATE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.frames import Step

__all__ = ["RULES", "Comparison", "compare"]

_PROTOCOL, _FLOW, _CLOSED, _SIZE, _COMPRESSION = 1, 3, 5, 6, 9
_ACK = _END_STREAM = 1
_PADDED, _PRIORITY = 8, 32


@dataclass
class Outcome:
    """What an engine makes of one step."""

    events: list[tuple[int, tuple[Any, ...]]]
    fault: int | None
    isOver: bool

    @property
    def isNothing(self) -> bool:
        """It has told nothing, and goes on."""
        return not self.events and not self.isOver

    def ends(self, stream: int, code: int) -> bool:
        """It has ended a stream, and nothing else."""
        return self.events == [(stream, ("ended", code))] and not self.isOver

    def fails(self, *codes: int) -> bool:
        """It has told nothing, and ended the connection with one of these codes."""
        return not self.events and self.fault in codes


@dataclass
class Comparison:
    """
    How far both are the same.

    :ivar step: the first frame that they take otherwise; None: there is none.
    :ivar rule: the name of the rule that allows it; empty: there is none.
    :ivar refused: streams that the engines have ended because of what came on them.
    :ivar informed: streams of which an interim answer came last.
    :ivar isLeaving: the peer has said GOAWAY.
    :ivar headers: the fields of the step, if it is a block and can be decoded.
    """

    isServer: bool
    step: Step | None = None
    ng: Outcome = field(default_factory=lambda: Outcome([], None, False))
    h2: Outcome = field(default_factory=lambda: Outcome([], None, False))
    rule: str = ""
    refused: set[int] = field(default_factory=set)
    informed: set[int] = field(default_factory=set)
    isLeaving: bool = False
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.step}\n  ngh2: {self.ng}\n  h2: {self.h2}\n  fields: {self.headers}"


def _isCut(it: Comparison, step: Step) -> bool:
    return not step.isWhole and not step.isBroken and it.h2.isNothing


def _isBroken(it: Comparison, step: Step) -> bool:
    events = it.ng.events
    return (
        step.isBroken
        and events in ([], [(step.stream, ("ended", _PROTOCOL))])
        and it.ng.fault in (_PROTOCOL, _SIZE, _COMPRESSION)
        and it.h2.fails(_PROTOCOL, _SIZE, _COMPRESSION)
    )


def _isTooSmall(it: Comparison, step: Step) -> bool:
    needed = {DATA: 0, HEADERS: 0, PUSH_PROMISE: 4}.get(step.kind, -1) + (step.flags & _PADDED > 0)
    if step.kind == HEADERS and step.flags & _PRIORITY:
        needed += 5
    # ngh2 does not look at DATA of a stream that it has ended.
    isPassed = step.kind == DATA and step.stream in it.refused and it.ng.isNothing
    isRule = it.ng.fails(_PROTOCOL, _SIZE) or isPassed
    return len(step.payload) < needed and isRule and it.h2.fails(_PROTOCOL, _SIZE)


def _isExtension(it: Comparison, step: Step) -> bool:
    return step.kind in (10, 12, 16) and it.ng.fails(_PROTOCOL, _SIZE) and it.h2.isNothing


def _isStrayAck(it: Comparison, step: Step) -> bool:
    isAck = step.kind == SETTINGS and step.flags & _ACK > 0 and not step.payload and not step.stream
    return isAck and it.ng.fails(_PROTOCOL) and it.h2.isNothing


def _isGoAwayOfOthers(it: Comparison, step: Step) -> bool:
    last = int.from_bytes(step.payload[:4], "big") & (2**31 - 1)
    isOther = step.kind == GOAWAY and last > 0 and last % 2 == it.isServer
    return isOther and it.ng.fails(_PROTOCOL) and [each[1][:2] for each in it.h2.events] == [("goingAway", last)]


def _isCredit(it: Comparison, step: Step) -> bool:
    isCredit = step.kind == WINDOW_UPDATE and step.stream > 0
    return isCredit and it.ng.fails(_FLOW) and it.h2.ends(step.stream, _FLOW)


def _isBehindFault(it: Comparison, step: Step) -> bool:
    isOne = step.kind in (DATA, HEADERS) and step.stream in it.refused
    return isOne and it.ng.isNothing and it.h2.fails(_PROTOCOL, _CLOSED)


def _isOfItself(it: Comparison, step: Step) -> bool:
    isPriority = step.kind == PRIORITY or (step.kind == HEADERS and step.flags & _PRIORITY > 0)
    at = int(step.kind == HEADERS and step.flags & _PADDED > 0)
    on = int.from_bytes(step.payload[at : at + 4], "big") & (2**31 - 1)
    return isPriority and on == step.stream and it.ng.fault is None and it.h2.fails(_PROTOCOL)


def _isInterim(it: Comparison, step: Step) -> bool:
    isInterim = any(name == b":status" and value[:1] == b"1" for name, value in it.headers)
    return isInterim and it.ng.ends(step.stream, _PROTOCOL) and it.h2.fails(_PROTOCOL)


def _isEmptyBehindInterim(it: Comparison, step: Step) -> bool:
    isEmpty = step.kind == DATA and not step.flags & _END_STREAM and step.stream in it.informed
    return isEmpty and step.isEmpty and it.ng.isNothing and it.h2.ends(step.stream, _PROTOCOL)


def _isLengthNoNumber(it: Comparison, step: Step) -> bool:
    isNone = any(name == b"content-length" and not value.isdigit() for name, value in it.headers)
    return isNone and it.ng.ends(step.stream, _PROTOCOL) and it.h2.fails(_PROTOCOL)


def _isBehindGoAway(it: Comparison, step: Step) -> bool:
    return it.isLeaving and not it.ng.events and it.ng.isOver and it.ng.fault is None and it.h2.fault is not None


#: By name, what both may take otherwise; the page ``docs/inside/http2.md`` has the names.
RULES: dict[str, Callable[[Comparison, Step], bool]] = {
    "a frame or a block that does not end": _isCut,
    "another frame within a block": _isBroken,
    "no room for padding or priority": _isTooSmall,
    "frames of extensions": _isExtension,
    "an acknowledgement of no SETTINGS": _isStrayAck,
    "GOAWAY that names a stream of its sender": _isGoAwayOfOthers,
    "too much credit for a stream": _isCredit,
    "a stream that depends on itself": _isOfItself,
    "frames behind a fault of their stream": _isBehindFault,
    "an interim answer that cannot be": _isInterim,
    "empty DATA behind an interim answer": _isEmptyBehindInterim,
    "Content-Length that is no number": _isLengthNoNumber,
    "a fault behind GOAWAY": _isBehindGoAway,
}


def _byStream(events: list[tuple[int, tuple[Any, ...]]]) -> list[tuple[int, tuple[Any, ...]]]:
    return sorted(events, key=lambda each: each[0])


def compare(isServer: bool, sent: bytes) -> Comparison:
    """Give both engines the same frames, as long as they take them the same way."""
    found = Comparison(isServer)
    ng, h2 = Run(NgEngine, isServer), Run(H2Engine, isServer)
    decoder = Decoder()
    for each in split(sent, greeting(isServer)):
        found.headers = _fieldsOf(decoder, each)
        found.ng = Outcome(_byStream(ng.give(each.all)), ng.fault, ng.isOver)
        found.h2 = Outcome(_byStream(h2.give(each.all)), h2.fault, h2.isOver)
        if found.ng != found.h2:
            found.step = each
            found.rule = next((name for name, rule in RULES.items() if rule(found, each)), "")
            break
        if ng.isOver:
            break
        for stream, event in found.ng.events:
            if event[0] == "ended" and event[1] and ("reset", event[1]) not in [e for s, e in found.ng.events]:
                found.refused.add(stream)
            (found.informed.add if event[0] == "informed" else found.informed.discard)(stream)
            found.isLeaving = found.isLeaving or event[0] == "goingAway"
    return found


def _fieldsOf(decoder: Decoder, step: Step) -> list[tuple[bytes, bytes]]:
    if step.kind != HEADERS or not step.isWhole:
        return []
    block = step.payload
    padding = block[0] if step.flags & _PADDED and block else 0
    block = block[(step.flags & _PADDED > 0) + 5 * (step.flags & _PRIORITY > 0) : len(block) - padding]
    block += b"".join(each.payload for each in step.more if each.kind == CONTINUATION)
    try:
        return [(bytes(n), bytes(v)) for n, v in decoder.decode(block, raw=True)]
    except HPACKError:
        return []


def main(examples: int, seed: int) -> None:
    """Print how often each rule was used, and what none allows."""
    import hypothesis

    from tests.support.frames import damaged

    used: Counter[str] = Counter()
    kinds: Counter[str] = Counter()

    def count(isServer: bool) -> None:
        @hypothesis.seed(seed)
        @hypothesis.settings(max_examples=examples, deadline=None, database=None, phases=[hypothesis.Phase.generate])
        @hypothesis.given(damaged(isServer))
        def look(case: tuple[list[str], bytes]) -> None:
            found = compare(isServer, case[1])
            rule = "the same" if found.step is None else found.rule or "NONE"
            used[rule] += 1
            kinds.update(f"{each}: {'the same' if found.step is None else 'by a rule'}" for each in set(case[0]))
            if rule == "NONE":
                print(case[0], case[1], found)

        look()

    count(True)
    count(False)
    for name in ("the same", *RULES, "NONE"):
        print(f"{used[name]:7} {name}")
    for name, number in sorted(kinds.items()):
        print(f"{number:7} {name}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
