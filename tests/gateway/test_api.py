"""The HTTP API."""

from __future__ import annotations

import json
from typing import Any

from getty_tx.testing import connectedHTTP
from tests.support.gateway import KEY, SECRET, GatewayCase


class APITests(GatewayCase):
    def settings(self) -> dict[str, Any]:
        return {"secret": SECRET, "apiKey": KEY}

    def post(self, method: str, body: Any, key: str = KEY) -> tuple[int, Any]:
        """The status and the answer."""
        client = connectedHTTP(self.router, clock=self.clock)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = client.request("POST", f"/api/{method}", {"X-API-Key": key} if key else {}, data)
        self.settle()
        client.pair.flush()
        found = answer.json() if answer.status == 200 else None
        client.close()
        return answer.status, found

    def result(self, method: str, **body: Any) -> Any:
        """What it answers where all is well."""
        status, answer = self.post(method, body)
        self.assertEqual((status, list(answer)), (200, ["result"]), answer)
        return answer["result"]

    def code(self, method: str, body: Any) -> int:
        """The code of the error."""
        status, answer = self.post(method, body)
        self.assertEqual((status, list(answer)), (200, ["error"]), answer)
        code: int = answer["error"]["code"]
        return code

    def test_key(self) -> None:
        for key in ("", "x", KEY[:-1], KEY + "x", "\xff"):
            self.assertEqual(self.post("publish", {"channel": "chat:1", "data": 1}, key), (401, None))

    def test_publish(self) -> None:
        client = self.user("ann")
        client.ask(subscribe={"channel": "chat:1"})
        result = self.result("publish", channel="chat:1", data={"a": "é"}, tags={"lang": "fr"})
        self.assertEqual((result["offset"], sorted(result)), (1, ["epoch", "offset"]))
        pub = {"data": {"a": "é"}, "tags": {"lang": "fr"}, "offset": 1}
        self.assertEqual(client.heard(), [{"push": {"channel": "chat:1", "pub": pub}}])
        self.assertEqual(self.result("publish", channel="news:1", data=None), {})

    def test_once(self) -> None:
        """The same key: the same publication."""
        for _ in range(2):
            found = self.result("publish", channel="chat:1", data=1, idempotency_key="k")
            self.assertEqual(found["offset"], 1)

    def test_broadcast(self) -> None:
        found = self.result("broadcast", channels=["chat:1", "a b", "chat:2", 7], data=1)["responses"]
        self.assertEqual([each.get("error", {}).get("code") for each in found], [None, 107, None, 107])
        self.assertEqual([found[index]["result"]["offset"] for index in (0, 2)], [1, 1])
        self.assertEqual(self.code("broadcast", {"channels": ["a"] * 1001, "data": 1}), 106)

    def test_presence(self) -> None:
        client = self.user("ann")
        client.ask(subscribe={"channel": "chat:1"})
        self.assertEqual(
            self.result("presence", channel="chat:1"), {"presence": {client.id: {"client": client.id, "user": "ann"}}}
        )
        self.assertEqual(self.result("presence_stats", channel="chat:1"), {"num_clients": 1, "num_users": 1})
        self.assertEqual(self.code("presence", {"channel": "news:1"}), 108)

    def test_history(self) -> None:
        for number in range(3):
            self.result("publish", channel="chat:1", data=number)
        found = self.result("history", channel="chat:1", limit=2)
        self.assertEqual(
            found.pop("epoch") and found,
            {"publications": [{"data": 0, "offset": 1}, {"data": 1, "offset": 2}], "offset": 3},
        )
        self.assertEqual(self.result("history", channel="chat:1")["publications"], [])
        self.assertEqual(self.code("history", {"channel": "chat:1", "limit": 1, "since": {"offset": 9}}), 112)
        self.assertEqual(self.code("history", {"channel": "news:1"}), 108)

    def test_disconnect(self) -> None:
        """All sessions of a user, with a code that keeps them away or another."""
        ann, bob = self.user("ann"), self.user("bob")
        self.assertEqual(self.result("disconnect", user="ann"), {})
        self.assertEqual(self.result("disconnect", user="bob", disconnect={"code": 4000, "reason": "later"}), {})
        for client in (ann, bob):
            client.heard()
        self.assertEqual((ann.closed, bob.closed), ((3503, "force disconnect"), (4000, "later")))

    def test_malformed(self) -> None:
        for body in (b"", b"x", b"[]", b"[" * 100_000, {}, {"channel": "a b", "data": 1}, {"channel": 1, "data": 1}):
            self.assertEqual(self.code("publish", body), 107)
        for more in ({}, {"data": "\ud800"}, {"data": 1, "tags": {"a": 1}}, {"data": 1, "tags": []}):
            self.assertEqual(self.code("publish", {"channel": "news:1", **more}), 107)
        for user in (
            {},
            {"user": ""},
            {"user": "a b"},
            {"user": "a", "client": "x"},
            {"user": "a", "disconnect": {"code": 1000}},
        ):
            self.assertEqual(self.code("disconnect", user), 107)
        self.assertEqual(self.code("history", {"channel": "chat:1", "limit": True}), 107)
        self.assertEqual(self.code("history", {"channel": "chat:1", "since": {"offset": 2**63}}), 107)

    def test_tooLong(self) -> None:
        """The error says what was wrong: it is for whoever publishes."""
        status, answer = self.post("publish", {"channel": "chat:1", "data": "x" * (1024 * 1024 - 60)})
        self.assertEqual((status, list(answer)), (200, ["result"]))


class NoAPITests(GatewayCase):
    def test_none(self) -> None:
        """Without a key there is nothing."""
        client = connectedHTTP(self.router, clock=self.clock)
        self.assertEqual(client.request("POST", "/api/publish", {"X-API-Key": ""}, b"{}").status, 404)
        client.close()
