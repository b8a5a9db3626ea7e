"""Clients behind proxies."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from getty_tx import http
from getty_tx.errors import SettingError
from getty_tx.http import proxy
from getty_tx.http.fields import Fields
from getty_tx.http.request import Request
from tests.support.http import Case

#: The address of the client in memory.
PEER = "198.51.100.1"


class ProxyTests(Case):
    """What is taken from whom."""

    def seen(self, *fields: str, proxies: Any = (PEER,)) -> tuple[Any, str]:
        """The client and the scheme that a handler sees."""
        seen: list[Any] = []
        talk = self.talk(lambda request: seen.append((request.client, request.scheme)) or b"", proxies=proxies)
        talk.send("\r\n".join(["GET / HTTP/1.1", "Host: a", *fields, "", ""]).encode())
        return seen[0]  # type: ignore[no-any-return]

    def test_nobody(self) -> None:
        fields = ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"]
        for proxies in (None, (), ("10.0.0.0/8",), ("unix",)):
            self.assertEqual(self.seen(*fields, proxies=proxies), ((PEER, 50000), "http"))

    def test_rightmost(self) -> None:
        """The client is the first from the right that is no trusted proxy."""
        proxies = (PEER, "10.0.0.0/8")
        for value, host in (
            ("192.0.2.1", "192.0.2.1"),
            ("203.0.113.9, 192.0.2.1", "192.0.2.1"),
            ("203.0.113.9, 192.0.2.1, 10.1.2.3", "192.0.2.1"),
            ("203.0.113.9,192.0.2.1 ,\t10.1.2.3,10.0.0.1", "192.0.2.1"),
            ("10.9.9.9, 10.1.2.3", "10.9.9.9"),
            ("2001:db8::1, 10.1.2.3", "2001:db8::1"),
        ):
            self.assertEqual(self.seen(f"X-Forwarded-For: {value}", proxies=proxies)[0], (host, 0), value)

    def test_severalFields(self) -> None:
        """They are joined: a client's own field is left of the proxy's."""
        fields = ["X-Forwarded-For: 203.0.113.9", "X-Forwarded-For: 192.0.2.1"]
        self.assertEqual(self.seen(*fields)[0], ("192.0.2.1", 0))

    def test_kept(self) -> None:
        """Who is behind a peer is kept, for the same field of the same peer only, and within bounds."""
        proxies = http.Proxies(PEER, "10.0.0.0/8")
        seen: list[Any] = []
        for field in ("192.0.2.1", "192.0.2.2", "", "192.0.2.1", "192.0.2.1," * 50 + "192.0.2.3"):
            for peer in ((PEER, 1), (PEER, 2), ("203.0.113.9", 3), None):
                exchange = SimpleNamespace(clientOf=lambda request, peer=peer: proxies.clientOf(request, peer))
                request: Any = Request("GET", b"/", "1.1", Fields([(b"x-forwarded-for", field.encode())]))
                request.exchange = exchange
                seen.append(request.client)
        own = [(PEER, 1), (PEER, 2), ("203.0.113.9", 3), None]
        behind = [[(host, 0), (host, 0), *own[2:]] for host in ("192.0.2.1", "192.0.2.2", "192.0.2.3")]
        self.assertEqual([*behind[0], *behind[1], *own, *behind[0], *behind[2]], seen)
        self.assertEqual(9, len(proxies._known))
        for number in range(proxy.MAX_KNOWN + 10):
            request = Request("GET", b"/", "1.1", Fields([(b"x-forwarded-for", b"%d" % number)]))
            proxies.clientOf(request, (PEER, 1))
            self.assertLessEqual(len(proxies._known), proxy.MAX_KNOWN)

    def test_ports(self) -> None:
        for value, client in (
            ("192.0.2.1:1234", ("192.0.2.1", 1234)),
            ("[2001:db8::1]:1234", ("2001:db8::1", 1234)),
            ("[2001:db8::1]", ("2001:db8::1", 0)),
            ("192.0.2.1:99999", ("192.0.2.1", 0)),
        ):
            self.assertEqual(self.seen(f"X-Forwarded-For: {value}")[0], client)

    def test_severalWithPorts(self) -> None:
        fields = ["X-Forwarded-For: 192.0.2.4:1234, [2001:db8::1]:8080", "X-Forwarded-For: 10.0.0.2:9000"]
        for proxies, client in (
            (("*",), ("192.0.2.4", 1234)),
            ((PEER, "10.0.0.2"), ("2001:db8::1", 8080)),
            ((PEER, "10.0.0.0/8", "2001:db8::/32"), ("192.0.2.4", 1234)),
            ((PEER, "10.0.0.2", "2001:db8::1", "192.0.2.4"), ("192.0.2.4", 1234)),
            ((PEER,), ("10.0.0.2", 9000)),
        ):
            self.assertEqual(self.seen(*fields, proxies=proxies)[0], client, proxies)

    def test_wrongPorts(self) -> None:
        """The address counts, without the port."""
        for value, host in (
            ("192.0.2.4:no", "192.0.2.4"),
            ("192.0.2.4:", "192.0.2.4"),
            ("[2001:db8::1]:no", "2001:db8::1"),
            ("[2001:db8::1]more", "2001:db8::1"),
        ):
            self.assertEqual(self.seen(f"X-Forwarded-For: {value}")[0], (host, 0), value)

    def test_schemeAlone(self) -> None:
        """A proxy that tells the scheme, and no client or an empty list of them."""
        for fields in (["X-Forwarded-For: "], ["X-Forwarded-For:  , ,"], []):
            self.assertEqual(self.seen(*fields, "X-Forwarded-Proto: https"), ((PEER, 50000), "https"), fields)

    def test_severalSchemes(self) -> None:
        """The last field is the one of the proxy next to the server."""
        for first, last in (("https", "http"), ("http", "https")):
            fields = [f"X-Forwarded-Proto: {first}", f"X-Forwarded-Proto: {last}"]
            self.assertEqual(self.seen(*fields)[1], last)

    def test_garbage(self) -> None:
        """What is no address ends the search: the last known hop is the client."""
        for value in ("unknown", "", "_hidden", "192.0.2.1.5", "<script>", "fe80::1%eth0", '[fe80::1%" 200]:1'):
            self.assertEqual(self.seen(f"X-Forwarded-For: 192.0.2.7, {value}")[0], (PEER, 50000), value)
        value = "192.0.2.7, unknown, 10.0.0.1"
        self.assertEqual(self.seen(f"X-Forwarded-For: {value}", proxies=(PEER, "10.0.0.0/8"))[0], ("10.0.0.1", 0))

    def test_scheme(self) -> None:
        for value, scheme in (
            ("https", "https"),
            ("wss", "https"),
            ("ws", "http"),
            ("http, https", "https"),
            ("https, http", "http"),
            ("HTTPS", "http"),
            ("javascript", "http"),
            ("", "http"),
        ):
            self.assertEqual(self.seen(f"X-Forwarded-Proto: {value}")[1], scheme, value)

    def test_forwarded(self) -> None:
        """RFC 7239, and only one of the two fields."""
        proxies = http.Proxies(PEER, "10.0.0.0/8", field="Forwarded")
        field = 'Forwarded: for=203.0.113.9, For="[2001:db8::1]:4711";proto=http, for=10.0.0.1;proto=https;by=x'
        seen = self.seen(field, "X-Forwarded-For: 192.0.2.66", proxies=proxies)
        self.assertEqual(seen, (("2001:db8::1", 4711), "https"))
        self.assertEqual(self.seen("Forwarded: for=192.0.2.66")[0], (PEER, 50000))

    def test_all(self) -> None:
        seen = self.seen("X-Forwarded-For: 192.0.2.1, 203.0.113.9", proxies=("*",))
        self.assertEqual(seen[0], ("192.0.2.1", 0))
        # What is no address ends the search here, too.
        seen = self.seen("X-Forwarded-For: 192.0.2.1, \xf0\xfd, unix:, ::1", proxies=("*",))
        self.assertEqual(seen[0], ("::1", 0))

    def test_trusts(self) -> None:
        proxies = http.Proxies("127.0.0.1", "::1", "192.0.2.0/24")
        for host, trusted in (
            ("127.0.0.1", True),
            ("::1", True),
            ("192.0.2.200", True),
            ("::ffff:192.0.2.200", True),
            ("192.0.3.1", False),
            ("name", False),
            (None, False),
        ):
            self.assertEqual(proxies.trusts(host), trusted, host)
        self.assertTrue(http.Proxies("unix").trusts(None))

    def test_refused(self) -> None:
        for proxies, why in (
            (("10.0.0.1/8",), "'10.0.0.1/8' is no network"),
            (("proxy.example",), "'proxy.example' is no network"),
            ("10.0.0.0/8", "give a list of networks"),
        ):
            error = self.assertRaises(SettingError, self.talk, lambda request: b"", proxies=proxies)
            self.assertIn(why, str(error))
        self.assertRaises(SettingError, http.Proxies, field="X-Real-IP")
