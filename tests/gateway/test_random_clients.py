"""Clients that come and go at random: each of them gets every publication once, in order."""

from __future__ import annotations

import random
from typing import Any

from getty_tx.gateway import Rules
from getty_tx.groups import Namespace
from tests.support.gateway import GatewayCase, RawClient, SlowEngine
from tests.support.long import examples

CHANNEL = "news:1"


class Reader:
    """
    A client as the ready ones are: it recovers from where it was.

    :ivar offset: of the last publication that it has got.
    """

    def __init__(self, case: RandomTests) -> None:
        self._case = case
        self.client: RawClient | None = None
        self.isSubscribed = self.isWaiting = False
        self.epoch = ""
        self.offset = 0

    def connect(self) -> None:
        """Come back."""
        self.client = self._case.connected()
        self.subscribe()

    def subscribe(self) -> None:
        """Ask for what has come meanwhile."""
        assert self.client is not None
        since = {"recover": True, "offset": self.offset, "epoch": self.epoch} if self.epoch else {}
        self.client.say(subscribe={"channel": CHANNEL, **since})
        self.isWaiting = True

    def unsubscribe(self) -> None:
        """Want nothing more."""
        assert self.client is not None
        self.read()
        self.client.say(unsubscribe={"channel": CHANNEL})
        self.isSubscribed = False

    def cut(self) -> None:
        """Go without a word; what has not been read is lost."""
        client, self.client = self.client, None
        assert client is not None
        client.peer.pair.reset()
        self._case.clients.remove(client)
        self.isSubscribed = self.isWaiting = False

    def read(self) -> None:
        """Look at what has come."""
        if self.client is None:
            return
        for each in self.client.heard():
            if "subscribe" in each:
                self._subscribed(each["subscribe"])
            elif "push" in each and self.isSubscribed:
                self._got(each["push"]["pub"])
        self._case.assertIsNone(self.client.closed)

    def _subscribed(self, reply: dict[str, Any]) -> None:
        case = self._case
        self.isSubscribed, self.isWaiting = True, False
        if self.epoch:
            case.assertEqual((reply["recovered"], reply["offset"]), (True, self.offset))
        else:
            self.epoch, self.offset = reply["epoch"], reply["offset"]
        for pub in reply.get("publications", ()):
            self._got(pub)

    def _got(self, pub: dict[str, Any]) -> None:
        self.offset += 1
        self._case.assertEqual((pub["offset"], pub["data"]), (self.offset, self.offset))


class RandomTests(GatewayCase):
    def namespaces(self) -> dict[str, Rules]:
        return {"news": Rules(subscribe="anyone", namespace=Namespace(historySize=300, historySeconds=3600))}

    def engine(self) -> Any:
        self.slow = SlowEngine()
        return self.slow

    def settings(self) -> dict[str, Any]:
        return {"anonymous": True, "joinRate": 1000, "messageRate": 10_000}

    def test_random(self) -> None:
        """On an engine that answers at once, and on one that takes its time."""
        for seed in range(examples(60)):
            try:
                self._play(random.Random(seed))
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {error}") from error

    def _play(self, choose: random.Random) -> None:
        self.slow.isLate = choose.random() < 0.5
        self.gateway.groups.engine._sequencer._streams.clear()
        readers = [Reader(self) for _ in range(3)]
        published = 0
        for _ in range(80):
            reader = choose.choice(readers)
            what = choose.random()
            if what < 0.4:
                published += 1
                self.publish(CHANNEL, published)
            elif what < 0.55:
                self.slow.answer()
            elif what < 0.6:
                self.slow.isSlow = not self.slow.isSlow
            elif what < 0.75:
                self.settle()
            elif what < 0.85:
                reader.read()
            elif reader.client is None:
                reader.connect()
            elif reader.isSubscribed and what < 0.9:
                reader.unsubscribe()
            elif not reader.isSubscribed and not reader.isWaiting:
                reader.subscribe()
            elif what > 0.95:
                reader.cut()
        self.slow.isSlow = False
        for _ in range(2):
            self.slow.answer()
            for reader in readers:
                reader.read()
                if reader.client is None:
                    reader.connect()
                elif not reader.isSubscribed and not reader.isWaiting:
                    reader.subscribe()
        for reader in readers:
            reader.read()
            self.assertEqual((reader.isSubscribed, reader.offset), (True, published))
            reader.cut()
        self.settle()
        self.assertEqual(self.gateway.groups.active, {})
