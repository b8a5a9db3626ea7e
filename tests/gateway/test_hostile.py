"""Clients that are malformed, greedy or slow."""

from __future__ import annotations

import json
import random
from typing import Any

from getty_tx.gateway import Rules
from getty_tx.groups import Namespace
from tests.support.gateway import GatewayCase, RawClient

BAD = (3501, "bad request")


class HostileTests(GatewayCase):
    def namespaces(self) -> dict[str, Rules]:
        space = Namespace(historySize=10, historySeconds=60, presence=True, maxPublication=500)
        may: dict[str, Any] = dict.fromkeys(("subscribe", "publish", "history", "presence"), "anyone")
        return {"news": Rules(**may, namespace=space)}

    def isBad(self, message: str | bytes, client: RawClient | None = None) -> None:
        """A message after which the client is closed, and told not to come back."""
        client = client or self.connected()
        client.send(message)
        self.assertEqual((client.heard(), client.closed), ([], BAD), message)

    def test_garbage(self) -> None:
        """What is no JSON, or none of the protocol."""
        for message in (
            "x",
            "[]",
            "null",
            "1",
            '"connect"',
            "{",
            b"{}",
            '{"id":1}',
            '{"id":1,"fly":{}}',
            '{"id":1,"publish":[]}',
            '{"subscribe":{"channel":"news:1"}}',
            '{"id":-1,"subscribe":{"channel":"news:1"}}',
            '{"id":true,"subscribe":{"channel":"news:1"}}',
            '{"id":4294967296,"subscribe":{"channel":"news:1"}}',
            '{"id":1.5,"subscribe":{"channel":"news:1"}}',
            '{"id":1,"connect":{}}',
            '{"id":1,"history":{"channel":"news:1","limit":NaN}}',
            '{"id":1,"publish":{"channel":"news:1","data":Infinity}}',
            '{"id":1,"publish":{"channel":"news:1"}}',
            '{"id":1,"publish":{"channel":"news:1","data":' + "[" * 30_000 + "]" * 30_000 + "}}",
            '{"id":1,"publish":{"channel":"news:1","data":' + "1" * 5000 + "}}",
            "{}",
        ):
            self.isBad(message)

    def test_beforeConnect(self) -> None:
        """Nothing but connect may come first."""
        for message in (
            '{"id":1,"subscribe":{"channel":"news:1"}}',
            "{}",
            '{"send":{}}',
            '{"id":1,"connect":{"token":1}}',
        ):
            self.isBad(message, self.client())

    def test_parameters(self) -> None:
        for method in ("subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history", "sub_refresh"):
            for channel in ("", 1, None, [], {}):
                self.isBad(json.dumps({"id": 1, method: {"channel": channel, "data": 1}}))
        for more in (
            {"recover": 1},
            {"recover": True, "offset": -1},
            {"recover": True, "offset": 2**63},
            {"recover": True, "offset": 1.5},
            {"recover": True, "offset": "1"},
            {"recover": True, "epoch": 7},
            {"token": 1},
            {"flag": -1},
            {"join_leave": "yes"},
        ):
            self.isBad(json.dumps({"id": 1, "subscribe": {"channel": "news:1", **more}}))
        for more in ({"limit": -2}, {"limit": "1"}, {"since": []}, {"since": {"offset": -1}}, {"reverse": 1}):
            self.isBad(json.dumps({"id": 1, "history": {"channel": "news:1", **more}}))

    def test_names(self) -> None:
        """Names that are none of a group are refused, and make nothing."""
        client = self.connected()
        for channel in ("x" * 256, "a b", "a\n", "a\x00", " ", "\ud800", "a\u2028b"):
            for method in ("subscribe", "publish", "history", "presence"):
                self.assertEqual(client.code(**{method: {"channel": channel, "data": 1}}), 107, channel)
        self.assertEqual(self.gateway.groups.active, {})
        self.assertIn("subscribe", client.ask(subscribe={"channel": "news:" + "x" * 250}))

    def test_refused(self) -> None:
        """What there is not, and what is too long."""
        client = self.connected()
        self.assertEqual(client.code(rpc={"method": "x"}), 108)
        self.assertEqual(client.code(publish={"channel": "news:1", "data": "x" * 500}), 106)
        self.assertEqual(client.code(publish={"channel": "news:1", "data": "\ud800"}), 107)
        client.send('{"send":{"data":1}}')
        self.assertEqual((client.heard(), client.closed), ([], (3508, "not available")))

    def test_channels(self) -> None:
        """No more than 128, and after them 20 in a second; who comes back has all of them at once."""
        client = self.connected()
        for number in range(128):
            client.say(subscribe={"channel": f"news:{number}"})
        self.assertEqual(sum("subscribe" in each for each in client.heard()), 128)
        self.assertEqual(client.code(subscribe={"channel": "news:x"}), 111)
        self.settle(1)
        client.heard()
        self.assertEqual(client.code(subscribe={"channel": "news:x"}), 106)
        self.assertEqual(client.code(subscribe={"channel": "news:1"}), 105)
        client.ask(unsubscribe={"channel": "news:1"})
        for _ in range(18):
            client.ask(subscribe={"channel": "news:1"})
            client.ask(unsubscribe={"channel": "news:1"})
        self.assertEqual(client.code(subscribe={"channel": "news:1"}), 111)
        self.settle(0.1)
        client.heard()
        self.assertIn("subscribe", client.ask(subscribe={"channel": "news:1"}))

    def test_questions(self) -> None:
        """History and presence have their limit, too."""
        client = self.connected()
        client.send("\n".join(f'{{"id":{n},"history":{{"channel":"news:1"}}}}' for n in range(1, 200)))
        heard = client.heard()
        self.assertEqual([each.get("error", {}).get("code") for each in heard], [None] * 128 + [111] * 71)

    def test_long(self) -> None:
        """A message that is too long ends the connection."""
        client = self.connected()
        client.send(" " * (64 * 1024 + 1))
        client.heard()
        assert client.closed is not None
        self.assertEqual(client.closed[0], 1009)

    def test_emptyLines(self) -> None:
        """They are nothing, and harm nobody."""
        client = self.connected()
        client.send('\n \n{"id":7,"unsubscribe":{"channel":"x"}}\n\r\n')
        self.assertEqual(client.heard(), [{"id": 7, "unsubscribe": {}}])

    def test_origin(self) -> None:
        """Pages of other hosts get no connection."""
        self.assertEqual(self.client(Origin="https://evil.example").status, 403)
        self.assertEqual(self.client(Origin="https://a.example.evil.example").status, 403)
        self.assertEqual(self.client(Origin="null").status, 403)
        self.assertEqual(self.client(Origin="https://a.example").status, 101)
        self.assertEqual(self.client().status, 101)

    def test_random(self) -> None:
        """Whatever comes, the gateway has no error of its own, and others are served."""
        choose = random.Random(7)
        words = [
            "news:1",
            "news:2",
            "x",
            "",
            0,
            1,
            -1,
            2**63,
            1.5,
            None,
            True,
            [],
            {},
            "\ud800",
            {"offset": 1},
            "local",
        ]
        names = ["channel", "data", "token", "recover", "offset", "epoch", "flag", "limit", "since", "reverse", "subs"]
        methods = ["connect", "subscribe", "unsubscribe", "publish", "presence", "presence_stats", "history", "rpc"]
        methods += ["send", "refresh", "sub_refresh"]
        other = self.connected()
        for _ in range(300):
            client = self.connected() if choose.random() < 0.9 else self.client()
            for _ in range(6):
                params: Any = {name: choose.choice(words) for name in choose.sample(names, choose.randrange(5))}
                if choose.random() < 0.8:
                    params["channel"] = "news:1"
                if not client.peer.ended and client.peer.lost is None:
                    client.send(json.dumps({"id": choose.choice([1, 2, 0]), choose.choice(methods): params}))
            client.heard()
            self.assertIn(client.closed and client.closed[0], (None, 3005, 3500, 3501, 3508))
            client.peer.close()
            self.clients.remove(client)
        self.assertIn("subscribe", other.ask(subscribe={"channel": "news:1"}))
        self.assertEqual(list(self.gateway.groups.active), ["news:1"])


class SlowTests(GatewayCase):
    """A client that asks for much and reads nothing."""

    def namespaces(self) -> dict[str, Rules]:
        space = Namespace(historySize=10, historySeconds=60)
        return {"news": Rules(subscribe="anyone", history="anyone", namespace=space)}

    def test_reads(self) -> None:
        """It is not heard any more while its answers wait, and loses none of them."""
        client = self.client(capacity=64 * 1024)
        client.ask(connect={})
        for _ in range(10):
            self.publish("news:1", "x" * 20_000)
        server: Any = client.peer.pair.serverTransport.protocol
        transport: Any = client.peer.transport
        transport.pauseProducing()
        for number in range(1, 41):
            client.send(f'{{"id":{number},"history":{{"channel":"news:1","limit":10}}}}')
        self.assertGreater(server.session.pendingBytes, 200_000)
        self.assertLess(server.session.pendingBytes, 1_000_000)
        transport.resumeProducing()
        client.peer.pair.flush()
        self.assertEqual([each["id"] for each in client.heard()], list(range(1, 41)))

    def test_closed(self) -> None:
        """One message that asks for more than may wait is the last."""
        client = self.client(capacity=64 * 1024)
        client.ask(connect={})
        for _ in range(10):
            self.publish("news:1", "x" * 20_000)
        server: Any = client.peer.pair.serverTransport.protocol
        session = server.session
        session.maxPending = 1_000_000
        transport: Any = client.peer.transport
        transport.pauseProducing()
        client.send("\n".join(f'{{"id":{n},"history":{{"channel":"news:1","limit":10}}}}' for n in range(1, 100)))
        self.assertLess(session.pendingBytes, 1_300_000)
        transport.resumeProducing()
        client.peer.pair.flush()
        self.assertLess(len(client.heard()), 10)
        self.assertEqual(client.closed, (3008, "slow"))
