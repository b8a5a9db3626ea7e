"""Settings: bounds, and texts that name the setting and the bound."""

from __future__ import annotations

import math
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from getty_tx import settings
from getty_tx.errors import GettyError, SettingError
from getty_tx.session.session import Session
from getty_tx.settings import Setting
from tests.support.memory import SessionCase

NUMBERS = [math.nan, math.inf, -math.inf, "1", None, True, [], 1j]


class Owner:
    """An object with settings."""

    __slots__ = ("_many", "_patience", "changed")

    many = Setting(settings.count, 3, "How many.")
    patience: Setting[float | None] = Setting(settings.optionalSeconds, None, "How long.")

    def __init__(self) -> None:
        self.changed: list[str] = []
        for slot, value in settings.defaults(Owner):
            setattr(self, slot, value)

    def settingChanged(self, name: str) -> None:
        self.changed.append(name)


class SettingTests(SynchronousTestCase):
    """The descriptor."""

    def test_defaults(self) -> None:
        """A new object has the defaults, and got no call of settingChanged()."""
        owner = Owner()
        self.assertEqual((owner.many, owner.patience, owner.changed), (3, None, []))

    def test_set(self) -> None:
        """A value is checked, stored, and reported by settingChanged()."""
        owner = Owner()
        owner.many = 5
        owner.patience = 2
        self.assertEqual((owner.many, owner.patience, owner.changed), (5, 2.0, ["many", "patience"]))
        self.assertIs(type(owner.patience), float)

    def test_refused(self) -> None:
        """An invalid value changes nothing; the error is a ValueError and a GettyError."""
        owner = Owner()
        error = self.assertRaises(SettingError, setattr, owner, "many", 0)
        assert isinstance(error, Exception)
        self.assertIsInstance(error, ValueError)
        self.assertIsInstance(error, GettyError)
        self.assertIn("many=0", str(error))
        self.assertEqual((owner.many, owner.changed), (3, []))

    def test_ofTheClass(self) -> None:
        """The class has the default and the documentation."""
        self.assertEqual(Owner.many.default, 3)
        self.assertEqual(Owner.many.__doc__, "How many.")


class CheckTests(SynchronousTestCase):
    """Each kind of value, its bounds, and the texts of its errors."""

    def refused(self, check: Any, values: list[Any], *says: str) -> None:
        for value in values:
            try:
                check("itsName", value)
            except SettingError as error:
                for text in (f"itsName={value!r}", *says):
                    self.assertIn(text, str(error))
            else:
                self.fail(f"{check.__name__} takes {value!r}")

    def test_seconds(self) -> None:
        """More than 0, finite."""
        for value in (0.001, 1, 3600.5):
            self.assertEqual(settings.seconds("itsName", value), value)
        self.refused(settings.seconds, NUMBERS, "is not a number of seconds")
        self.refused(settings.seconds, [0, -1, -0.5, 0.0], "is not more than 0 seconds")

    def test_optionalSeconds(self) -> None:
        """None too."""
        self.assertIs(settings.optionalSeconds("itsName", None), None)
        self.assertEqual(settings.optionalSeconds("itsName", 1), 1.0)
        self.refused(settings.optionalSeconds, [0, -1], "is not more than 0 seconds")

    def test_size(self) -> None:
        """Whole bytes, at least 1."""
        for value in (1, 1 << 40):
            self.assertEqual(settings.size("itsName", value), value)
        self.refused(settings.size, [*NUMBERS, 1.0], "is not a whole number of bytes")
        self.refused(settings.size, [0, -5], "less than 1 bytes")

    def test_count(self) -> None:
        """At least 1."""
        self.assertEqual(settings.count("itsName", 1), 1)
        self.refused(settings.count, [*NUMBERS, 1.5], "is not a whole number")
        self.refused(settings.count, [0, -5], "less than 1")

    def test_optionalCount(self) -> None:
        """None too."""
        self.assertIs(settings.optionalCount("itsName", None), None)
        self.refused(settings.optionalCount, [0], "less than 1")

    def test_textsEndWell(self) -> None:
        """No text ends in a blank or has two in a row."""
        for check, value in (
            (settings.count, 0),
            (settings.count, "x"),
            (settings.size, 0),
            (settings.flag, 1),
            (settings.text, 1),
        ):
            error = self.assertRaises(SettingError, check, "itsName", value)
            self.assertEqual(str(error), " ".join(str(error).split()))

    def test_flag(self) -> None:
        """Only a bool is accepted."""
        self.assertIs(settings.flag("itsName", False), False)
        self.refused(settings.flag, [0, 1, None, "no"], "neither True nor False")

    def test_text(self) -> None:
        """A string."""
        self.assertEqual(settings.text("itsName", ""), "")
        self.refused(settings.text, [None, 1, b"x"], "is not a string")


class SessionSettingsTests(SessionCase):
    """The settings of a session: DESIGN's defaults, and what is refused."""

    def test_defaults(self) -> None:
        """The defaults are those of DESIGN.md."""
        session = self.open().server
        expected = {
            "maxMsgLen": 128 * 1024,
            "cronPeriod": 60.0,
            "waitTime": 3.0,
            "readTimeout": None,
            "writeTimeout": 5.0,
            "idleTimeout": None,
            "maxLifetime": None,
            "highWater": 256 * 1024,
            "lowWater": 64 * 1024,
            "maxPending": 16 * 1024 * 1024,
            "tcpNoDelay": True,
            "tcpKeepAlive": True,
            "sendBufferSize": None,
            "receiveBufferSize": None,
            "unsentLimit": None,
            "name": "tcp-session",
            "compression": None,
        }
        self.assertEqual({name: getattr(session, name) for name in expected}, expected)
        self.assertEqual(self.factory.handshakeTimeout, 3.0)
        self.assertIs(self.factory.maxSessions, None)

    def test_refused(self) -> None:
        """Each error names its setting; the old value stays."""
        session = self.open().server
        for name in ("maxMsgLen", "highWater", "lowWater", "maxPending"):
            for value in (0, -1, 1.5, None, True):
                self.assertIn(f"{name}=", str(self.assertRaises(SettingError, setattr, session, name, value)))
        for name in ("cronPeriod", "waitTime"):
            for value in (0, -1.0, None, "1", math.inf):
                self.assertIn(f"{name}=", str(self.assertRaises(SettingError, setattr, session, name, value)))
        for name in ("readTimeout", "writeTimeout"):
            for value in (0, -1.0, "1", math.nan):
                self.assertIn(f"{name}=", str(self.assertRaises(SettingError, setattr, session, name, value)))
        for name in ("sendBufferSize", "receiveBufferSize", "unsentLimit"):
            # The kernel takes a C int; a larger value would be an OverflowError of the socket.
            for value in (0, -1, 1.5, 1 << 31, 1 << 70):
                self.assertIn(f"{name}=", str(self.assertRaises(SettingError, setattr, session, name, value)))
        for name in ("tcpNoDelay", "tcpKeepAlive"):
            self.assertIn(f"{name}=", str(self.assertRaises(SettingError, setattr, session, name, 1)))
        self.assertEqual(session.maxMsgLen, Session.maxMsgLen.default)

    def test_noOtherNames(self) -> None:
        """A misspelt setting is an error, not a new attribute."""
        session = self.open().server
        self.assertRaises(AttributeError, setattr, session, "maxMessageLength", 5)

    def test_parts(self) -> None:
        """Codec and listener are checked when they are set: they have to be instances with the needed methods."""
        session = self.open().server
        for name, bad in (("codec", object()), ("reader", object()), ("writer", str), ("listener", object())):
            error = self.assertRaises(SettingError, setattr, session, name, bad)
            self.assertIn("=", str(error))
        self.assertIn("onOpen", str(self.assertRaises(SettingError, setattr, session, "listener", object())))
