"""
Keeps as many sub-reactors running as there should be: starts, watches, replaces, reloads and drains them.

Nothing here knows how a process is started or what a message looks like, so that tests need neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from getty_tx.errors import GettyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.processes.handover import Accepted

__all__ = ["DRAINING", "GONE", "KILL", "READY", "STARTING", "IProcess", "Member", "Supervisor", "beatPeriod"]

log = Logger()

STARTING, READY, DRAINING, GONE = range(4)

#: Seconds that a sub-reactor may take until it is ready; what it imports may take long.
START_TIMEOUT = 60.0

#: Seconds of service after which a death is not taken for one more of a series.
STEADY = 2.0

#: Seconds before a further attempt, after the second death in a series or the first start that failed; doubled each
#: time, up to the most.
RETRY, RETRY_MOST = 0.5, 30.0


#: The part of the time for draining after which a sub-reactor is killed, so that all is over within that time.
KILL = 0.95


class IProcess(Protocol):
    """A sub-reactor's process."""

    pid: int

    def drain(self, timeout: float) -> None:
        """Tell it to end within so many seconds."""

    def kill(self) -> None:
        """Make an end of it."""


class Member:
    """
    One sub-reactor, from its start to its end.

    :param place: its place, from 0.

    :ivar number: the place as people count, from 1.
    :ivar state: STARTING, READY, DRAINING or GONE.
    :ivar process: once it is started.
    :ivar open: its connections by number, with the host where there is a limit for each host.
    :ivar inFlight: those of them that it has not acknowledged.
    :ivar counts: what it counts, as it told last.
    """

    def __init__(self, place: int) -> None:
        self.place = place
        self.number = place + 1
        self.state = STARTING
        self.process: IProcess | None = None
        self.open: dict[int, str | None] = {}
        self.inFlight: dict[int, Accepted] = {}
        self.counts: dict[str, int] = {}
        # Looks of the supervisor since it was last heard of.
        self.silence = 0
        # It has been silent for so long that it gets no more connections.
        self.isLate = False
        self.isKilled = False
        # It says nothing more.
        self.isUnreachable = False
        # It is expected to end by itself.
        self.isEnding = False
        # Connections, at the end.
        self.had = 0
        self.since = 0.0
        self.deadline: Any = None

    def __str__(self) -> str:
        return f"sub-reactor {self.number}" + ("" if self.process is None else f" (process {self.process.pid})")

    @property
    def pid(self) -> int | None:
        """The process id."""
        return None if self.process is None else self.process.pid

    @property
    def load(self) -> int:
        """Connections that were handed to it and that it has not reported closed."""
        return len(self.open)

    @property
    def connections(self) -> int:
        """The same; or how many it told that it has, where it accepts itself."""
        return len(self.open) or self.counts.get("connections", 0)

    def kill(self) -> None:
        """Make an end of it."""
        if self.process is not None and self.state != GONE and not self.isKilled:
            self.isKilled = True
            self.process.kill()


class _Place:
    """Where a sub-reactor serves, and its successor is started."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.current: Member | None = None
        self.coming: Member | None = None
        self.failures = 0
        self.restarts = 0
        self.restart: Any = None


def beatPeriod(heartbeatTimeout: float) -> float:
    """Seconds between two signs of life, and between two looks for them."""
    return min(1.0, heartbeatTimeout / 5)


class Supervisor:
    """
    Supervises.

    :param places: how many sub-reactors there are to be.
    :param start: starts the process of a new member, and sets ``member.process``.
    :param changed: called after other members have become those that take connections.
    :param reactor: the reactor or a test's clock.
    :param heartbeatTimeout: seconds of silence after which a sub-reactor is killed.
    :param drainTimeout: seconds that a sub-reactor may take to end when it is told to.

    :ivar members: all that are not gone.
    """

    def __init__(
        self,
        places: int,
        start: Callable[[Member], object],
        changed: Callable[[], object],
        *,
        reactor: Any,
        heartbeatTimeout: float,
        drainTimeout: float,
    ) -> None:
        self.members: list[Member] = []
        self._places = [_Place(number) for number in range(places)]
        self._start = start
        self._changed = changed
        self._reactor = reactor
        self._period = beatPeriod(heartbeatTimeout)
        self._timeout = heartbeatTimeout
        self._drainTimeout = drainTimeout
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor
        self._stopping: Deferred[None] | None = None
        # Until all have been ready once, or the first has failed.
        self._starting: Deferred[None] | None = None
        # Of the reload that is under way.
        self._reloading: list[Deferred[bool]] | None = None
        self._reloadAgain: list[Deferred[bool]] = []

    @property
    def ready(self) -> list[Member]:
        """Those that take connections, in the order of their places."""
        current = [place.current for place in self._places if place.current is not None]
        return [member for member in current if not member.isLate]

    @property
    def restarts(self) -> list[int]:
        """How often one that took connections had to be replaced, by place; reloads do not count."""
        return [place.restarts for place in self._places]

    def start(self) -> Deferred[None]:
        """
        Start them all.

        :return: fires when all are ready; fails when one cannot start, and then starts no more.
        """
        self._starting = Deferred()
        started = self._starting
        self._looking.start(self._period, now=False)
        for place in self._places:
            self._begin(place)
        return started

    def _begin(self, place: _Place) -> None:
        place.restart = None
        member = place.coming = Member(place.number)
        self.members.append(member)
        member.deadline = self._reactor.callLater(START_TIMEOUT, self._neverReady, member)
        try:
            self._start(member)
        except Exception as error:
            if not isinstance(error, (GettyError, OSError)):
                log.failure("a process cannot be started")
            self.isGone(member, f"could not be started: {error}")

    def _neverReady(self, member: Member) -> None:
        member.deadline = None
        log.error("{member} is not ready after {seconds:g} s: killed", member=member, seconds=START_TIMEOUT)
        member.kill()

    # What members tell

    def isReady(self, member: Member) -> None:
        """It takes connections from now on."""
        place = self._places[member.place]
        member.silence = 0
        if member is not place.coming or member.state != STARTING:
            return
        self._cancelDeadline(member)
        member.state = READY
        log.info("{member} is ready", member=member)
        if place.current is None:
            self._takeOver(place)
            self._changed()
        if self._reloading is not None:
            self._checkReload()
        if self._starting is not None and all(place.current is not None for place in self._places):
            starting, self._starting = self._starting, None
            self._endReload(True)
            starting.callback(None)

    def _takeOver(self, place: _Place) -> None:
        before, place.current, place.coming = place.current, place.coming, None
        assert place.current is not None
        place.current.since = self._reactor.seconds()
        if before is not None:
            self._drain(before)

    def hasFailed(self, member: Member, why: str) -> None:
        """It cannot start; its process ends by itself."""
        log.error("{member} cannot start: {why}", member=member, why=why)
        member.isEnding = True
        self._cannotStart(why)

    def _cannotStart(self, why: str) -> None:
        if self._starting is not None:
            starting, self._starting = self._starting, None
            starting.errback(GettyError(why))

    def isAlive(self, member: Member) -> None:
        """It has said anything."""
        member.silence = 0
        if member.isLate:
            member.isLate = False
            log.info("{member} is heard of again", member=member)
            self._changed()

    def isUnreachable(self, member: Member) -> None:
        """It says nothing more, as it is about to be gone; called while it has its connections still."""
        member.isLate = member.isUnreachable = True
        member.had = member.connections - len(member.inFlight)

    def isLeaving(self, member: Member) -> None:
        """A signal has told it to end, and it drains."""
        if member.state >= DRAINING:
            return
        log.info("{member} was told by a signal to end", member=member)
        self._cancelDeadline(member)
        self._isOut(member)
        self._limit(member, self._drainTimeout)
        self._changed()

    def isGone(self, member: Member, how: str) -> None:
        """
        Its process has ended.

        :param how: in words.
        """
        wasDraining = member.state == DRAINING
        self._cancelDeadline(member)
        self.members.remove(member)
        if wasDraining:
            log.info("{member} {how}", member=member, how=how)
        elif self._stopping is None:
            log.error("{member} {how}, with {had} connections", member=member, how=how, had=member.had)
            self._cannotStart(f"{member} {how} before it was ready")
        self._isOut(member, how)
        member.state = GONE
        self._changed()
        if self._stopping is not None and not self.members:
            self._endStopping(self._stopping)

    def _isOut(self, member: Member, how: str = "") -> None:
        """It is, or will soon be, no more: have another in its place."""
        place = self._places[member.place]
        member.state = DRAINING
        member.isEnding = True
        if member is place.current:
            place.current = None
            lived = self._reactor.seconds() - member.since
            place.failures = 0 if lived >= STEADY else place.failures + 1
            place.restarts += 1
            if place.coming is None:
                self._beginAfter(place, place.failures - 1)
            elif place.coming.state == READY:
                self._takeOver(place)
        elif member is place.coming:
            place.coming = None
            if self._reloading is not None and place.current is not None:
                self._giveUpReload(member, how)
            elif place.current is None:
                place.failures += 1
                self._beginAfter(place, place.failures)

    def _beginAfter(self, place: _Place, failures: int) -> None:
        if self._stopping is not None or self._starting is not None:
            return
        if failures <= 0:
            self._begin(place)
            return
        delay = min(RETRY * 2.0 ** (failures - 1), RETRY_MOST)
        log.warn("sub-reactor {number} is started again in {delay:g} s", number=place.number + 1, delay=delay)
        place.restart = self._reactor.callLater(delay, self._begin, place)

    # Watching

    def _look(self) -> None:
        """Look for those that are not heard of. Looks are counted, and not seconds: this process may have slept."""
        for member in self.members:
            if member.state != READY:
                continue
            member.silence += 1
            silent = member.silence * self._period
            if silent > self._timeout:
                if not member.isKilled:
                    text = "{member} has not been heard of for {silent:g} s, with {load} connections: killed"
                    log.error(text, member=member, silent=silent, load=member.connections)
                    member.kill()
            elif silent > self._timeout / 2 and not member.isLate:
                member.isLate = True
                text = "{member} has not been heard of for {silent:g} s: it gets no more connections"
                log.warn(text, member=member, silent=silent)
                self._changed()

    # Reloading

    def reload(self) -> Deferred[bool]:
        """
        Start all anew, and have the new ones take over when all of them are ready.

        :return: fires with True then; with False if one of them cannot start, and all stays as it is.
        """
        done: Deferred[bool] = Deferred()
        if self._stopping is not None:
            done.callback(False)
        elif self._reloading is not None or self._starting is not None:
            # What it is to load may have changed after those that are on their way were started.
            self._reloadAgain.append(done)
        else:
            self._reloadNow([done])
        return done

    def _reloadNow(self, waiting: list[Deferred[bool]]) -> None:
        self._reloading = waiting
        for place in self._places:
            if place.restart is not None:
                place.restart.cancel()
                place.restart = None
            before, place.coming = place.coming, None
            if before is not None:
                # It may have loaded what was there before.
                before.state = DRAINING
                before.kill()
            self._begin(place)

    def _checkReload(self) -> None:
        coming = [place.coming for place in self._places]
        if any(member is not None and member.state != READY for member in coming):
            return
        for place in self._places:
            if place.coming is not None:
                self._takeOver(place)
        self._changed()
        self._endReload(True)

    def _giveUpReload(self, member: Member, how: str) -> None:
        log.error("reload given up, as {member} {how}: all stays as it is", member=member, how=how)
        for place in self._places:
            before = place.coming
            if before is not None and place.current is not None:
                place.coming = None
                before.state = DRAINING
                before.kill()
        self._endReload(False)

    def _endReload(self, success: bool) -> None:
        waiting, self._reloading = self._reloading or [], None
        again, self._reloadAgain = self._reloadAgain, []
        if self._stopping is not None:
            waiting, again = [*waiting, *again], []
        if again:
            self._reloadNow(again)
        for deferred in waiting:
            deferred.callback(success)

    # The end

    def _drain(self, member: Member) -> None:
        member.state = DRAINING
        member.isEnding = True
        assert member.process is not None
        member.process.drain(self._drainTimeout)
        self._limit(member, self._drainTimeout)

    def _limit(self, member: Member, timeout: float) -> None:
        member.deadline = self._reactor.callLater(timeout * KILL, self._drainsLong, member)

    def _drainsLong(self, member: Member) -> None:
        member.deadline = None
        text = "{member} has not ended in {timeout:g} s: killed, with {load} connections"
        log.warn(text, member=member, timeout=self._drainTimeout * KILL, load=member.connections)
        member.kill()

    def _cancelDeadline(self, member: Member) -> None:
        if member.deadline is not None:
            member.deadline.cancel()
            member.deadline = None

    def stop(self) -> Deferred[None]:
        """Drain them all; fires when the last one is gone, which takes ``drainTimeout`` at most."""
        if self._stopping is not None:
            return self._stopping
        stopping: Deferred[None] = Deferred()
        self._stopping = stopping
        self._starting = None
        for place in self._places:
            place.current = None
            if place.restart is not None:
                place.restart.cancel()
                place.restart = None
        for member in list(self.members):
            self._cancelDeadline(member)
            if member.state == READY:
                self._drain(member)
            elif member.state == STARTING:
                member.kill()
            else:
                self._limit(member, self._drainTimeout)
        self._endReload(False)
        self._changed()
        if not self.members:
            self._endStopping(stopping)
        return stopping

    def _endStopping(self, stopping: Deferred[None]) -> None:
        if self._looking.running:
            self._looking.stop()
        stopping.callback(None)
