"""What is advertised of a server's endpoints."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import fail, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.endpoints import clientEndpoint, dialedWith
from getty_tx.errors import SettingError
from getty_tx.registry import RegistryError
from getty_tx.registry.advertising import Places
from getty_tx.registry.provider import KINDS, checkEndpoint
from getty_tx.testing import MemoryRegistry

ALL = IPv4Address("TCP", "0.0.0.0", 8090)
ONE = IPv4Address("TCP", "10.0.0.5", 8090)
LOOPBACK = IPv4Address("TCP", "127.0.0.1", 8090)
SOCKET = UNIXAddress(b"/run/a:b.sock")


class AdvertisingTests(SynchronousTestCase):
    """The descriptions for bound addresses."""

    def setUp(self) -> None:
        self.local: Any = MemoryRegistry(Clock())
        self.remote: Any = MemoryRegistry(Clock())
        self.remote.engine.isLocal = False
        self.remote.engine.hostTowards = lambda: succeed("10.0.0.7")

    def of(self, endpoint: str, address: Any, advertise: Any = None, registry: Any = None) -> str:
        """What is advertised; it is what records may have, and what a client can dial."""
        places = Places([endpoint], advertise, registry or self.remote)
        (description,) = self.successResultOf(places.of([address]))
        checkEndpoint(description, KINDS | {"unix"})
        clientEndpoint(description, None)
        return description

    def test_hosts(self) -> None:
        """The interface that is bound, or for all of them the way to the registry; or what somebody says."""
        six = IPv6Address("TCP", "::", 8090)
        for address, advertise, local, remote in (
            (ONE, None, "10.0.0.5", "10.0.0.5"),
            (ALL, None, "127.0.0.1", "10.0.0.7"),
            (six, None, "\\:\\:1", "10.0.0.7"),
            (IPv6Address("TCP", "2001:db8::5", 8090), None, *["2001\\:db8\\:\\:5"] * 2),
            (ALL, "a.example", "a.example", "a.example"),
            (LOOPBACK, "2001:db8::7", *["2001\\:db8\\:\\:7"] * 2),
            (LOOPBACK, "127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ):
            for registry, host in ((self.local, local), (self.remote, remote)):
                self.assertEqual(self.of("tcp:0", address, advertise, registry), f"tcp:{host}:8090")

    def test_kinds(self) -> None:
        """Clients dial another kind than the server listens on, or have to know a path."""
        datagrams = IPv4Address("UDP", "10.0.0.5", 8090)
        for endpoint, address, expected in (
            ("ssl:0:privateKey=key.pem", ONE, "tls:10.0.0.5:8090"),
            ("tls:certs:0", ONE, "tls:10.0.0.5:8090"),
            ("tcp6:0", ONE, "tcp:10.0.0.5:8090"),
            ("udp:0", datagrams, "udp:10.0.0.5:8090"),
            ("ws:0", ONE, "ws:10.0.0.5:8090"),
            ("ws:0:path=/echo,/chat", ONE, "ws:10.0.0.5:8090:path=/echo"),
            ("wss:0:path=/a\\:b:privateKey=key.pem", ONE, "wss:10.0.0.5:8090:path=/a\\:b"),
            ("ws:endpoint=ssl\\:0\\:privateKey=key.pem:path=/", ONE, "wss:10.0.0.5:8090"),
            ("systemd:domain=INET:index=0", ONE, "tcp:10.0.0.5:8090"),
        ):
            self.assertEqual(self.of(endpoint, address), expected)

    def test_unixSockets(self) -> None:
        """They are for those on this machine: left out where others read."""
        self.assertEqual(self.of("unix:/run/a\\:b.sock", SOCKET, None, self.local), "unix:/run/a\\:b.sock")
        both = ["unix:/run/a\\:b.sock", "tcp:0"]
        places = Places(both, "b.example", self.local)
        expected = ["unix:/run/a\\:b.sock", "tcp:b.example:8090"]
        self.assertEqual(self.successResultOf(places.of([SOCKET, ALL])), expected)
        self.assertEqual(self.successResultOf(Places(both, None, self.remote).of([SOCKET, ONE])), ["tcp:10.0.0.5:8090"])
        error = self.assertRaises(SettingError, Places, both[:1], None, self.remote)
        self.assertIn("tcp, tls, udp, ws, wss", str(error))
        places = Places(["systemd:domain=UNIX:index=0"], None, self.remote)
        self.failureResultOf(places.of([SOCKET]), SettingError)

    def test_described(self) -> None:
        """One that is behind something else says what clients dial: one description for each endpoint."""
        for endpoint in ("haproxy:tcp:0", "ws:endpoint=unix\\:a.sock:path=/", "udp:0:group=239.0.0.1"):
            self.assertEqual(dialedWith(endpoint), ("", ""))
            self.assertIn("advertise=", str(self.assertRaises(SettingError, Places, [endpoint], None, self.local)))
            self.assertEqual(self.of(endpoint, LOOPBACK, "tls:a.example:443"), "tls:a.example:443")
        objects = [TCP4ServerEndpoint(None, 0)] * 2
        self.assertIn("advertise=", str(self.assertRaises(SettingError, Places, objects, None, self.local)))
        fixed = ["tcp:a:1", "ws:a:2:path=/x"]
        self.assertEqual(self.successResultOf(Places(objects, fixed, self.local).of([ALL, ALL])), fixed)

    def test_refused(self) -> None:
        """What no client could connect to, or what is not one for each endpoint."""
        for advertise, text in (
            ("0.0.0.0", "is no address"),
            ("::", "is no address"),
            ("", "neither a host"),
            ("a b", "neither a host"),
            ("10.0.0.5:8090", "neither a host"),
            ("tcp:0.0.0.0:8090", "no address"),
            ("tcp:\\:\\::8090", "no address"),
            ("tcp:a:0", "a port"),
            ("tcp:a:8090:timeout=5", "nothing else"),
            ("unix:/run/a.sock", "not allowed"),
            (["tcp:a:1", "tcp:a:2"], "2 descriptions for 1 endpoints"),
            ([5], "advertise=5"),
        ):
            error = self.assertRaises(SettingError, Places, ["tcp:0"], advertise, self.remote)
            self.assertIn("advertise=", str(error))
            self.assertIn(text, str(error))
        error = self.assertRaises(SettingError, Places, ["tcp:0", "tcp:1"], ["tcp:a:1"] * 2, self.remote)
        self.assertIn("twice", str(error))

    def test_loopback(self) -> None:
        """It is never guessed for others: an error that says so, at once where the description tells."""
        for endpoint in ("tcp:0:interface=127.0.0.1", "ws:0:interface=127.0.0.1", "udp:0:interface=127.0.0.1"):
            error = self.assertRaises(SettingError, Places, [endpoint], None, self.remote)
            self.assertIn("for this machine alone", str(error))
            self.assertIn("advertise=", str(error))
        places = Places(["tcp:0"], None, self.remote)
        self.failureResultOf(places.of([LOOPBACK]), SettingError)
        self.remote.engine.hostTowards = lambda: succeed("127.0.0.1")
        self.failureResultOf(places.of([ALL]), SettingError)

    def test_noWay(self) -> None:
        """This machine has no address yet: another time it may have one."""
        places = Places(["tcp:0"], None, self.remote)
        self.remote.engine.hostTowards = lambda: succeed("")
        self.assertIn("advertise=", str(self.failureResultOf(places.of([ALL]), RegistryError).value))
        self.remote.engine.hostTowards = lambda: fail(RegistryError("no"))
        self.failureResultOf(places.of([ALL]), RegistryError)

    def test_withoutEngine(self) -> None:
        """Somebody's own registry, of which nobody knows where it is."""
        own: Any = object()
        self.assertEqual(self.of("tcp:0", ONE, None, own), "tcp:10.0.0.5:8090")
        self.failureResultOf(Places(["tcp:0"], None, own).of([ALL]), SettingError)
