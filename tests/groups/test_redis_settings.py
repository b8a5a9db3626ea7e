"""What the engine of Redis is told, which servers it takes, and what others are told of members, without Redis."""

from __future__ import annotations

import sys
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from getty_tx.errors import SettingError
from getty_tx.groups import EngineDownError, Groups, Member
from getty_tx.groups.redis import RedisEngine, redisEngine
from getty_tx.groups.redis.codec import ReplyError, packedCommand
from getty_tx.groups.redis.envelope import membersMessage
from getty_tx.groups.redis.layout import Layout
from getty_tx.groups.redis.presence import Presence
from getty_tx.groups.redis.recovering import Login
from tests.groups.test_redis_sansio import ConnectionCase


class LoginTests(ConnectionCase):
    def test_unsuitable(self) -> None:
        """Servers that cannot be used are named."""
        for hello, part in (
            ({b"version": b"6.0.16", b"mode": b"standalone", b"role": b"master"}, "Redis 6.0.16"),
            ({b"version": b"7.0.15", b"mode": b"cluster", b"role": b"master"}, "cluster"),
            ({b"version": b"7.0.15", b"mode": b"sentinel", b"role": b"replica"}, "replica"),
            (ReplyError("ERR unknown command `HELLO`, with args beginning with: `3`"), "older than Redis 6.2"),
            ({b"version": b"6.2.0", b"mode": b"standalone", b"role": b"master"}, None),
            ({b"version": b"255.255.255", b"mode": b"standalone"}, None),
        ):
            self.setUp()
            Login("u", "p", 3).send(self.connection, "name", self.answers.append)
            self.clock.advance(0)
            self.assertIn(packedCommand((b"HELLO", 3, b"AUTH", b"u", b"p", b"SETNAME", b"name")), self.session.take())
            self.reply(hello, *["OK"] * 20)
            [error] = self.answers
            self.assertEqual(error is None, part is None)
            self.assertIn(part or "", str(error))


class SettingsTests(SynchronousTestCase):
    def test_withoutHiredis(self) -> None:
        """One line says what is to be installed."""
        names = [name for name in sys.modules if name.startswith("getty_tx.groups.redis")]
        with patch.dict(sys.modules, {"hiredis": None}):
            for name in names:
                del sys.modules[name]
            error = self.assertRaises(SettingError, Groups, "redis://localhost")
        self.assertEqual(str(error), "redis:// needs hiredis: pip install 'getty_tx[redis]'")

    def test_texts(self) -> None:
        """What is right."""
        for text, description in {
            "redis://localhost": "Redis at localhost:6379",
            "redis://u:p%40@10.0.0.1:7000/2?prefix=app": "Redis at 10.0.0.1:7000",
            "redis://:p@[::1]": "Redis at ::1:6379",
            "rediss://redis.example?timeout=2.5": "Redis at redis.example:6379",
            "redis+unix:///run/redis.sock?database=3&prefix=x": "Redis at /run/redis.sock",
        }.items():
            self.assertEqual(redisEngine(text).description, description)

    def test_wrong(self) -> None:
        """Each wrong part is named, and no password is shown."""
        path = self.mktemp()
        for text, part in {
            "http://localhost": "redis://HOST",
            "redis://": "no host",
            "redis://localhost:0": "port 0",
            "redis://localhost:70000": "Port out of range",
            "redis://localhost/x": "database 'x'",
            "redis://localhost/1/2": "database '1/2'",
            "redis://u@localhost": "needs a password",
            "redis://u:@localhost": "password is empty",
            "redis://localhost?prefix=": "prefix= is empty",
            "redis://localhost?prefix=a&prefix=b": "prefix= is there twice",
            "redis://localhost?prefix=a b": "prefix='a b'",
            "redis://localhost?prefix=%7B": "prefix='{'",
            "redis://localhost?db=1": "no db=",
            "redis://localhost?prefix": "name=value",
            "redis://localhost?timeout=0": "timeout=0",
            "redis://localhost?timeout=nan": "timeout=nan",
            "redis://localhost?trustRoots=x": "no trustRoots=",
            "redis://:secret@localhost#x": "%23",
            f"redis://localhost?passwordFile={path}": "cannot be read",
            f"redis://:secret@localhost?passwordFile={path}": "keep one of them",
            "rediss://localhost?certificate=x": "go together",
            f"rediss://localhost?trustRoots={path}": "trustRoots",
            "redis+unix://host/x": "whole path",
            "redis+unix:///": "whole path",
            "redis+unix:///run/s?database=x": "database 'x'",
        }.items():
            error = self.assertRaises(SettingError, redisEngine, text)
            self.assertIn(part, str(error), text)
            self.assertNotIn("secret", str(error))

    def test_arguments(self) -> None:
        """Those of the class."""
        for arguments, part in (
            ({"endpoint": "tcp:nowhere"}, "tcp:nowhere"),
            ({"user": "u"}, "needs a password"),
            ({"prefix": ""}, "prefix=''"),
            ({"timeout": 0}, "timeout=0"),
            ({"pingInterval": -1}, "pingInterval=-1"),
            ({"leaseInterval": 2.0, "leaseTime": 3.0}, "leaseTime=3.0"),
        ):
            error = self.assertRaises(SettingError, RedisEngine, **arguments)
            self.assertIn(part, str(error))


class PresenceTests(ConnectionCase):
    def test_unsure(self) -> None:
        """Where nobody knows whether others were told, they are told again, of who has left meanwhile as well."""
        presence = Presence(self.connection, Layout("p"), "node", 2.0, 7.0)
        presence.start(self.clock)

        def connected() -> bytes:
            presence.begin(self.answers.append)
            self.reply([b"1", 0, [], [b"node"]])
            presence.up()
            self.clock.advance(0)
            self.clock.advance(0)
            return self.session.take()

        connected()
        for key in ("stays", "goes"):
            presence.present("a", Member(key))
        self.clock.advance(0)
        self.clock.advance(0)
        self.assertIn(membersMessage([Member("stays"), Member("goes")], []), self.session.take())
        presence.present("a", Member("not sent"))
        presence.down()
        self.connection.fail(EngineDownError("x"))
        presence.absent("a", "goes")
        presence.absent("a", "not sent")
        self.open()
        self.assertIn(membersMessage([Member("stays")], [Member("goes")]), connected())
