"""A client of several endpoints on a fake network."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone

from getty_tx.client import Client
from tests.transports.test_reconnecting import FakeEndpoint, PoolCase


class NamedEndpoint(FakeEndpoint):
    """A FakeEndpoint with a name."""

    def __init__(self, clock: Any, name: str) -> None:
        super().__init__(clock)
        self.name = name

    def __repr__(self) -> str:
        return self.name


class SeveralCase(PoolCase):
    """A client of several endpoints, which may leave nothing behind when it is closed."""

    def setUp(self) -> None:
        super().setUp()
        self.endpoints: dict[str, NamedEndpoint] = {}

    def named(self, name: str) -> NamedEndpoint:
        """The endpoint of this name."""
        if name not in self.endpoints:
            self.endpoints[name] = NamedEndpoint(self.clock, name)
        return self.endpoints[name]

    def several(self, names: str, number: int = 1, **options: Any) -> Client:
        """A started client of the endpoints with these names, of a letter each."""
        client = Client(self.newSession, list(map(self.named, names)), number, reactor=self.clock, **options)
        client.startService()
        self.addCleanup(self.finish, client)
        return client

    def answerAll(self) -> None:
        """Let all attempts succeed."""
        for endpoint in list(self.endpoints.values()):
            endpoint.answer()

    def openedSeveral(self, names: str, number: int = 1, **options: Any) -> Client:
        """A client whose sessions are all open."""
        client = self.several(names, number, **options)
        self.answerAll()
        self.assertEqual(len(client.sessions), number * len(names))
        return client

    def lose(self, name: str) -> None:
        """All connections with an endpoint are lost."""
        for dial in self.endpoints[name].dials:
            if dial.transport is not None:
                dial.transport.lose(ConnectionDone())

    def finish(self, client: Client) -> None:
        """As for a client of one, for all endpoints."""
        closing = client.close()
        for name in self.endpoints:
            self.lose(name)
        self.clock.advance(0)
        self.successResultOf(closing)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        dials = [len(each.dials) for each in self.endpoints.values()]
        self.clock.pump([1] * 10)
        self.assertEqual([len(each.dials) for each in self.endpoints.values()], dials)
        self.assertEqual(client.sessions, [])


def nameOf(session: Any) -> str:
    """The name of the endpoint that a session is with."""
    return str(session.connection.factory.group.id)
