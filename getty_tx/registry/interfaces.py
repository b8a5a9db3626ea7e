"""
The plug points: what users call, what they are told, and what an engine is.

A registry keeps to rules that are the same for all engines: when a record is written again, what a follower is told,
what is kept while the engine is away. An engine knows none of them: it stores records and reports what it finds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from twisted.internet.defer import Deferred

    from getty_tx.registry.provider import Provider

__all__ = [
    "IEngine",
    "IEngineUser",
    "IFollower",
    "IFollowing",
    "IRecordSink",
    "IRegistration",
    "IRegistry",
    "IRegistryParser",
    "IWatch",
]


class IRegistry(Interface):
    """Who provides what. All calls and all that it calls are on the reactor's thread."""

    isConnected: Any = Attribute("True while the engine answers")
    lastError: Any = Attribute("the last failure, or None")
    staleFor: Any = Attribute("seconds since the engine last answered; 0 while it does")
    registrations: Any = Attribute("a list of the :py:class:`IRegistration` that are not withdrawn")
    followings: Any = Attribute("a list of the :py:class:`IFollowing` that are not stopped")

    def startService() -> None:
        """Begin to use it. Several may: it runs until the last of them has called :py:meth:`stopService`."""

    def stopService() -> Deferred[None]:
        """Use it no more. The last call withdraws what is registered and stops the engine."""

    def register(provider: Provider) -> IRegistration:
        """
        Announce a provider, from now on or from the start on, until it is withdrawn. Failures are tried again.

        :raise SettingError: this engine is for reading only, or the provider's id is registered already.
        """

    def follow(service: str, follower: IFollower, cache: str | None = None) -> IFollowing:
        """
        Tell a follower of the service's providers, from now on or from the start on.

        :param cache: a file where the last list is kept, for a start while the engine is away.
        """

    def list(service: str | None = None) -> Deferred[list[Provider]]:
        """
        The providers of one service, or of all, as they are now.

        :return: fails with RegistryError if the engine does not answer.
        """


class IRegistration(Interface):
    """A provider that is to be found."""

    provider: Any = Attribute("the :py:class:`~getty_tx.registry.Provider`, as it is to be found")
    isRegistered: Any = Attribute("True while its record is known to be there")
    lastError: Any = Attribute("why it could not be written the last time, or None")

    def update(**changes: Any) -> None:
        """Change its weight, zone, state or meta."""

    def whenRegistered() -> Deferred[None]:
        """Fires when the record is there; fails with RegistryError if it is withdrawn before."""

    def leave(leaveTime: float | None = None) -> Deferred[None]:
        """
        Say that it is about to stop, so that clients go elsewhere.

        :param leaveTime: seconds that they have for it; None: the engine's ``leaveTime``.
        :return: fires when they have had time to hear of it; at once if the engine does not answer.
        """

    def withdraw() -> Deferred[None]:
        """Take its record away, if it is still this one. Fires then, or when the engine did not answer in time."""


class IFollower(Interface):
    """Is told of a service's providers."""

    def providersChanged(
        added: Collection[Provider], removed: Collection[Provider], changed: Collection[Provider]
    ) -> None:
        """
        The providers are others now. The first call has the whole list, which may be empty.

        :param removed: their records are gone. Those that left in order were ``leaving`` before.
        :param changed: as they are now; each has the id of one that was known.
        """


class IFollowing(Interface):
    """What :py:meth:`IRegistry.follow` returns."""

    service: Any = Attribute("the service's name")
    providers: Any = Attribute("a dict of the known providers by id")
    isKnown: Any = Attribute("True when a first list has come")
    staleFor: Any = Attribute("seconds for which the list may be out of date; 0 while it is followed")
    skipped: Any = Attribute("how many of the service's records cannot be used now")

    def stop() -> None:
        """Follow no more. Nothing is called after it."""


class IRegistryParser(Interface):
    """
    Makes a registry of a text. A Twisted plugin, as parsers of endpoints are.
    """

    prefix: Any = Attribute("what the text begins with, up to the first colon")

    def parseRegistry(reactor: Any, *args: str, **kwargs: str) -> IRegistry:
        """
        :param args: what is between colons behind the prefix, unquoted; ``name=value`` is in ``kwargs``.
        :raise SettingError: an argument is missing, unknown or wrong.
        """


class IEngine(Interface):
    """
    Where records are.

    It reconnects by itself, with :py:class:`~getty_tx.registry.backoff.Backoff`. Its Deferreds fail with
    :py:exc:`~getty_tx.registry.errors.RegistryError` and always end within some time-out of its own.
    """

    name: Any = Attribute("for logs and tables, such as 'etcd:10.0.0.1:2379'; without secrets")
    isReadOnly: Any = Attribute("True if :py:meth:`put` and :py:meth:`delete` do not work")
    hasStates: Any = Attribute("False if a record cannot say that its provider is leaving")
    leaveTime: Any = Attribute("seconds that followers may take to hear of a leaving provider")
    kinds: Any = Attribute("a frozenset of the kinds of endpoint that records may name: 'tcp', 'tls' and so on")
    isLocal: Any = Attribute("True if all of its users are on this machine")

    def start(reactor: Any, user: IEngineUser) -> None:
        """Begin. It may be started again after it was stopped."""

    def stop() -> Deferred[None]:
        """Give up connections, leases and watches. What is stored by :py:meth:`put` is gone then, if it can be."""

    def put(provider: Provider) -> Deferred[None]:
        """Write the record of a provider, in place of any that has its service and id."""

    def delete(provider: Provider) -> Deferred[None]:
        """Delete the record, if it was written by this engine object and by no other since."""

    def missing(providers: Collection[Provider]) -> Deferred[Collection[Provider]]:
        """Those of them whose records, as written here, are not there any more."""

    def watch(service: str, sink: IRecordSink) -> IWatch:
        """Report the service's records. May be called before the engine is connected."""

    def read(service: str | None) -> Deferred[Mapping[tuple[str, str], Provider | bytes]]:
        """The records of one service or of all, by service and key, as :py:meth:`IRecordSink.recordsAre` has them."""

    def hostTowards() -> Deferred[str]:
        """This machine's address as seen on the way to the engine, ``""`` if there is none: what to advertise."""


class IEngineUser(Interface):
    """What an engine tells of itself."""

    def engineConnected() -> None:
        """It answers."""

    def engineDisconnected(error: BaseException) -> None:
        """It does not; what it has is not known to be lost."""

    def recordsLost() -> None:
        """What was written here is gone or may be: a lease or a session has ended. Write it again."""


class IRecordSink(Interface):
    """
    What an engine tells of one service's records.

    Records are told by key. One is bytes with the JSON of a provider, whose key is its id, percent-encoded; or a
    Provider, whose key is any text; or a RegistryError if the engine itself can make no sense of it.
    """

    def recordsAre(records: Mapping[str, Any]) -> None:
        """All of them: the first list, or a new one after an interruption in which changes may have been missed."""

    def recordsChanged(written: Mapping[str, Any], gone: Collection[str]) -> None:
        """Some were written and some deleted, since the last call. No key is in both."""

    def interrupted(error: BaseException) -> None:
        """From now on changes may be missed. The engine goes on trying."""

    def resumed() -> None:
        """Nothing was missed, and nothing is."""


class IWatch(Interface):
    """What :py:meth:`IEngine.watch` returns."""

    def stop() -> None:
        """Watch no more. The sink is not called after it."""
