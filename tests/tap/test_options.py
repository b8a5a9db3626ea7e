"""The options of the ``twistd`` commands: their values, and errors before anything listens or connects."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, ClassVar

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import codecs
from getty_tx.codecs import LengthCodec, LineCodec
from getty_tx.errors import SettingError
from getty_tx.listener import EventListener
from getty_tx.session.session import Session
from getty_tx.tap import dial, echo, serve
from getty_tx.tap.listen import DEFAULT_LISTEN, ListenService
from getty_tx.tap.lookup import lookUpListener
from getty_tx.tap.ping import Shape, shapeFor

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.tap.options import SessionOptions

HERE = __name__

instance = EventListener()


class Needy(EventListener):
    """Cannot be made without an argument."""

    def __init__(self, argument: object) -> None:
        self.argument = argument


class Half:
    """A listener without some of the methods."""

    def onOpen(self, session: Session) -> None:
        """Nothing."""

    def onMessage(self, session: Session, pkg: object) -> None:
        """Nothing."""


class Nested:
    """Has a listener as an attribute."""

    Listener = EventListener


def makeListener() -> EventListener:
    """A factory."""
    return instance


def fail() -> None:
    """A factory that fails."""
    raise RuntimeError("no database")


class Shouting:
    """A codec whose packages getty-dial does not know."""

    def read(self, session: Session, data: memoryview) -> tuple[Any, int]:
        """One byte each."""
        return (bytes(data[:1]).upper(),), 1

    def write(self, session: Session, pkg: Any) -> bytes:
        """Tuples only."""
        if not isinstance(pkg, tuple):
            raise TypeError("a tuple, please")
        return bytes(pkg[0])


class Texts:
    """A codec of str in lines."""

    def read(self, session: Session, data: memoryview) -> tuple[str | None, int]:
        """A line."""
        line, found, _ = bytes(data).partition(b"\n")
        return (line.decode(), len(line) + 1) if found else (None, 0)

    def write(self, session: Session, pkg: str) -> list[bytes]:
        """A line, in two pieces."""
        return [pkg.encode(), b"\n"]


class Looking(Texts):
    """A codec that needs its session."""

    def write(self, session: Session, pkg: str) -> list[bytes]:
        """Looks at the session."""
        session.attributes["seen"] = True
        return super().write(session, pkg)


class OptionsTestCase(SynchronousTestCase):
    """Helpers."""

    def parse(self, options: type[SessionOptions], *arguments: str) -> Any:
        """The parsed options."""
        made = options()
        made.parseOptions(list(arguments))
        return made

    def refuse(self, options: type[SessionOptions], *arguments: str) -> str:
        """The error for these options."""
        return str(self.assertRaises(usage.UsageError, self.parse, options, *arguments))


class SessionOptionsTests(OptionsTestCase):
    """The options that all commands have."""

    commands: ClassVar[list[tuple[type[SessionOptions], list[str]]]] = [
        (echo.Options, []),
        (serve.Options, ["--listener", f"{HERE}:instance"]),
        (dial.Options, []),
    ]

    def test_defaults(self) -> None:
        """The defaults are those of the session."""
        for options, arguments in self.commands:
            parsed = self.parse(options, *arguments)
            self.assertIsInstance(parsed.codec, LineCodec)
            self.assertEqual(Session.maxMsgLen.default, parsed["max-msg-len"])
            self.assertEqual(Session.cronPeriod.default, parsed["cron"])
            for limit in ("read-timeout", "idle-timeout", "max-lifetime"):
                self.assertIsNone(parsed[limit])
            self.assertEqual(Session.writeTimeout.default, parsed["write-timeout"])
            self.assertEqual(3, parsed["handshake-timeout"])

    def test_values(self) -> None:
        """Values are converted."""
        for options, arguments in self.commands:
            given = "--max-msg-len 200000000 --cron 0.5 --read-timeout 7 --write-timeout none --handshake-timeout 1e1"
            parsed = self.parse(options, "--codec", "length:size=2", *given.split(), *arguments)
            self.assertEqual(repr(LengthCodec(size=2)), repr(parsed.codec))
            self.assertEqual(200_000_000, parsed["max-msg-len"])
            self.assertEqual(0.5, parsed["cron"])
            self.assertEqual(7.0, parsed["read-timeout"])
            self.assertIsNone(parsed["write-timeout"])
            self.assertEqual(10.0, parsed["handshake-timeout"])
            parsed = self.parse(options, "--idle-timeout", "300", "--max-lifetime=3.6e3", *arguments)
            self.assertEqual((300.0, 3600.0), (parsed["idle-timeout"], parsed["max-lifetime"]))

    def test_noLimit(self) -> None:
        """``none`` and 0 mean no limit, for the options that allow it."""
        for value in ("none", "None", "0", "0.0"):
            for limit in ("read-timeout", "write-timeout", "idle-timeout", "max-lifetime"):
                self.assertIsNone(self.parse(echo.Options, f"--{limit}", value)[limit])

    def test_refused(self) -> None:
        """The error has the option, the value and the allowed values."""
        numbers = {
            "max-msg-len": ("whole number of bytes, 1 or more", "0 -1 1.5 64k 1_000 none x ٣"),
            "cron": ("seconds, more than 0", "0 -1 nan inf none x"),
            "read-timeout": ("none (or 0) for no limit", "-1 nan inf x"),
            "write-timeout": ("none (or 0) for no limit", "-0.5 nan inf x"),
            "idle-timeout": ("none (or 0) for no limit", "-1 nan inf x"),
            "max-lifetime": ("none (or 0) for no limit", "-1 nan inf x"),
            "handshake-timeout": ("seconds, more than 0", "0 -1 nan inf none x"),
        }
        for options, arguments in self.commands:
            for option, (allowed, values) in numbers.items():
                for value in [*values.split(" "), ""]:
                    text = self.refuse(options, f"--{option}={value}", *arguments)
                    self.assertIn(f"--{option} {value}: ", text)
                    self.assertIn(allowed, text)

    def test_status(self) -> None:
        """--status takes an endpoint; a public address needs a token, and the error has both options."""
        for options, arguments in self.commands:
            self.assertIsNone(self.parse(options, *arguments)["status"])
            self.assertIsNone(self.parse(options, "--status", "none", *arguments)["status"])
            local = "tcp:8092:interface=127.0.0.1"
            self.assertEqual(local, self.parse(options, "--status", local, *arguments)["status"])
            self.parse(options, "--status", "tcp:8092", "--status-token", "geheim", *arguments)
            text = self.refuse(options, "--status", "tcp:8092", *arguments)
            self.assertIn("--status tcp:8092: ", text)
            self.assertIn("--status-token", text)
            self.assertNotIn("an example", text)
            self.assertIn(f"an example is {local}", self.refuse(options, "--status", "tpc:8092", *arguments))
            for wrong in ("8092", "tcp:x:interface=127.0.0.1", "udp:8092", "ws:8092:interface=127.0.0.1"):
                self.assertIn(f"--status {wrong}: ", self.refuse(options, "--status", wrong, *arguments))
            self.assertIn("--status-token", self.refuse(options, "--status-token", "geheim", *arguments))

    def test_compression(self) -> None:
        """--compression takes a value of the setting, or none."""
        for options, arguments in self.commands:
            self.assertIsNone(self.parse(options, *arguments)["compression"])
            self.assertIsNone(self.parse(options, "--compression=None", *arguments)["compression"])
            parsed = self.parse(options, "--compression=deflate:level=9", *arguments)
            session: Any = type("Session", (), {})()
            parsed.newSession(instance)(session)
            self.assertEqual("deflate:level=9", session.compression)
            for value, allowed in (("gzip", "known are deflate"), ("", "known are"), ("zstd:level=0", "level=1 to")):
                text = self.refuse(options, f"--compression={value}", *arguments)
                self.assertTrue(text.startswith(f"--compression {value}: "), text)
                self.assertIn(allowed, text)

    def test_compressionOfNoStream(self) -> None:
        """--compression is refused with an endpoint that is not a stream, in any order."""
        for description in ("udp:0", "ws:0", "haproxy:getty-ws:0", r"ws:endpoint=tcp\:0"):
            for given in (["--compression=deflate", f"-l{description}"], [f"-l{description}", "--compression=deflate"]):
                text = self.refuse(echo.Options, "-l", "tcp:0", *given)
                self.assertTrue(text.startswith("--compression deflate: is for streams"), text)
                self.assertIn(f"--listen {description}", text)
            self.parse(echo.Options, "--listen", description, "--compression=none")
        for description in ("udp:localhost:1", "ws://localhost/", "wss:localhost:1"):
            text = self.refuse(dial.Options, "--compression=deflate", "--connect", description)
            self.assertIn(f"--connect {description}", text)
        for description in ("tcp:0", "unix:/x.sock", "haproxy:tcp:0"):
            self.parse(echo.Options, "--listen", description, "--compression=deflate")
        self.parse(dial.Options, "--connect=tls:localhost:1", "--compression=deflate")

    def test_codec(self) -> None:
        """The error for a codec is that of the registry."""
        for options, arguments in self.commands:
            self.assertIn("--codec morse: codec 'morse' is unknown; known are length, line,", self.refuse(
                options, "--codec", "morse", *arguments
            ))  # fmt: skip
            self.assertIn("size=3", self.refuse(options, "--codec", "length:size=3", *arguments))
            self.assertIn("no_such", self.refuse(options, "--codec", "no_such:Codec", *arguments))

    def test_arguments(self) -> None:
        """The error has the argument that is not an option."""
        for options, arguments in self.commands:
            text = self.refuse(options, *arguments, "tcp:8090")
            self.assertIn("'tcp:8090' is not an option", text)
            self.assertIn(options.command, text)

    def test_unknown(self) -> None:
        """The error has the unknown option."""
        self.assertIn("--port", self.refuse(echo.Options, "--port", "8090"))

    def test_help(self) -> None:
        """The help has every option with its default, every codec, and examples."""
        for options, _ in self.commands:
            text = options().getUsage()
            for entry in options._parameters():
                self.assertIn(f"--{entry[0]}=", text)
            for default in ("131072", "60", "none", "5", "3", "line"):
                self.assertIn(f"[default: {default}]", " ".join(text.split()))
            for line in codecs.describeAll().splitlines():
                self.assertIn(line, text)
            examples = text.partition("Examples:\n")[2]
            self.assertGreater(examples.count(f"twistd -n {options.command}"), 1)

    def test_examples(self) -> None:
        """All options in the examples of the help exist."""
        for options, _ in self.commands:
            known = {f"--{name.rstrip('=')}" for name in options().longOpt}
            # Options before the command's name are those of twistd.
            own = options.examples.replace("twistd -n --pidfile= ", "twistd -n ")
            given = {word for word in own.split() if word.startswith("--")}
            self.assertTrue(given)
            self.assertEqual(set(), given - known)

    def test_version(self) -> None:
        """``--version`` prints the version of getty_tx, not only Twisted's."""
        told: list[str] = []
        self.patch(sys, "stdout", type("Out", (), {"write": staticmethod(told.append)}))
        self.assertEqual(0, self.assertRaises(SystemExit, self.parse, echo.Options, "--version").code)
        self.assertTrue("".join(told).startswith("getty_tx "))

    def test_newSession(self) -> None:
        """Sessions get the codec, the listener, and the settings that differ from the defaults."""
        session: Any = type("Session", (), {})()
        self.parse(echo.Options).newSession(instance)(session)
        self.assertEqual({"codec", "listener"}, set(vars(session)))
        given = "--max-msg-len=9 --cron=1 --read-timeout=2 --write-timeout=none --idle-timeout=3 --max-lifetime=4"
        self.parse(echo.Options, *given.split()).newSession(instance)(session)
        del session.codec
        expected = {"listener": instance, "maxMsgLen": 9, "cronPeriod": 1, "readTimeout": 2, "writeTimeout": None}
        self.assertEqual(expected | {"idleTimeout": 3, "maxLifetime": 4}, vars(session))


class ListenOptionsTests(OptionsTestCase):
    """The options of servers."""

    def test_listen(self) -> None:
        """--listen is loopback by default, and may be given several times."""
        self.assertEqual([DEFAULT_LISTEN], self.parse(echo.Options).endpoints)
        given = self.parse(echo.Options, "--listen", "tcp:0", "-l", "unix:/x/y.sock", "--listen=haproxy:tcp:0")
        self.assertEqual(["tcp:0", "unix:/x/y.sock", "haproxy:tcp:0"], given.endpoints)
        self.assertEqual([DEFAULT_LISTEN], self.parse(echo.Options).endpoints)

    def test_listenRefused(self) -> None:
        """Invalid descriptions and missing files are refused."""
        for description in ("8090", "", "tcp", "tcp:http-but-not", "tcp:1:nonsense=2", "ssl:1:privateKey=/no/such.pem"):
            text = self.refuse(echo.Options, "--listen", description)
            self.assertTrue(text.startswith(f"--listen {description}: "), text)
            self.assertIn(f"an example is {DEFAULT_LISTEN}", text)
        self.assertIn("/no/such.pem", self.refuse(echo.Options, "--listen", "ssl:1:privateKey=/no/such.pem"))

    def test_maxSessions(self) -> None:
        """The limits of all sessions and of one host's are a number or none; the server gets them."""
        for name, setting in (("max-sessions", "maxSessions"), ("max-sessions-per-host", "maxSessionsPerHost")):
            self.assertIsNone(self.parse(echo.Options)[name])
            given = self.parse(echo.Options, f"--{name}", "10")
            self.assertEqual(10, given[name])
            self.assertEqual(10, getattr(ListenService(given, instance).server, setting))
            self.assertIsNone(self.parse(echo.Options, f"--{name}", "none")[name])
            for value in ("0", "-1", "2.0", "many"):
                text = self.refuse(echo.Options, f"--{name}={value}")
                self.assertIn(f"--{name} {value}: takes a whole number of sessions, 1 or more, or none", text)


class ServeOptionsTests(OptionsTestCase):
    """``getty-serve --listener``."""

    def test_required(self) -> None:
        """--listener has no default."""
        self.assertIn("--listener is required: module:attr", self.refuse(serve.Options))

    def test_kinds(self) -> None:
        """An instance is used directly; a class, a factory and an attribute of an attribute are called."""
        for attribute in ("instance", "makeListener"):
            self.assertIs(instance, self.parse(serve.Options, "--listener", f"{HERE}:{attribute}").listener)
        made = self.parse(serve.Options, "--listener", f"{HERE}:Nested.Listener").listener
        self.assertIsInstance(made, EventListener)
        self.assertIsNot(instance, made)

    def test_refused(self) -> None:
        """The error has the reason."""
        for description, why in [
            ("", "it is not a module and an attribute"),
            ("Listener", "it is not a module and an attribute; a listener is module:attr"),
            ("a:b:c", "it is not a module and an attribute"),
            ("no_such.module:Listener", "there is no module 'no_such'"),
            (f"{HERE}.no_such:Listener", f"there is no module '{HERE}.no_such'"),
            (f"{HERE}:Missing", f"module '{HERE}' has no 'Missing'"),
            (f"{HERE}:Half", "the class has no method onError, onClose, onCron; subclass getty_tx."),
            (f"{HERE}:HERE", "the str has no method onOpen"),
            (f"{HERE}:Nested", "the class has no method onOpen"),
            (f"{HERE}:dict", f"module '{HERE}' has no 'dict'"),
            ("builtins:list", "the class has no method onOpen"),
            ("gc:collect", "what it returned, int, has no method onOpen"),
            (f"{HERE}:Needy", "calling it without arguments failed: TypeError: "),
            (f"{HERE}:fail", "calling it without arguments failed: RuntimeError: no database"),
        ]:
            text = self.refuse(serve.Options, "--listener", description)
            self.assertTrue(text.startswith(f"--listener {description}: "), text)
            self.assertIn(why, text)

    def test_importFails(self) -> None:
        """A module whose import fails has another error than a missing one; the working directory is searched."""
        folder = self.mktemp()
        os.makedirs(folder)
        self.patch(sys, "path", [path for path in sys.path if path])
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder)
        for name, text, why in [
            ("tap_broken", "1/0\n", "importing 'tap_broken' failed: ZeroDivisionError: division by zero"),
            ("tap_needing", "import no_such\n", "importing 'tap_needing' failed: No module named 'no_such'"),
        ]:
            with open(f"{name}.py", "w") as file:
                file.write(text)
            self.assertIn(why, self.refuse(serve.Options, "--listener", f"{name}:Listener"))

    def test_cause(self) -> None:
        """The original exception is the cause."""
        error = self.assertRaises(SettingError, lookUpListener, f"{HERE}:fail")
        self.assertIsInstance(error.__cause__, RuntimeError)


class DialOptionsTests(OptionsTestCase):
    """The options of ``getty-dial``."""

    def test_defaults(self) -> None:
        """The defaults are those of the Client, and of ping."""
        parsed = self.parse(dial.Options)
        expected = {
            "connect": "tcp:127.0.0.1:8090",
            "number": 1,
            "reconnect-interval": 0.3,
            "reconnect-attempts": None,
            "connect-timeout": 3.0,
            "interval": 1.0,
            "count": None,
            "timeout": 5.0,
        }
        self.assertEqual(expected, {name: parsed[name] for name in expected})

    def test_refused(self) -> None:
        """The error has the option, the value and the allowed values."""
        for option, allowed, values in [
            ("number", "whole number of sessions", "0 -1 1.5 none x"),
            ("reconnect-interval", "seconds, more than 0", "0 -1 nan none x"),
            ("reconnect-attempts", "whole number of attempts, 1 or more, or none", "0 -1 1.5 x"),
            ("connect-timeout", "seconds, more than 0", "0 -1 inf none x"),
            ("interval", "seconds, more than 0", "0 -1 inf none x"),
            ("count", "whole number of messages", "0 -1 1.5 none x"),
            ("timeout", "seconds, more than 0", "0 -1 inf none x"),
        ]:
            for value in values.split():
                text = self.refuse(dial.Options, f"--{option}={value}")
                self.assertIn(f"--{option} {value}: ", text)
                self.assertIn(allowed, text)

    def test_connect(self) -> None:
        """Invalid descriptions and missing files are refused."""
        for description in ("8090", "", "tcp:localhost", "ssl:localhost:1", "tls:localhost:1:trustRoots=/no/such.pem"):
            text = self.refuse(dial.Options, "--connect", description)
            self.assertTrue(text.startswith(f"--connect {description}: "), text)
            self.assertIn("an example is tcp:127.0.0.1:8090", text)
        for description in ("tcp:localhost:1", "tls:localhost:1", "unix:/x/y.sock"):
            self.assertEqual(description, self.parse(dial.Options, "--connect", description)["connect"])

    def test_listener(self) -> None:
        """--listener replaces the messages, and excludes their options."""
        parsed = self.parse(dial.Options, "--listener", f"{HERE}:makeListener", "--codec", "raw")
        self.assertIs(instance, parsed.listener)
        self.assertIsNone(parsed.shape)
        for option in ("interval", "count", "timeout"):
            text = self.refuse(dial.Options, "--listener", f"{HERE}:instance", f"--{option}", "3")
            self.assertIn(f"--{option} 3: ", text)
            self.assertIn(f"--listener {HERE}:instance", text)

    def test_codecs(self) -> None:
        """Every ready-made codec except raw carries the messages; a user's codec is tried."""
        for name in ["length:size=1", "line:delimiter=|", f"{HERE}:Texts", *codecs.names()]:
            if name != "raw":
                self.assertIsInstance(self.parse(dial.Options, "--codec", name).shape, Shape)

    def test_codecsRefused(self) -> None:
        """A codec is refused if it cannot carry the messages, or does not keep them apart."""
        for name, why in [
            ("raw", "does not keep packages apart"),
            ("line:delimiter=-", "delimiter"),
            (f"{HERE}:Shouting", "a tuple, please"),
            (f"{HERE}:Looking", "'NoneType' object has no attribute 'attributes'"),
        ]:
            text = self.refuse(dial.Options, "--codec", name)
            self.assertTrue(text.startswith(f"--codec {name}: it cannot carry messages such as b'getty-dial 1'"), text)
            self.assertIn(why, text)
            self.assertIn("--listener", text)

    def test_maxMsgLen(self) -> None:
        """The messages must fit into --max-msg-len."""
        text = self.refuse(dial.Options, "--max-msg-len", "24")
        self.assertEqual("--max-msg-len 24: a message of getty-dial takes up to 25 bytes", text)
        self.parse(dial.Options, "--max-msg-len", "25")

    def test_numbers(self) -> None:
        """Every codec returns the number of a message; other packages have none."""
        strangers: list[Any] = [None, b"", b"getty-dial x", "getty-dial 1 2", {}, {"getty-dial": True}, 17, object()]
        for name in codecs.names():
            if name == "raw":
                continue
            codec: Any = codecs.fromDescription(name)
            make: Callable[[int], Any]
            make, number = shapeFor(codec, 1000)
            for it in (1, 17, 2**32 + 5, 10**12):
                pkg, _ = codec.read(None, memoryview(codec.write(None, make(it))))
                self.assertEqual(it, number(pkg))
            for stranger in strangers:
                self.assertIsNone(number(stranger))
