"""The server of ``groups_soak``: namespaces of all kinds, and books of who ought to have got how much.

    python -m benchmarks.acceptance.groups_soak_server PORT OWN_PORT WEBSOCKET_PORT

The first two are TCP, with a line of JSON for each package; members of the second share no bytes. Requests:
``{"join": "NAMESPACE:GROUP", "since": [epoch, offset]}``, ``{"leave": GROUP}``,
``{"say": GROUP, "x": TEXT, "count": 5}`` and ``{"report": 1}``, with
``"collect": true`` after a collection of garbage. A session is in one group at a time.

Publications are ``{"g": GROUP, "n": 5}``, with ``n`` from 1 without a hole. ``{"gap": 3}`` announces that three are
missing.
"""

from __future__ import annotations

import gc
import json
import sys
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from benchmarks.acceptance.groups_soak_clients import POLICIES
from getty_tx import EventListener, Server, reactors
from getty_tx.codecs import LineCodec
from getty_tx.groups import Group, GroupListener, Groups, Namespace, Position
from getty_tx.session.sharing import join as joinMembership
from getty_tx.session.sharing import leave as leaveMembership

reactors.install()

from twisted.internet import reactor  # noqa: E402
from twisted.logger import globalLogBeginner, textFileLogObserver  # noqa: E402

#: Seconds after which a slow member of ``close`` is closed.
SLOW_SECONDS = 1.5


def settingsOf(listener: Any) -> dict[str, Namespace]:
    """By name: the policy, ``w`` with a window, ``h`` with a history. In ``but`` nobody gets what it says itself."""
    found = {}
    small: dict[str, Any] = {"slowLimit": 16 * 1024, "maxPublication": 64 * 1024, "slowSeconds": SLOW_SECONDS}
    for policy in POLICIES:
        for window in (0.0, 0.03):
            for size in (0, 200):
                name = policy + ("w" if window else "") + ("h" if size else "")
                found[name] = Namespace(
                    slow=policy,
                    window=window,
                    historySize=size,
                    historySeconds=600 if size else 0,
                    maxWaiting=96 * 1024,
                    listener=listener,
                    **small,
                )
    found["but"] = Namespace(slow="follow", window=0.02, listener=listener, **small)
    return found


class TextCodec:
    """A line of JSON, or a text message of a WebSocket."""

    def __init__(self) -> None:
        self.lines = LineCodec()

    def read(self, session: Any, data: memoryview) -> tuple[Any, int]:
        if session.isText is not None:
            return json.loads(bytes(data)), len(data)
        line, length = self.lines.read(session, data)
        return (None if line is None else json.loads(line)), length

    def write(self, session: Any, pkg: Any) -> Any:
        text = json.dumps(pkg)
        return text if session.isText is not None else text.encode() + b"\n"


class SharedCodec(TextCodec):
    """The same for all sessions."""

    def shareKey(self, session: Any) -> object:
        return SharedCodec


@dataclass
class Book:
    """What one namespace owes its members, and what they have got, in publications.

    :ivar expected: those of the time of all memberships.
    :ivar written: what the sessions' own counters say.
    :ivar left: those that were on their way to members that left.
    :ivar told: those of which ``onGap`` has told.
    """

    expected: int = 0
    written: int = 0
    left: int = 0
    told: int = 0
    others: Counter[str] = field(default_factory=Counter)


class Membership:
    """
    One session's time in a group; told of its end before the group is.

    :ivar lost: what it was told to have missed, or had not got when it was closed as too slow.
    :ivar owed: what is being brought to the members of its group, and has not come to it yet.
    :ivar passed: what others got while it was closing.
    """

    def __init__(self, soak: Soak, session: Any, group: Group) -> None:
        self.soak, self.session, self.group = soak, session, group
        self.before = session.pkgsWritten
        self.replies = self.missed = self.begin = self.own = self.lost = 0
        self.owed = self.passed = 0
        self.isOver = self.isSlow = False

    def sessionEnds(self, session: Any) -> None:
        """Close the account. What is on its way is lost with it."""
        if self.isOver:
            return
        self.isOver = True
        arrived, begun = self.group.arrivals, self.group.begun
        behind = [missing for each, _, missing in self.group.membersBehind() if each is session]
        book = self.soak.books[self.group.name.partition(":")[0]]
        book.expected += self.expected
        book.written += self.written
        if self.group.name.startswith("but:"):
            # Its own are among those that have arrived.
            book.left += self.expected - self.written - self.lost
        elif self.isSlow:
            book.left += arrived - begun + sum(behind) - self.lost
        else:
            book.left += arrived - begun + sum(behind) + self.owed + self.passed

    @property
    def expected(self) -> int:
        """Publications since it began, without its own where it does not get them."""
        return self.soak.said[self.group.name] - self.begin - self.own

    @property
    def written(self) -> int:
        """What was written of them."""
        return int(self.session.pkgsWritten) - self.before - self.replies - self.missed


class Soak(EventListener, GroupListener):
    """Takes the requests, and keeps the books."""

    def __init__(self) -> None:
        namespaces = settingsOf(self)
        self.groups = Groups(None, namespaces)
        self.groups.startService()
        self.books = {name: Book() for name in namespaces}
        self.said: Counter[str] = Counter()
        self.now: dict[Any, Membership] = {}

    # The groups

    def onGap(self, group: Group, session: Any, missed: int | None) -> None:
        book = self.books[group.name.partition(":")[0]]
        if session is None or missed is None:
            book.others["gaps of all members"] += 1
            return
        book.told += missed
        self.now[session].lost += missed
        self.reply(session, {"gap": missed})

    def onSlow(self, session: Any, group: Group) -> None:
        """A member is closed as it is too slow: what it has not got by now counts as dropped."""
        membership = self.now[session]
        if not membership.isSlow:
            membership.isSlow = True
            self.books[group.name.partition(":")[0]].others["closed as too slow"] += 1
            membership.lost = sum(missing for each, _, missing in group.membersBehind() if each is session)

    def watchTurns(self) -> None:
        """Note what a group brings to its members, and to whom it does not: they are closing, and members still."""
        original = Group.go

        def go(group: Group, *arguments: Any) -> bool:
            here = [each for session, each in self.now.items() if each.group is group and not group.isBehind(session)]
            written, begun = [each.session.pkgsWritten for each in here], group.begun
            done = original(group, *arguments)
            for each, before in zip(here, written, strict=True):
                each.owed += group.begun - begun
                if each.session.pkgsWritten > before or group.isBehind(each.session):
                    each.owed = 0
                elif done:
                    each.passed += each.owed
                    each.owed = 0
            return done

        Group.go = go  # type: ignore[assignment,method-assign]

    # The sessions

    def reply(self, session: Any, pkg: Any) -> None:
        """Write something that is no publication."""
        if session.isClosed:
            return
        if session in self.now:
            self.now[session].replies += 1
        session.writePkg(pkg)

    def onMessage(self, session: Any, pkg: Any) -> None:
        if "say" in pkg:
            self.say(session, pkg)
        elif "join" in pkg:
            self.join(session, pkg)
        elif "leave" in pkg:
            group = self.groups.group(pkg["leave"])
            membership = self.now.pop(session)
            membership.sessionEnds(session)
            leaveMembership(session, membership)
            group.leave(session)
            self.reply(session, {"left": group.name})
        else:
            if pkg.get("collect"):
                gc.collect()
            self.reply(session, self.report())

    def onClose(self, session: Any) -> None:
        self.now.pop(session, None)

    def say(self, session: Any, pkg: Any) -> None:
        """Publish, several times."""
        name = pkg["say"]
        group = self.groups.group(name)
        isOut = name.startswith("but:") and session in self.now
        for _ in range(pkg["count"]):
            refused: list[Any] = []
            self.said[name] += 1
            published = {"g": name, "n": self.said[name], "x": pkg["x"]}
            group.publish(published, but=session if isOut else None).addErrback(refused.append)
            if refused:
                self.said[name] -= 1
                self.refused(group, refused[0])
                return
            if isOut:
                self.now[session].own += 1
                session.attributes.setdefault(name, deque(maxlen=100)).append(self.said[name])
                self.reply(session, {"said": [name, self.said[name]]})

    def refused(self, group: Group, failure: Any) -> None:
        """Right where more than maxWaiting has come since the last turn of the group."""
        if "bytes wait for members already" in str(failure.value):
            self.books[group.name.partition(":")[0]].others["refused"] += 1
        else:
            self.failed(failure)

    def failed(self, failure: Any) -> None:
        """The log has what must not be."""
        print(f"publish failed: {failure.value}", flush=True)

    def join(self, session: Any, pkg: Any) -> None:
        """The engine is in this process, so the answer is there at once."""
        name, since = pkg["join"], pkg.get("since")
        group = self.groups.group(name)
        membership = self.now[session] = Membership(self, session, group)
        joinMembership(session, membership)
        group.join(session, since=Position(*since) if since else None).addCallbacks(
            self.joined, self.failed, callbackArgs=(session, membership)
        )

    def joined(self, joined: Any, session: Any, membership: Membership) -> None:
        """From when on it gets everything: after its position, or what no fan-out has begun with."""
        group = membership.group
        membership.missed = joined.missed
        if joined.position is None:
            # Its own from a moment ago may be among them, if it is back within the window.
            membership.begin = self.said[group.name] - (group.arrivals - group.begun)
            own = session.attributes.get(group.name, ())
            membership.own = sum(number > membership.begin for number in own)
        else:
            membership.begin = joined.position.offset
        answer = {"joined": group.name, "after": membership.begin, "recovered": joined.recovered}
        if joined.position is not None:
            answer["epoch"] = joined.position.epoch
        self.reply(session, answer)

    def report(self) -> dict[str, Any]:
        """The books of all namespaces, with those who are members now."""
        spaces: dict[str, Any] = {}
        for name, book in self.books.items():
            stats = self.groups.stats[name]
            here = [each for each in self.now.values() if each.group.name.partition(":")[0] == name]
            spaces[name] = {
                "published": stats.published,
                "expected": book.expected + sum(each.expected for each in here),
                "written": book.written + sum(each.written for each in here),
                "deliveries": stats.deliveries,
                "dropped": sum(stats.dropped.values()),
                "reasons": stats.dropped,
                "gaps": stats.gaps,
                "told": book.told,
                "left": book.left,
                "recovered": stats.recovered,
                "unrecovered": stats.unrecovered,
                **book.others,
            }
        behind = sum(len(group.behind) for group in self.groups.active.values())
        return {"report": spaces, "said": self.said, "behind": behind, "objects": sys.getallocatedblocks()}


def main(port: str, own: str, websocket: str) -> None:
    soak = Soak()
    soak.watchTurns()
    codecs = {int(own): TextCodec()}
    shared = SharedCodec()

    def watch(event: dict[str, Any]) -> None:
        if event.get("log_format", "").startswith("{session}: closed by {group}"):
            soak.onSlow(event["session"], soak.groups.group(event["group"]))

    globalLogBeginner.beginLoggingTo([watch, textFileLogObserver(sys.stdout)], redirectStandardIO=False)

    def newSession(session: Any) -> None:
        session.codec = codecs.get(getattr(session.localAddr, "port", 0), shared)
        session.listener = soak

    where = "interface=127.0.0.1"
    server = Server(newSession, f"tcp:{port}:{where}", f"tcp:{own}:{where}", f"ws:{websocket}:{where}:deflate=yes")
    server.privilegedStartService()
    server.startService()
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
