"""The endpoints of clients with several, as the status shows them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from getty_tx import Client, EventListener, Server
from getty_tx.client.group import Group
from getty_tx.client.pool import MAX_COUNTED
from getty_tx.codecs import LineCodec
from getty_tx.status.merging import emptySnapshot, mergeInto
from getty_tx.status.metrics import families
from getty_tx.status.providers import MAX_ROWS, MAX_TEXT, PROVIDER_STATES
from getty_tx.status.snapshot import walk
from getty_tx.status.source import ProcessSource
from tests.support.fakeregistry import FollowingCase, provider
from tests.support.several import SeveralCase

if TYPE_CHECKING:
    from getty_tx.status.snapshot import ServiceSnapshot


def snapshotOf(client: Client) -> ServiceSnapshot:
    """Of one client."""
    *_, found = walk("relay", client)
    assert found is not None
    return found


def metricsOf(service: ServiceSnapshot, prefix: str) -> dict[str, float]:
    """The metrics that begin so and are not 0, by their labels without the service."""
    snapshot = emptySnapshot()
    snapshot.services.append(service)
    return {
        " ".join([sample.name, *list(sample.labels.values())[1:]]): sample.value
        for family in families(snapshot)
        if family.name.startswith(prefix)
        for sample in family.samples
        if sample.value
    }


class ListTests(SeveralCase):
    """A client of a list of endpoints."""

    def test_each(self) -> None:
        """Each has its places, its state, for how long, and what is wrong; those with something wrong are first."""
        client = self.several("abc", 2)
        self.endpoints["a"].answer()
        self.endpoints["b"].dials[0].succeed()
        for dial in list(self.endpoints["c"].pending):
            dial.deferred.errback(ConnectionRefusedError("refused" + MAX_TEXT * "!"))
        self.clock.advance(0.2)
        found = snapshotOf(client).providers
        assert found is not None
        self.assertEqual(found.states, {**dict.fromkeys(PROVIDER_STATES, 0), "open": 2, "connecting": 1})
        rows = [(each.id, each.state, each.sessions, each.places, each.seconds) for each in found.rows]
        self.assertEqual(rows, [("c", "connecting", 0, 2, 0.2), ("a", "open", 2, 2, 0.2), ("b", "open", 1, 2, 0.2)])
        self.assertIn("refused!", found.rows[0].error)
        self.assertEqual(len(found.rows[0].error), MAX_TEXT)
        self.assertEqual([each.error for each in found.rows[1:]], ["", ""])

    def test_ejected(self) -> None:
        """One that is left out, and how many times any was."""
        client = self.openedSeveral("ab")
        client.eject("b", 5)
        self.assertEqual(
            metricsOf(snapshotOf(client), "getty_client"),
            {"getty_client_providers open": 1, "getty_client_providers ejected": 1, "getty_client_ejections_total": 1},
        )
        client.eject("b", 5)
        self.clock.advance(5)
        client.eject("a", 5)
        self.assertEqual(client.ejections, 2)
        self.clock.advance(5)
        self.assertEqual(
            metricsOf(snapshotOf(client), "getty_client"),
            {"getty_client_providers open": 2, "getty_client_ejections_total": 2},
        )

    def test_counted(self) -> None:
        """What sessions have read and written, and why they ended, is counted for each endpoint."""
        client = self.openedSeveral("ab")
        for session in client.sessions:
            session.writePkg(b"x" if session.connection.factory.group.id == "a" else b"xyz")  # type: ignore[attr-defined]
        self.lose("b")
        found = snapshotOf(client)
        self.assertEqual(list(found.endpoints), ["a", "b"])
        self.assertEqual(
            metricsOf(found, "getty_sessions"),
            {
                "getty_sessions_opened_total a": 1,
                "getty_sessions_opened_total b": 1,
                "getty_sessions_closed_total b peer": 1,
                "getty_sessions a open": 1,
            },
        )
        written = {name: each.totals.writeBytes for name, each in found.endpoints.items()}
        self.assertEqual(written, {"a": 2, "b": 4})

    def test_many(self) -> None:
        """Above a number of endpoints they are counted together."""
        names = [f"tcp:h{i}:1" for i in range(MAX_COUNTED)]
        self.assertEqual(Client(self.newSession, names).endpoints, tuple(names))
        many = Client(self.newSession, [*map(self.named, names), self.named("more")], reactor=self.clock)
        many.startService()
        self.answerAll()
        self.assertEqual(many.endpoints, (many.destination,))
        found = snapshotOf(many)
        self.assertEqual({name: each.opened for name, each in found.endpoints.items()}, {many.destination: 101})
        self.finish(many)

    def test_one(self) -> None:
        """A client of one endpoint, and a server, have none of this."""
        client = Client(self.newSession, "tcp:a:1")
        self.assertIsNone(snapshotOf(client).providers)
        self.assertEqual(metricsOf(snapshotOf(client), "getty_client"), {})
        self.assertEqual(client.ejections, 0)
        server: Any = Server(self.newSession, "tcp:0")
        self.assertIsNone(snapshotOf(server).providers)

    def test_source(self) -> None:
        """A snapshot of a process has them, also merged with that of others."""
        client = self.openedSeveral("ab")
        *_, snapshot = ProcessSource({"relay": client}, self.clock).walk()
        assert snapshot is not None
        total = emptySnapshot()
        mergeInto(total, snapshot)
        mergeInto(total, emptySnapshot())
        self.assertIs(total.services[0].providers, snapshot.services[0].providers)


class FollowingTests(FollowingCase):
    """A client that follows a registry."""

    def test_states(self) -> None:
        """All states that there are."""
        there = re.findall(r'``"(\w+)"``', Group.state.__doc__ or "")
        self.assertEqual(sorted(PROVIDER_STATES), sorted(there))

    def test_many(self) -> None:
        """Counted together; 50 have a row."""
        client = self.following()
        self.registry.tell([provider(f"h{i:03}") for i in range(MAX_ROWS + 10)])
        self.clock.pump([0] * 10)
        self.answerAll()
        self.clock.pump([0] * 10)
        self.answerAll()
        gone = client.providers[30].provider
        self.registry.tell(removed=[gone])
        service = snapshotOf(client)
        found = service.providers
        assert found is not None
        self.assertEqual((found.states["open"], found.states["orphaned"]), (MAX_ROWS + 9, 1))
        self.assertEqual(len(found.rows), MAX_ROWS)
        self.assertEqual((found.rows[0].state, found.rows[0].id), ("orphaned", gone.id))
        self.assertEqual(list(service.endpoints), ["service:echo"])
        self.assertEqual(service.endpoints["service:echo"].opened, MAX_ROWS + 10)


class SocketTests(TestCase):
    """On sockets."""

    async def test_kinds(self) -> None:
        """The endpoint of a session is known whatever its kind."""

        def newSession(session: Any) -> None:
            session.codec = LineCodec()
            session.listener = EventListener()

        kinds = ("tcp", "ws")
        server = Server(newSession, *(f"{kind}:0:interface=127.0.0.1" for kind in kinds))
        server.startService()
        self.addCleanup(server.stopService)
        ports = [address.port for address in await server.whenListening()]
        endpoints = [f"{kind}:127.0.0.1:{port}" for kind, port in zip(kinds, ports, strict=True)]
        client = Client(newSession, endpoints)
        client.startService()
        self.addCleanup(client.stopService)
        await client.whenReady(2)
        self.assertEqual([client.providerOf(each).id for each in client.sessions], endpoints)
        found = snapshotOf(client)
        self.assertEqual({name: each.opened for name, each in found.endpoints.items()}, dict.fromkeys(endpoints, 1))
        for session in client.sessions:
            session.close()
        context = client.contexts[0]
        while context.sessions:
            await deferLater(reactor, 0.01)
        self.assertEqual(
            {name: each.closed for name, each in context.totals.items()}, {each: {"local": 1} for each in endpoints}
        )
