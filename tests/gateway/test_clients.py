"""What clients ask for, and what they get."""

from __future__ import annotations

from typing import Any

from getty_tx.gateway import Rules
from getty_tx.groups import EngineDownError
from tests.support.gateway import CHAT, SECRET, GatewayCase, RawClient, SlowEngine, signed


class ConnectTests(GatewayCase):
    def settings(self) -> dict[str, Any]:
        return {"secret": SECRET}

    def test_connect(self) -> None:
        """It is told who it is, and when it has to expect pings."""
        client = self.client()
        reply = client.ask(connect={"token": signed(sub="ann")})
        self.assertRegex(reply["connect"].pop("client"), "^[0-9a-f]{20}$")
        self.assertEqual(reply, {"connect": {"ping": 25, "pong": True}})

    def test_noToken(self) -> None:
        client = self.client()
        self.assertEqual(client.code(connect={}), 101)
        self.settle(15)
        client.heard()
        self.assertEqual(client.closed, (3502, "stale"))

    def test_wrongToken(self) -> None:
        for token in ("x", signed("another secret of more than 32 bytes"), signed(sub="a b"), signed(channels=[1])):
            client = self.client()
            client.say(connect={"token": token})
            self.assertEqual((client.heard(), client.closed), ([], (3500, "invalid token")))

    def test_expires(self) -> None:
        """It is closed some time after the end of its token, unless it brings a new one."""
        client = self.client()
        reply = client.ask(connect={"token": signed(sub="ann", exp=self.clock.seconds() + 10)})["connect"]
        client.id = reply["client"]
        self.assertEqual((reply["expires"], reply["ttl"]), (True, 10))
        self.settle(20)
        client.pong()
        reply = client.ask(refresh={"token": signed(sub="ann", exp=self.clock.seconds() + 5)})
        self.assertEqual(reply, {"refresh": {"client": client.id, "expires": True, "ttl": 5}})
        self.settle(20)
        client.pong()
        self.settle(9)
        client.pong()
        self.assertIsNone(client.closed)
        self.settle(2)
        client.heard()
        self.assertEqual(client.closed, (3005, "connection expired"))

    def test_expiredToken(self) -> None:
        """At connect the client hears that it needs another; a connection that is refreshed with one comes back."""
        old = signed(sub="ann", exp=self.clock.seconds())
        self.assertEqual(self.client().code(connect={"token": old}), 109)
        for token, closed in (
            (old, (3005, "connection expired")),
            (signed(sub="bob"), (3500, "invalid token")),
            ("x", (3500, "invalid token")),
        ):
            client = self.user("ann")
            client.say(refresh={"token": token})
            self.assertEqual((client.heard(), client.closed), ([], closed))

    def test_channels(self) -> None:
        """Those that the token names come with the answer, with what was missed there, and in order."""
        self.publish("chat:1", "a")
        first = self.client()
        subs = first.ask(connect={"token": signed(sub="ann", channels=["chat:1", "news:1"])})["connect"]["subs"]
        epoch = subs["chat:1"].pop("epoch")
        self.assertEqual(subs, {"chat:1": {"recoverable": True, "positioned": True, "offset": 1}, "news:1": {}})
        self.publish("chat:1", "b")
        self.publish("news:1", "n")
        self.assertCountEqual(
            first.heard(),
            [
                {"push": {"channel": "chat:1", "pub": {"data": "b", "offset": 2}}},
                {"push": {"channel": "news:1", "pub": {"data": "n"}}},
            ],
        )
        self.publish("chat:1", "c")
        first.heard()
        token = signed(sub="ann", channels=["chat:1"])
        since = {"recover": True, "offset": 1, "epoch": epoch}
        again = self.client().ask(connect={"token": token, "subs": {"chat:1": since, "chat:2": since}})
        self.assertEqual(
            again["connect"]["subs"],
            {
                "chat:1": {
                    "recoverable": True,
                    "positioned": True,
                    "offset": 1,
                    "epoch": epoch,
                    "was_recovering": True,
                    "recovered": True,
                    "publications": [{"data": "b", "offset": 2}, {"data": "c", "offset": 3}],
                }
            },
        )

    def test_tooManyChannels(self) -> None:
        """It does not connect, and is a member of nothing."""
        client = self.client()
        self.assertEqual(client.code(connect={"token": signed(channels=[f"news:{n}" for n in range(129)])}), 106)
        self.assertEqual(self.gateway.groups.active, {})
        self.assertIn("connect", client.ask(connect={"token": signed(sub="ann")}))

    def test_user(self) -> None:
        """All sessions of a user are closed, and told not to come back."""
        clients = [self.user("ann"), self.user("ann"), self.user("bob")]
        self.gateway.groups.closeUser("ann", "gone", code=3503)
        for client in clients:
            client.heard()
        self.assertEqual([client.closed for client in clients], [(3503, "gone"), (3503, "gone"), None])

    def test_closed(self) -> None:
        """Nothing is left of a client that has gone."""
        client = self.user("ann", exp=self.clock.seconds() + 1000)
        client.ask(subscribe={"channel": "chat:1", "token": ""})
        client.peer.close()
        self.settle()
        self.assertEqual(self.gateway.groups.active, {})
        self.assertEqual(self.successResultOf(self.gateway.groups.group("chat:1").presence()), [])


class PersonalTests(GatewayCase):
    def settings(self) -> dict[str, Any]:
        return {"secret": SECRET, "personal": True}

    def test_personal(self) -> None:
        """What is sent to a user arrives in a channel that the client was told of."""
        client = self.client()
        self.assertEqual(client.ask(connect={"token": signed(sub="ann")})["connect"]["subs"], {"user:ann": {}})
        self.gateway.groups.sendTo("ann", "hi")
        self.assertEqual(client.heard(), [{"push": {"channel": "user:ann", "pub": {"data": "hi"}}}])

    def test_notOthers(self) -> None:
        client = self.user("ann")
        self.assertEqual(client.code(subscribe={"channel": "user:bob"}), 103)


class SubscribeTests(GatewayCase):
    def settings(self) -> dict[str, Any]:
        return {"secret": SECRET, "anonymous": True}

    def chatting(self, user: str = "ann", **subscribe: Any) -> RawClient:
        """A client that has subscribed."""
        client = self.user(user)
        self.assertIn("subscribe", client.ask(subscribe={"channel": "chat:1", **subscribe}))
        return client

    def test_rights(self) -> None:
        """Nobody may anything that no rule allows."""
        nobody, ann = self.connected(), self.user("ann")
        for client, channel, code in (
            (nobody, "chat:1", 103),
            (nobody, "other", 103),
            (ann, "other", 103),
            (ann, "other:1", 103),
            (ann, "user:ann", 103),
        ):
            self.assertEqual(client.code(subscribe={"channel": channel}), code, channel)
        for method in ("presence", "presence_stats", "history"):
            self.assertEqual(ann.code(**{method: {"channel": "chat:1"}}), 103)
        self.assertEqual(ann.code(publish={"channel": "chat:1", "data": 1}), 103)
        self.assertEqual(nobody.ask(subscribe={"channel": "news:1"}), {"subscribe": {}})
        self.assertEqual(nobody.code(publish={"channel": "news:1", "data": 1}), 103)

    def test_publish(self) -> None:
        """All members get it, with who has published it; the application's without."""
        ann, bob = self.chatting("ann"), self.chatting("bob")
        number = ann.say(publish={"channel": "chat:1", "data": {"text": "grüß\n"}})
        self.publish("chat:1", [1])
        pushes = [
            {
                "push": {
                    "channel": "chat:1",
                    "pub": {
                        "data": {"text": "grüß\n"},
                        "info": {"user": "ann", "client": ann.id},
                        "offset": 1,
                    },
                }
            },
            {"push": {"channel": "chat:1", "pub": {"data": [1], "offset": 2}}},
        ]
        self.assertEqual(ann.heard(), [{"id": number, "publish": {}}, *pushes])
        self.assertEqual(bob.heard(), pushes)

    def test_unsubscribe(self) -> None:
        client = self.chatting()
        self.assertEqual(client.code(subscribe={"channel": "chat:1"}), 105)
        self.assertEqual(client.ask(unsubscribe={"channel": "chat:1"}), {"unsubscribe": {}})
        self.assertEqual(client.ask(unsubscribe={"channel": "chat:1"}), {"unsubscribe": {}})
        self.publish("chat:1", 1)
        self.assertEqual(client.heard(), [])
        self.assertEqual(client.code(publish={"channel": "chat:1", "data": 1}), 103)

    def recovering(self, **subscribe: Any) -> dict[str, Any]:
        """What a new client that asks for what it has missed is told."""
        found: dict[str, Any] = self.user("eve").ask(subscribe={"channel": "chat:1", "recover": True, **subscribe})
        return found

    def test_recover(self) -> None:
        """All that was missed, or nothing; with the position that the client can go on from."""
        position = self.user("ann").ask(subscribe={"channel": "chat:1"})["subscribe"]
        epoch = position["epoch"]
        self.assertEqual(position, {"recoverable": True, "positioned": True, "offset": 0, "epoch": epoch})
        for number in range(12):
            self.publish("chat:1", number)
        told = {"recoverable": True, "positioned": True, "epoch": epoch, "was_recovering": True}
        pubs = [{"data": 10, "offset": 11}, {"data": 11, "offset": 12}]
        for since in ({"offset": 10, "epoch": epoch}, {"offset": 10}):
            self.assertEqual(
                self.recovering(**since)["subscribe"],
                {**told, "recovered": True, "offset": 10, "publications": pubs},
            )
        self.assertEqual(
            self.recovering(offset=12, epoch=epoch)["subscribe"], {**told, "recovered": True, "offset": 12}
        )
        for since in ({"offset": 1, "epoch": epoch}, {"offset": 10, "epoch": "x"}, {"offset": 13, "epoch": epoch}):
            self.assertEqual(self.recovering(**since)["subscribe"], {**told, "offset": 12})
            self.assertEqual(self.recovering(flag=3, **since)["error"]["code"], 112)
        self.assertEqual(len(self.gateway.groups.group("chat:1").members), 6 + 1)

    def test_presence(self) -> None:
        ann, bob = self.chatting("ann"), self.chatting("bob")
        self.chatting("bob")
        found = ann.ask(presence={"channel": "chat:1"})["presence"]["presence"]
        self.assertEqual(found[ann.id], {"client": ann.id, "user": "ann"})
        self.assertEqual(len(found), 3)
        stats = bob.ask(presence_stats={"channel": "chat:1"})
        self.assertEqual(stats, {"presence_stats": {"num_clients": 3, "num_users": 2}})

    def test_joinLeave(self) -> None:
        """Those that want it hear of it."""
        ann, bob = self.chatting("ann", join_leave=True), self.chatting("bob")
        eve = self.user("eve", info={"name": "Eve"})
        eve.ask(subscribe={"channel": "chat:1"})
        info = {"client": eve.id, "user": "eve", "conn_info": {"name": "Eve"}}
        self.assertEqual(ann.heard()[-1], {"push": {"channel": "chat:1", "join": {"info": info}}})
        eve.peer.close()
        self.assertEqual(ann.heard(), [{"push": {"channel": "chat:1", "leave": {"info": info}}}])
        self.assertEqual(bob.heard(), [])

    def test_history(self) -> None:
        client = self.chatting()
        for number in range(12):
            self.publish("chat:1", number)
        client.heard()

        def ask(**options: Any) -> Any:
            result = client.ask(history={"channel": "chat:1", **options})["history"]
            return result["offset"], [each["data"] for each in result.get("publications", ())]

        epoch = client.ask(history={"channel": "chat:1"})["history"]["epoch"]
        self.assertEqual(ask(), (12, []))
        self.assertEqual(ask(limit=2), (12, [2, 3]))
        self.assertEqual(ask(limit=2, reverse=True), (12, [11, 10]))
        self.assertEqual(ask(limit=-1), (12, list(range(2, 12))))
        self.assertEqual(ask(limit=2, since={"offset": 5, "epoch": epoch}), (12, [5, 6]))
        self.assertEqual(ask(limit=-1, since={"offset": 10}), (12, [10, 11]))
        self.assertEqual(ask(limit=2, since={"offset": 5, "epoch": epoch}, reverse=True), (12, [3, 2]))
        for since in ({"offset": 1, "epoch": epoch}, {"offset": 5, "epoch": "x"}):
            self.assertEqual(client.code(history={"channel": "chat:1", "limit": 5, "since": since}), 112)

    def test_token(self) -> None:
        """One for a channel that no rule opens; it ends, unless it is refreshed."""
        client = self.user("ann")
        until = self.clock.seconds() + 10
        token = signed(sub="ann", channel="secret:1", exp=until)
        for other in (signed(sub="bob", channel="secret:1"), signed(sub="ann", channel="secret:2"), "x"):
            self.assertEqual(client.code(subscribe={"channel": "secret:1", "token": other}), 103)
        reply = client.ask(subscribe={"channel": "secret:1", "token": token})
        self.assertEqual(reply, {"subscribe": {"expires": True, "ttl": 10}})
        self.settle(9)
        later = signed(sub="ann", channel="secret:1", exp=until + 20)
        reply = client.ask(sub_refresh={"channel": "secret:1", "token": later})
        self.assertEqual(reply, {"sub_refresh": {"expires": True, "ttl": 21}})
        for _ in range(2):
            self.settle(23.5)
            heard = client.pong()
        end = {"code": 2501, "reason": "subscription expired"}
        self.assertIn({"push": {"channel": "secret:1", "unsubscribe": end}}, heard)
        self.assertEqual(client.code(sub_refresh={"channel": "secret:1", "token": later}), 103)
        self.assertEqual(client.code(subscribe={"channel": "secret:1", "token": later}), 109)

    def test_ping(self) -> None:
        """A client that does not answer is closed at the next one."""
        awake, asleep = self.user("ann"), self.user("bob")
        for _ in range(3):
            self.settle(25)
            self.assertEqual(awake.heard().count({}), 1)
            awake.send("{}")
        asleep.heard()
        self.assertEqual((awake.closed, asleep.closed), (None, (3012, "no pong")))

    def test_gap(self) -> None:
        """A client that has missed something is told to come for it."""
        client = self.chatting()
        group = self.gateway.groups.group("chat:1")
        group.gap()
        self.assertEqual(
            client.heard(),
            [{"push": {"channel": "chat:1", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}}],
        )
        self.assertIn("subscribe", client.ask(subscribe={"channel": "chat:1"}))

    def test_encodedOnce(self) -> None:
        """All clients are of one kind: a publication is framed once."""
        for user in ("ann", "bob", "eve"):
            self.chatting(user)
        self.assertEqual(len(self.gateway.groups.group("chat:1").kinds), 1)

    def test_unusable(self) -> None:
        """What another program publishes, and is none of the protocol, harms nobody."""
        client = self.chatting()
        for pkg in (b"\xff", b"[]", b"{}", b'{"data":1}\n{}', b'{"data":1,"offset":7,"delta":true}', {1, 2}, "\ud800"):
            self.publish("chat:1", pkg)
        self.publish("chat:1", "fine")
        found = [each["push"].get("pub") for each in client.heard()]
        self.assertEqual(found, [*[None] * 4, {"data": 1, "offset": 5}, None, None, {"data": "fine", "offset": 8}])
        again = self.recovering(offset=0)["subscribe"]
        self.assertEqual([each["offset"] for each in again["publications"]], [5, 8])


class AsyncTests(GatewayCase):
    """An engine that takes its time."""

    def settings(self) -> dict[str, Any]:
        return {"secret": SECRET}

    def namespaces(self) -> dict[str, Rules]:
        async def may(session: Any, channel: str) -> bool:
            return bool(session.attributes["user"] == "ann")

        return {"chat": CHAT, "asked": Rules(subscribe=may, publish=lambda session, channel: may(session, channel))}

    def engine(self) -> Any:
        self.slow = SlowEngine()
        return self.slow

    def test_rule(self) -> None:
        """A function that may be async decides."""
        ann, bob = self.user("ann"), self.user("bob")
        self.assertEqual(ann.ask(subscribe={"channel": "asked:1"}), {"subscribe": {}})
        self.assertEqual(bob.code(subscribe={"channel": "asked:1"}), 103)
        self.assertEqual(bob.code(publish={"channel": "asked:1", "data": 1}), 103)

    def test_order(self) -> None:
        """What is published while the engine is asked comes behind the answer."""
        client = self.user("ann")
        self.slow.isSlow = True
        number = client.say(subscribe={"channel": "chat:1"})
        self.publish("chat:1", "a")
        self.assertEqual(client.heard(), [])
        self.slow.answer()
        first, second = client.heard()
        self.assertEqual((first["id"], first["subscribe"]["offset"]), (number, 0))
        self.assertEqual(second, {"push": {"channel": "chat:1", "pub": {"data": "a", "offset": 1}}})

    def test_orderOfConnect(self) -> None:
        """The same for channels that come with the connection; and commands that came with it wait."""
        client = self.client()
        self.slow.isSlow = True
        token = signed(sub="ann", channels=["chat:1", "chat:2"])
        client.send(f'{{"id":1,"connect":{{"token":"{token}"}}}}\n{{"id":2,"unsubscribe":{{"channel":"x"}}}}')
        client.send('{"id":3,"unsubscribe":{"channel":"x"}}')
        self.assertEqual(client.heard(), [])
        waiting, self.slow.waiting = self.slow.waiting[1:], self.slow.waiting[:1]
        self.slow.answer()
        self.publish("chat:1", "a")
        self.publish("chat:2", "b")
        self.assertEqual(client.heard(), [])
        self.slow.waiting = waiting
        self.slow.answer()
        heard = client.heard()
        self.assertEqual(
            [sorted(each) for each in heard], [["connect", "id"], ["push"], ["push"], *[["id", "unsubscribe"]] * 2]
        )
        self.assertEqual([each["push"]["pub"]["offset"] for each in heard[1:3]], [1, 1])

    def test_unsubscribeMeanwhile(self) -> None:
        """It is not subscribed afterwards; it may subscribe anew before the first answer has come."""
        client = self.user("ann")
        self.slow.isSlow = True
        client.say(subscribe={"channel": "chat:1"})
        self.assertEqual(client.ask(unsubscribe={"channel": "chat:1"}), {"unsubscribe": {}})
        number = client.say(subscribe={"channel": "chat:1"})
        self.slow.answer()
        [reply] = client.heard()
        self.assertEqual((reply["id"], list(reply)[1]), (number, "subscribe"))
        self.publish("chat:1", 1)
        self.assertEqual(len(client.heard()), 1)

    def test_gone(self) -> None:
        """A client that goes while the engine is asked leaves nothing behind."""
        client = self.user("ann")
        self.slow.isSlow = True
        client.say(subscribe={"channel": "chat:1"})
        client.peer.close()
        self.slow.answer()
        self.settle()
        self.assertEqual(self.gateway.groups.active, {})

    def test_downAtConnect(self) -> None:
        """The same for the channels that come with the connection: it has none of them, and may try again."""
        client = self.client()
        self.slow.isSlow = True
        token = signed(sub="ann", channels=["chat:1", "chat:2", "chat:3"])
        number = client.say(connect={"token": token})
        (first, result), (second, _), _ = self.slow.waiting
        first.callback(result)
        second.errback(EngineDownError("away"))
        [reply] = client.heard()
        self.assertEqual((reply["id"], reply["error"]["code"]), (number, 100))
        self.slow.waiting = self.slow.waiting[2:]
        self.slow.answer()
        self.assertEqual((client.heard(), self.gateway.groups.active), ([], {}))
        self.slow.isSlow = False
        self.assertEqual(
            sorted(client.ask(connect={"token": token})["connect"]["subs"]), ["chat:1", "chat:2", "chat:3"]
        )

    def test_engineDown(self) -> None:
        """A temporary error: the client asks again."""
        client = self.user("ann")
        self.slow.isSlow = True
        client.say(subscribe={"channel": "chat:1"})
        [(later, _)] = self.slow.waiting
        later.errback(EngineDownError("away"))
        [reply] = client.heard()
        self.assertEqual(reply["error"], {"code": 100, "message": "internal server error", "temporary": True})
        self.slow.waiting.clear()
        self.slow.isSlow = False
        self.assertIn("subscribe", client.ask(subscribe={"channel": "chat:1"}))
