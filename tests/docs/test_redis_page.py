"""The page about groups in Redis: its texts, its rules of access, and what other programs publish."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from getty_tx.groups import Groups, Member, Publication
from getty_tx.groups.redis import RedisEngine, redisEngine
from getty_tx.groups.redis.settings import ALLOWED
from tests.groups.test_redis_real import KEPT, RedisCase
from tests.support.certificates import Authority

PAGE = (Path(__file__).resolve().parents[2] / "docs/howto/redis.md").read_text()


def blocks(kind: str) -> list[str]:
    """The fenced blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


class PageTests(SynchronousTestCase):
    def test_texts(self) -> None:
        """Each text of an engine is one."""
        folder = self.mktemp()
        authority = Authority(folder)
        Path(folder, "password").write_text("secret")
        found = blocks("text")[0].split()
        self.assertEqual(len(found), 4)
        for text in found:
            text = text.replace("/etc/getty/ca.pem", authority.path).replace("/etc/getty", folder)
            self.assertIsInstance(redisEngine(text), RedisEngine)

    def test_names(self) -> None:
        """The table has what may stand behind the question mark."""
        names = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)))
        self.assertEqual(sorted(names), sorted(ALLOWED["rediss"]))

    def test_program(self) -> None:
        """The first program has an engine in Redis."""
        namespace: dict[str, Any] = {}
        exec(blocks("python")[0], namespace)
        groups = namespace["groups"]
        self.assertIsInstance(groups, Groups)
        self.assertEqual(groups.engine.description, "Redis at 127.0.0.1:6379")


class RealTests(RedisCase):
    async def test_access(self) -> None:
        """The user of the page may do all that is needed."""
        self.server.call(*shlex.split(blocks("text")[1]))
        engine, user = self.begin(user="getty", password="s@cret", prefix="shop")
        await user.when("up")
        await engine.subscribe("a")
        await engine.publish("a", Publication(1), KEPT, id="1")
        self.server.call("SCRIPT", "FLUSH")
        self.assertEqual(len((await engine.history("a", None, 10, KEPT)).publications), 1)
        engine.present("a", Member("m"))
        await user.when(("members", "a", ["m"], []))
        self.assertEqual((await engine.counts(["a"]), len(await engine.presence("a", 5))), ({"a": 1}, 1))
        engine.absent("a", "m")
        engine.unsubscribe("a")
        await engine.subscribe("a")
        self.server.cut()
        await user.when("up", 2)
        await engine.stop()
        denied = self.server.call("ACL", "LOG")
        self.assertEqual(denied, [])

    async def test_otherPrograms(self) -> None:
        """What other programs publish arrives, with a number where one is given."""
        engine, user = self.begin(prefix="shop")
        await user.when("up")
        await engine.subscribe("chat:42")
        [shell] = blocks("sh")
        command, *arguments = shlex.split(shell)
        run = subprocess.run
        run([command, "-s", self.server.path, *arguments], check=True, stdout=subprocess.DEVNULL)
        namespace: dict[str, Any] = {}
        exec(blocks("python")[1], namespace)
        self.assertEqual(namespace["channel"], arguments[1])

        def local(arguments: list[str], check: bool) -> None:
            run([arguments[0], "-s", self.server.path, *arguments[1:]], check=check, stdout=subprocess.DEVNULL)

        self.patch(subprocess, "run", local)
        exec(blocks("python")[2], namespace)
        await user.whenTrue(lambda: len(user.publications) == 2)
        self.assertEqual([each.pkg for each in user.publications], [{"text": "hello"}] * 2)
        self.assertEqual([each.position and each.position.offset for each in user.publications], [None, 1])
        self.assertEqual((await engine.publish("chat:42", Publication(1), KEPT)).offset, 2)
        found = await engine.history("chat:42", None, 10, KEPT)
        self.assertEqual([each.pkg for each in found.publications], [{"text": "hello"}, 1])
