"""Hooks: what an observer hears, and when; and the books of sessions that have ended."""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import Observer, Server
from getty_tx.errors import ReadTimeoutError, SelfConnectError, WriteTimeoutError
from getty_tx.session.totals import CLOSE_REASONS, OTHER, Endpoints
from getty_tx.testing import Peer
from tests.support.memory import SessionCase, configure, frame


class Recorder(Observer):
    """Keeps what it hears, beside what the listener hears."""

    def __init__(self, heard: list[Any]) -> None:
        self.heard = heard

    def opened(self, session: Any) -> None:
        """A session is open."""
        self.heard.append("opened")

    def closed(self, session: Any, reason: Any) -> None:
        """It has ended."""
        self.heard.append(("closed", reason, session.stats.readPkgs, dict(session.attributes)))

    def refused(self, service: Any, reason: Any, why: str) -> None:
        """A connection was refused."""
        self.heard.append(("refused", reason))

    def error(self, session: Any, error: BaseException) -> None:
        """A session failed."""
        self.heard.append(("error", error))


class Broken(Observer):
    """Raises whatever it hears."""

    def opened(self, session: Any) -> None:
        """A session is open."""
        raise ValueError("opened")

    def closed(self, session: Any, reason: Any) -> None:
        """It has ended."""
        raise ValueError("closed")


class ObserverTests(SessionCase):
    """Sessions in memory."""

    def observe(self, on: dict[str, Any] | None = None, **more: Any) -> list[Any]:
        """Open a session whose observer and listener tell one list; that is after onOpen."""
        heard: list[Any] = []
        recorder = Recorder(heard)

        def note(name: str, hook: Any) -> Any:
            def call(session: Any, *args: Any) -> Any:
                heard.append(name)
                return hook and hook(session, *args)

            return call

        hooks = {name: note(name, (on or {}).get(name)) for name in ("open", "message", "error", "close")}
        wanted = more.pop("newSession", None)

        def newSession(session: Any) -> None:
            session.context.observers.add(recorder)
            session.context.observers.add(recorder)
            (wanted or configure(self.heard, **more))(session)

        self.open(hooks, newSession=newSession, autoClose=True)
        return heard

    def test_order(self) -> None:
        """Opened after onOpen, closed after onClose, when the attributes are still there."""

        def keep(session: Any, pkg: Any) -> None:
            session.attributes["last"] = pkg

        heard = self.observe({"message": keep})
        self.pair.peer.write(frame(b"x"))
        self.pair.peer.end()
        self.pair.flush()
        self.assertEqual(["open", "opened", "message", "close", ("closed", "peer", 1, {"last": b"x"})], heard)
        self.assertEnded()

    def test_error(self) -> None:
        """Before onError, once."""
        error = ValueError("no way")
        heard = self.observe()
        self.pair.server.close(error)
        self.pair.server.close(KeyError("later"))
        self.pair.flush()
        self.assertEqual(["open", "opened", ("error", error), "error", "close", ("closed", "error", 0, {})], heard)

    def test_refused(self) -> None:
        """By its reason."""

        def refuse(session: Any) -> None:
            raise ValueError("not you")

        self.assertEqual([("refused", "newSession")], self.observe(newSession=refuse))

    def test_broken(self) -> None:
        """What an observer raises is logged, and hurts neither the session nor other observers."""
        heard = self.observe()
        recorder = self.factory.context.observers.all[0]
        self.factory.removeObserver(recorder)
        self.factory.addObserver(Broken())
        self.factory.addObserver(recorder)
        other = self.network.join(self.factory.buildProtocol(None), Peer(True))
        other.server.close()
        other.flush()
        self.assertEqual(["open", "opened", "close", ("closed", "local", 0, {})], heard[2:])
        self.assertEqual(2, len(self.flushLoggedErrors(ValueError)))

    def test_services(self) -> None:
        """Server and Client pass observers on."""
        server = Server(configure(), "tcp:0", reactor=MemoryReactorClock())
        observer = Observer()
        server.addObserver(observer)
        self.assertEqual((observer,), server._factory.observers.all)
        server.removeObserver(observer)
        self.assertEqual((), server._factory.observers.all)


class TotalsTests(SessionCase):
    """The books of the context."""

    def end(self, how: Any) -> dict[str, int]:
        """Let a session end; the reasons in the books."""
        self.open(autoClose=True)
        how(self.pair)
        self.pair.flush()
        self.assertEnded()
        return self.factory.context.totals[""].closed

    def test_reasons(self) -> None:
        """Each end has its own, and each is one of the list."""
        ways: dict[str, Any] = {
            "local": lambda pair: pair.server.close(),
            "stopping": lambda pair: pair.server.context.closeAll(),
            "maxLifetime": lambda pair: (setattr(pair.server, "maxLifetime", 5.0), pair.advance(5.2)),
            "peer": lambda pair: pair.peer.end(),
            "readTimeout": lambda pair: pair.server.close(ReadTimeoutError("", pair.server)),
            "writeTimeout": lambda pair: pair.server.close(WriteTimeoutError("", pair.server)),
            "codec": lambda pair: pair.peer.write(b"\xff" * 8),
            "lost": lambda pair: pair.peer.transport.abortConnection(),
            "error": lambda pair: pair.server.close(SelfConnectError("", pair.server)),
        }
        for reason, how in ways.items():
            self.assertEqual({reason: 1}, self.end(how))
            self.assertIn(reason, CLOSE_REASONS)

    def test_lifetime(self) -> None:
        """That a session would have been ended later is no reason."""

        def how(pair: Any) -> None:
            pair.server.maxLifetime = 5.0
            pair.peer.end()

        self.assertEqual({"peer": 1}, self.end(how))

    def test_sums(self) -> None:
        """What ended sessions have counted stays."""
        self.open(autoClose=True)
        pairs = [self.pair, self.network.join(self.factory.buildProtocol(None), Peer(True))]
        for pair in pairs:
            pair.peer.write(frame(b"abc"))
            pair.flush()
            pair.server.writePkg(b"x")
            pair.server.close()
            pair.flush()
        [totals] = self.factory.context.totals.values()
        self.assertEqual((2, 14, 2, 10), (totals.readPkgs, totals.readBytes, totals.writePkgs, totals.writeBytes))


class _Address:
    def __init__(self, kind: str, host: str, port: int) -> None:
        self.type, self.host, self.port = kind, host, port


class _Session:
    def __init__(self, address: Any) -> None:
        self.localAddr = address


class EndpointsTests(SynchronousTestCase):
    """Which endpoint a session came to."""

    def test_of(self) -> None:
        """By the address of its own end; a listener on all addresses has every host."""
        endpoints = Endpoints()
        endpoints.add(_Address("TCP", "0.0.0.0", 1), "all")
        endpoints.add(_Address("TCP", "127.0.0.2", 1), "two")
        endpoints.add(_Address("UDP", "127.0.0.1", 1), "datagrams")
        for address, expected in (
            (_Address("TCP", "127.0.0.1", 1), "all"),
            (_Address("TCP", "127.0.0.2", 1), "two"),
            (_Address("UDP", "127.0.0.1", 1), "datagrams"),
            (_Address("TCP", "127.0.0.1", 2), OTHER),
        ):
            session: Any = _Session(address)
            self.assertEqual(expected, endpoints.of(session))
