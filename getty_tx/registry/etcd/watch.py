"""One service's records: they are listed, and their changes followed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from zope.interface import implementer

from getty_tx.registry.backoff import Backoff
from getty_tx.registry.errors import RegistryError
from getty_tx.registry.etcd.bodies import Lines, TooLongError
from getty_tx.registry.etcd.ranges import Position, decode64, listed, rangeBody
from getty_tx.registry.etcd.refusals import permissionText, reasonOf
from getty_tx.registry.interfaces import IWatch

if TYPE_CHECKING:
    from random import Random

    from getty_tx.registry.etcd.http import Gateway
    from getty_tx.registry.etcd.ranges import Place
    from getty_tx.registry.interfaces import IRecordSink

__all__ = ["HERD_DELAY", "SHORT_OUTAGE", "TOKEN_INTERVAL", "Watch"]

log = Logger()

#: Seconds over which clients list after an outage, and of an outage after which they do not all list at once.
HERD_DELAY, SHORT_OUTAGE = 2.0, 5.0

#: Seconds between two tokens for a watch that is denied: etcd spends a tenth of a second of computing on each.
TOKEN_INTERVAL = 60.0


@implementer(IWatch)
class Watch:
    """
    Reports the records of a place to a sink.

    :param prefix: for texts.
    :param ended: called when it is stopped.
    """

    def __init__(
        self, gateway: Gateway, place: Place, sink: IRecordSink, random: Random, prefix: str, ended: Any
    ) -> None:
        self._gateway = gateway
        self._place = place
        self._sink = sink
        self._random = random
        self._prefix = prefix
        self._ended = ended
        self._backoff = Backoff(random)
        # Up to where the sink knows everything; None: nothing is known, or too little to go on from there.
        self._position: Position | None = None
        # Seconds of the outage before the list that is to come.
        self._away = 0.0
        self._interrupted = False
        # The token of the watch, and when one was last given up because a watch was denied.
        self._token: str | None = None
        self._renewed = -TOKEN_INTERVAL
        self._lines: Lines | None = None
        self._over: Deferred[None] | None = None
        self._stopped = False
        self._work: Any = self._run()
        self._working: Deferred[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._working = Deferred.fromCoroutine(self._work)
        self._working.addErrback(self._failed)

    def stop(self) -> None:
        """Watch no more. The sink is not called after it."""
        if not self._stopped:
            self._stopped = True
            self._ended(self)
            self._close()
            # Not if it is the one that calls the sink just now: it will see.
            if self._working is not None and not self._work.cr_running:
                self._working.cancel()

    def _failed(self, failure: Any) -> None:
        if not failure.check(CancelledError):
            log.failure("following {place} has failed", failure, place=self._place.start)

    # List, follow, wait, and again

    async def _run(self) -> None:
        while not self._stopped:
            try:
                self._away = max(self._away, await self._gateway.whenUp())
                if self._position is None:
                    await self._list()
                if not self._stopped:
                    await self._follow(self._position)
            except CancelledError:
                return
            except RegistryError as error:
                self._lost(error)
            except Exception as error:
                # Whatever it is that answers: it may do so better later.
                log.failure("etcd's answer cannot be understood")
                self._lost(RegistryError(f"etcd's answer cannot be understood: {type(error).__name__}: {error}"))
            if not self._stopped:
                await self._sleep(self._backoff.next())

    async def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            slept: Deferred[None] = Deferred(lambda _: call.cancel())
            call = self._gateway.clock.callLater(seconds, slept.callback, None)
            await slept

    def _lost(self, error: BaseException) -> None:
        """The sink misses changes from now on."""
        if isinstance(error, TooLongError):
            # It would come again: lists are in pages.
            self._position = None
        if not self._interrupted:
            self._interrupted = True
            self._tell("interrupted", error)

    def _tell(self, name: str, *args: Any) -> None:
        if self._stopped:
            return
        try:
            getattr(self._sink, name)(*args)
        except Exception:
            log.failure("{sink}.{name} failed", sink=self._sink, name=name)

    async def _list(self) -> None:
        if self._away > SHORT_OUTAGE:
            await self._sleep(self._random.uniform(0, HERD_DELAY))
        self._away = 0.0
        self._position, records = await listed(self._gateway, self._place, self._place.name)
        self._interrupted = False
        self._tell("recordsAre", records)

    async def _follow(self, position: Position | None) -> None:
        """Follow the changes behind a position, until something ends it: it always raises."""
        assert position is not None
        create = {**rangeBody(self._place), "start_revision": position.revision + 1, "progress_notify": True}
        over: Deferred[None] = Deferred()
        self._over, self._token = over, self._gateway.token
        try:
            self._lines = await self._gateway.stream("watch", {"create_request": create}, self._makeLines)
            if not self._stopped:
                await over
        finally:
            self._over = None
            self._close()

    def _makeLines(self) -> Lines:
        return Lines(self._gateway.clock, self._received, self._end)

    def _close(self) -> None:
        lines, self._lines = self._lines, None
        if lines is not None:
            self._gateway.closeStream(lines)

    def _end(self, error: BaseException) -> None:
        over, self._over = self._over, None
        if over is not None:
            if not isinstance(error, RegistryError):
                error = RegistryError(f"the watch has ended: {reasonOf(error)}")
            over.errback(error)

    # What etcd sends

    def _received(self, message: dict[str, Any]) -> None:
        if self._over is None or self._stopped:
            return
        try:
            self._take(message)
        except Exception as error:
            self._end(error)

    def _take(self, message: dict[str, Any]) -> None:
        result = message.get("result")
        if result is None:
            error = message.get("error", {})
            raise RegistryError(f"etcd has ended the watch: {error.get('message')}")
        known, now = self._position, Position.of(result)
        assert known is not None
        if result.get("canceled"):
            self._cancelled(result)
        if result.get("created"):
            if known.wasLost(now):
                self._position = None
                raise RegistryError("etcd has other data than before: it is listed again")
            self._backoff.reset()
            self._position = Position(now.cluster, now.term, known.revision)
            self._away = 0.0
            if self._interrupted:
                self._interrupted = False
                self._tell("resumed")
        events = result.get("events")
        if events:
            self._changed(events)
        elif not result.get("created"):
            # It says from time to time how far it is.
            self._position = Position(now.cluster, now.term, max(known.revision, now.revision))

    def _cancelled(self, result: dict[str, Any]) -> None:
        compacted = result.get("compact_revision")
        if compacted is not None and int(compacted):
            self._position = None
            raise RegistryError(f"etcd has forgotten what was before revision {compacted}: it is listed again")
        reason = str(result.get("cancel_reason") or "it gave no reason")
        gateway = self._gateway
        if "permission denied" in reason or "auth" in reason:
            # So it answers also where a token is too old.
            now = gateway.clock.seconds()
            if now - self._renewed >= TOKEN_INTERVAL:
                self._renewed = now
                gateway.forgetToken(self._token)
            reason = permissionText(f"etcd at {gateway.endpoint.address}", "watch", gateway.user, self._prefix)
        raise RegistryError(f"etcd has cancelled the watch: {reason}")

    def _changed(self, events: list[dict[str, Any]]) -> None:
        """All of one response at once, of each key the last."""
        name, record = self._place.name, self._place.record
        written: dict[str, Any] = {}
        gone: dict[str, None] = {}
        last = 0
        for event in events:
            kv = event["kv"]
            key = decode64(kv["key"])
            text = name(key)
            last = int(kv["mod_revision"])
            if event.get("type") == "DELETE":
                written.pop(text, None)
                gone[text] = None
            else:
                gone.pop(text, None)
                written[text] = record(key, kv.get("value"))
        if self._position is not None:
            self._position = self._position._replace(revision=max(last, self._position.revision))
        self._tell("recordsChanged", written, gone.keys())
