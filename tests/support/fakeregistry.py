"""A registry whose only follower is told what a test says."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from getty_tx.registry import IFollowing, IRegistry, Provider
from tests.support.several import NamedEndpoint, SeveralCase

__all__ = ["FakeRegistry", "FollowingCase"]


@implementer(IFollowing)
class _Following:
    def __init__(self, registry: FakeRegistry, service: str, follower: Any) -> None:
        self.registry = registry
        self.service = service
        self.follower = follower
        self.providers: dict[str, Provider] = {}
        self.isKnown = False
        self.staleFor = 0.0
        self.skipped = 0

    def stop(self) -> None:
        self.registry.followings.remove(self)


@implementer(IRegistry)
class FakeRegistry:
    """Keeps its followings."""

    def __init__(self) -> None:
        self.isConnected = False
        self.lastError: BaseException | None = None
        self.staleFor = 0.0
        self.registrations: list[Any] = []
        self.followings: list[Any] = []
        self.users = 0
        self.cache: str | None = None

    def startService(self) -> None:
        self.users += 1

    def stopService(self) -> Deferred[None]:
        self.users -= 1
        return succeed(None)

    def register(self, provider: Provider) -> Any:
        raise NotImplementedError

    def follow(self, service: str, follower: Any, cache: str | None = None) -> Any:
        self.cache = cache
        self.followings.append(_Following(self, service, follower))
        return self.followings[-1]

    def list(self, service: str | None = None) -> Any:
        raise NotImplementedError

    def tell(self, added: Any = (), removed: Any = (), changed: Any = ()) -> None:
        """Tell the follower."""
        (following,) = self.followings
        following.follower.providersChanged(list(added), list(removed), list(changed))


def provider(name: str, **changes: Any) -> Provider:
    """The provider with this name."""
    return Provider("echo", changes.pop("endpoint", f"tcp:{name}:1"), id=name, **changes)


class FollowingCase(SeveralCase):
    """A client that follows a FakeRegistry, on a fake network and a clock."""

    def setUp(self) -> None:
        super().setUp()
        self.registry = FakeRegistry()

    def dial(self, provider: Provider) -> NamedEndpoint:
        """The fake endpoint of a provider: by its host."""
        return self.named(provider.endpoint.split(":")[1])

    def following(self, names: str | None = None, number: int = 1, text: str = "service:echo", **options: Any) -> Any:
        """A started client; with names, the registry has told of these, and all sessions are open."""
        from getty_tx.client import Client

        options.setdefault("dial", self.dial)
        client = Client(self.newSession, text, number, reactor=self.clock, registry=self.registry, **options)
        client.startService()
        self.addCleanup(self.finish, client)
        if names is not None:
            self.registry.tell(map(provider, names))
            self.answerAll()
        return client

    def states(self, client: Any) -> dict[str, str]:
        """The state of each provider, by id."""
        return {each.id: each.state for each in client.providers}

    def picked(self, client: Any, picks: int = 30, **options: Any) -> set[str]:
        """The ids of those that are picked."""
        return {client.pick(**options).provider.id for _ in range(picks)}

    def finish(self, client: Any) -> None:
        super().finish(client)
        self.assertEqual((self.registry.users, self.registry.followings), (0, []))
        self.assertEqual(client.providers, [])
