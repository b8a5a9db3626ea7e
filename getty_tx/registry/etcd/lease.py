"""The lease that all records of one engine hang on, and the pulse that renews it and shows whether etcd lives."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.logger import Logger

from getty_tx.registry.backoff import Backoff
from getty_tx.registry.errors import RegistryError
from getty_tx.registry.etcd.refusals import NOT_FOUND, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from random import Random

    from getty_tx.registry.etcd.http import Gateway

__all__ = ["STATUS_INTERVAL", "STATUS_TIMEOUT", "Lease", "Pulse"]

log = Logger()

#: Seconds between two looks whether etcd lives, where there is no lease to be renewed, and for the answer.
STATUS_INTERVAL, STATUS_TIMEOUT = 10.0, 5.0

#: By what part the times between renewals vary.
JITTER = 0.1


class Lease:
    """
    A lease, granted when it is needed.

    :param ttl: seconds that the records outlive the last renewal; etcd takes whole ones, and at least 2.
    :param granted: called when there is a new one.
    :param lost: called when one has ended: its records are gone.
    :ivar id: None: there is none.
    """

    def __init__(self, gateway: Gateway, ttl: float, granted: Callable[[], None], lost: Callable[[], None]) -> None:
        self.id: str | None = None
        self.ttl = float(ceil(ttl))
        self._gateway = gateway
        self._granted = granted
        self._lost = lost
        self._granting = DeferredLock()

    async def get(self) -> str:
        """Its id."""
        await self._granting.acquire()
        try:
            if self.id is None:
                answer = await self._gateway.call("lease/grant", {"TTL": ceil(self.ttl)})
                self.id = str(answer["ID"])
                self.ttl = float(answer["TTL"])
                self._granted()
            return self.id
        finally:
            self._granting.release()

    async def renew(self) -> None:
        """Renew it. One that has ended is answered as others, but without a time."""
        id = self.id
        try:
            answer = await self._gateway.call("lease/keepalive", {"ID": id}, self.ttl / 3)
        except RefusedError as error:
            if error.code != NOT_FOUND:
                raise
            self.hasEnded(id)
        else:
            if int(answer.get("result", {}).get("TTL", 0)) <= 0:
                self.hasEnded(id)

    def hasEnded(self, id: str | None) -> None:
        """etcd does not know it any more."""
        if id is not None and self.id == id:
            self.id = None
            self._lost()

    async def keys(self) -> set[str]:
        """The keys that hang on it, as base64."""
        id = self.id
        if id is None:
            return set()
        try:
            answer = await self._gateway.call("lease/timetolive", {"ID": id, "keys": True})
        except RefusedError as error:
            if error.code != NOT_FOUND:
                raise
            answer = {}
        if int(answer.get("TTL", 0)) <= 0:
            self.hasEnded(id)
            return set()
        return set(answer.get("keys", ()))

    async def revoke(self) -> None:
        """End it, and all its records."""
        id, self.id = self.id, None
        if id is not None:
            await self._gateway.call("lease/revoke", {"ID": id}, self.ttl / 3)


class Pulse:
    """Renews the lease, or asks how etcd is where there is none, so that it is noticed when it does not answer."""

    def __init__(self, gateway: Gateway, lease: Lease, random: Random) -> None:
        self._gateway = gateway
        self._lease = lease
        self._random = random
        self._backoff = Backoff(random)
        self._next: Any = None
        self._stopped = False
        self._asking: Deferred[None] | None = None
        self._question: Coroutine[Any, Any, None] | None = None

    def start(self) -> None:
        """Begin, with a first question at once."""
        self._ask()

    def stop(self) -> None:
        """End."""
        self._stopped = True
        if self._next is not None:
            self._next.cancel()
            self._next = None
        asking, self._asking = self._asking, None
        if asking is not None and not cast("Any", self._question).cr_running:
            asking.cancel()

    def again(self) -> None:
        """The time to the next question is another one now: there is a lease, or etcd does not answer."""
        if self._next is not None:
            self._next.cancel()
            self._later()

    def _ask(self) -> None:
        self._next = None
        self._question = self._asked()
        self._asking = asking = Deferred.fromCoroutine(self._question)
        asking.addErrback(self._failed).addCallback(self._answered)

    async def _asked(self) -> None:
        if self._lease.id is not None:
            await self._lease.renew()
        else:
            await self._gateway.call("maintenance/status", {}, STATUS_TIMEOUT, _withoutLeader)

    def _failed(self, failure: Any) -> None:
        # The gateway knows what a RegistryError means for it.
        if not failure.check(CancelledError, RegistryError):
            log.failure("etcd's answer cannot be understood", failure)
            self._gateway.wentDown(failure.value)

    def _answered(self, _: Any) -> None:
        self._asking = None
        if not self._stopped:
            self._later()

    def _later(self) -> None:
        hasLease = self._lease.id is not None
        third = self._lease.ttl / 3
        if self._gateway.isUp:
            self._backoff.reset()
            delay = (third if hasLease else STATUS_INTERVAL) * self._random.uniform(1 - JITTER, 1 + JITTER)
        else:
            delay = self._backoff.next()
            if hasLease and delay > 2 * third:
                # An etcd that comes back gives each lease its whole time.
                delay = self._random.uniform(0, 2 * third)
        self._next = self._gateway.clock.callLater(delay, self._ask)


def _withoutLeader(answer: dict[str, Any]) -> str:
    """What is wrong with a member that has lost the others: it answers, and knows nothing new."""
    return "" if int(answer.get("leader", 0)) else "has no leader: it may have lost the others of its cluster"
