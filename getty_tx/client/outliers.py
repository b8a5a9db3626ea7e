"""
Providers whose calls fail more often than those of others are left out for some time.

The rules and the numbers are those of gRPC's proposal A50, which took them from Envoy, with three differences.

- Only what tells of an unwell provider is a failure, see :py:data:`FAILURES`; in gRPC every status but OK is one.
- An outlier by its success rate has at least ``leastFailed``: where all others succeed always, a single failure of a
  thousand calls would be enough.
- Where all providers fail, none is an outlier: what is wrong is elsewhere, and the others could not take its load. In
  gRPC five providers are needed for that rule, too, so that small services have none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from getty_tx import settings
from getty_tx.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from getty_tx.client import Client
    from getty_tx.session.session import Session

__all__ = ["FAILURES", "Outliers", "Tally", "Watch"]

log = Logger()

#: The codes that say that the provider is not well: no reply in time, none because the session has ended, too many
#: calls at the provider, or an exception that its method did not expect. Any other error is an answer.
FAILURES = frozenset({"deadline", "lost", "refused", "internal"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outliers:
    """
    When a provider is left out because its calls fail. There are two rules, and None switches one of them off.

    :ivar interval: seconds between two looks at the calls that have ended meanwhile.
    :ivar deviations: the first rule. A provider is an outlier if its success rate is so many standard deviations below
        the mean of all.
    :ivar hosts: how many providers the first rule needs, of which each has as many ``calls`` in an interval.
    :ivar leastFailed: the part of its calls that fail at least if it is to be an outlier by the first rule.
    :ivar failed: the second rule. A provider is an outlier if more than this part of its calls fail.
    :ivar failedCalls: how many calls in an interval the second rule needs.
    :ivar ejectTime: seconds for which it is left out, times the number of times in a row. An interval that it is not
        left out takes one of these times away.
    :ivar maxEjectTime: seconds, at most.
    :raise SettingError: a value is invalid.
    """

    interval: float = 10.0
    deviations: float | None = 1.9
    hosts: int = 5
    calls: int = 100
    leastFailed: float = 0.05
    failed: float | None = 0.85
    failedCalls: int = 50
    ejectTime: float = 30.0
    maxEjectTime: float = 300.0

    def __post_init__(self) -> None:
        for name in ("interval", "ejectTime", "maxEjectTime"):
            settings.seconds(name, getattr(self, name))
        for name in ("hosts", "calls", "failedCalls"):
            settings.count(name, getattr(self, name))
        _number("leastFailed", self.leastFailed, 0, 1)
        if self.deviations is None and self.failed is None:
            raise SettingError("deviations=None and failed=None leave no rule: give outliers=None in place of that")
        if self.deviations is not None:
            _number("deviations", self.deviations, 0, 100)
        if self.failed is not None:
            _number("failed", self.failed, 0, 1)
        if self.maxEjectTime < self.ejectTime:
            raise SettingError(f"maxEjectTime={self.maxEjectTime!r} is less than ejectTime={self.ejectTime!r}")


def _number(name: str, value: Any, least: int, most: int) -> None:
    isNumber = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not isNumber or not least <= value <= most:
        raise SettingError(f"{name}={value!r} is not a number from {least} to {most}")


class Tally:
    """
    The calls to one provider since the last look.

    :ivar answered: those with a result, or an error that is an answer. ``bad``: those with one of FAILURES.
    :ivar times: how many times in a row it was left out.
    :ivar until: when it was, or is, used again: seconds on the reactor's clock.
    """

    __slots__ = ("answered", "bad", "times", "until")

    def __init__(self) -> None:
        self.answered = self.bad = self.times = 0
        self.until = 0.0

    def failed(self, code: str) -> None:
        """A call has ended with this code."""
        if code in FAILURES:
            self.bad += 1
        elif code != "cancelled":
            self.answered += 1


@dataclass(frozen=True, slots=True)
class _Share:
    """What one provider did in an interval. ``rate``: the part of its calls that did not fail."""

    provider: Any
    tally: Tally
    calls: int
    failed: int

    @property
    def rate(self) -> float:
        return 1 - self.failed / self.calls


class Watch:
    """
    Looks at the calls of a client each interval, and has it eject the outliers.

    :param pool: a client with several endpoints, or one that follows a registry.
    """

    def __init__(self, pool: Client, outliers: Outliers) -> None:
        self._pool = pool
        self._outliers = outliers
        # By provider, for those that have had a session.
        self._tallies: dict[Any, Tally] = {}
        self._loop: LoopingCall | None = None
        self._lookedAt = 0.0

    def tallyOf(self, session: Session) -> Tally:
        """That of the provider of a session, for its peer to count in."""
        return self._tallies.setdefault(self._pool.providerOf(session), Tally())

    def start(self, reactor: Any) -> None:
        """Look each interval."""
        self.stop()
        self._loop = loop = LoopingCall(self._look)
        loop.clock = reactor
        self._lookedAt = reactor.seconds()
        loop.start(self._outliers.interval, now=False)

    def stop(self) -> None:
        """Look no more, and forget what was."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.stop()
        self._tallies.clear()

    def _look(self) -> None:
        assert self._loop is not None
        now = self._loop.clock.seconds()
        before, self._lookedAt = self._lookedAt, now
        known = set(self._pool.providers)
        self._tallies = {provider: tally for provider, tally in self._tallies.items() if provider in known}
        shares = []
        least = min(self._outliers.calls, self._outliers.failedCalls)
        for provider, tally in self._tallies.items():
            calls = tally.answered + tally.bad
            if calls >= least:
                shares.append(_Share(provider, tally, calls, tally.bad))
            tally.answered = tally.bad = 0
        ejected = self._eject(shares, now)
        for tally in self._tallies.values():
            # One that was out for a part of the interval could not show that it is well.
            if tally.times and tally not in ejected and tally.until <= before:
                tally.times -= 1

    def _eject(self, shares: list[_Share], now: float) -> set[Tally]:
        """Eject the worst ones first, as the client leaves out only so many."""
        outliers = self._outliers
        ejected: set[Tally] = set()
        found = dict.fromkeys([*self._byRate(shares), *self._byFailures(shares)])
        for share in sorted(found, key=lambda share: share.rate):
            tally, provider = share.tally, share.provider
            if tally.until > now or provider.state == "ejected":
                # What was under way has ended.
                continue
            seconds = min(outliers.ejectTime * (tally.times + 1), outliers.maxEjectTime)
            if self._pool.eject(provider, seconds):
                if seconds < outliers.maxEjectTime:
                    # More would make it no longer, but would be long in falling.
                    tally.times += 1
                tally.until = now + seconds
                ejected.add(tally)
                log.warn(
                    "{client}: {id} is left out for {seconds:g} s: {failed} of {calls} calls with it have failed",
                    client=self._pool.destination,
                    id=provider.id,
                    seconds=seconds,
                    failed=share.failed,
                    calls=share.calls,
                )
        return ejected

    def _byRate(self, shares: list[_Share]) -> Iterable[_Share]:
        """Those whose success rate is far below that of all."""
        outliers = self._outliers
        measured = [share for share in shares if share.calls >= outliers.calls]
        if outliers.deviations is None or len(measured) < outliers.hosts:
            return []
        rates = [share.rate for share in measured]
        mean = fmean(rates)
        # pstdev() computes with fractions, which takes five times as long.
        deviation = math.sqrt(fmean((rate - mean) ** 2 for rate in rates))
        least = min(mean - outliers.deviations * deviation, 1 - outliers.leastFailed)
        return [share for share in measured if share.rate < least]

    def _byFailures(self, shares: list[_Share]) -> Iterable[_Share]:
        """Those of whose calls nearly all have failed, unless that is so everywhere."""
        outliers = self._outliers
        if outliers.failed is None:
            return []
        measured = [share for share in shares if share.calls >= outliers.failedCalls]
        failing = [share for share in measured if share.failed > outliers.failed * share.calls]
        return [] if len(failing) == len(measured) > 1 else failing
