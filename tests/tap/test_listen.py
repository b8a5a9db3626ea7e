"""``getty-echo`` and ``getty-serve`` on real sockets: every kind of description, limits, start and stop."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

from twisted.application.service import IService, IServiceCollection
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol, quoteStringArgument, wrapClientTLS
from twisted.internet.error import CannotListenError, ConnectError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from getty_tx import codecs
from getty_tx.codecs import LineCodec
from getty_tx.errors import SettingError
from getty_tx.listener import EventListener
from getty_tx.tap import echo, ending, listen, serve
from getty_tx.tap.ending import CannotStart
from getty_tx.tap.listen import ListenService
from getty_tx.tls import clientPolicy
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IStreamClientEndpoint

    from getty_tx.session.session import Session


def hasIPv6() -> bool:
    """Whether this machine has an IPv6 loopback."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def keepLog(case: SynchronousTestCase) -> list[str]:
    """The texts that are logged until the end of the test."""
    lines: list[str] = []

    def observe(event: Any) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    case.addCleanup(globalLogPublisher.removeObserver, observe)
    return lines


class Collector(Protocol):
    """A client that waits for bytes."""

    def __init__(self) -> None:
        self.data = b""
        self.closed: Deferred[bytes] = Deferred()
        self._wanted = b""
        self._seen: Deferred[bytes] | None = None

    def until(self, end: bytes) -> Deferred[bytes]:
        """All received bytes, once they end with these."""
        self._wanted = end
        self._seen = seen = Deferred()
        self._look()
        return seen

    def dataReceived(self, data: bytes) -> None:
        """Bytes came."""
        self.data += data
        self._look()

    def _look(self) -> None:
        seen = self._seen
        if seen is not None and self.data.endswith(self._wanted):
            self._seen = None
            seen.callback(self.data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The server has closed the connection."""
        self.closed.callback(self.data)


class EndTests(SynchronousTestCase):
    """How a command ends."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.reactor.callFromThread = lambda call: call()
        options = echo.Options()
        options.parseOptions(["--drain-timeout=7"])
        self.frozen: list[bool] = []
        self.patch(listen, "freezeHeap", lambda: self.frozen.append(self.reactor.running))
        self.service = ListenService(options, EventListener(), self.reactor)
        self.service.startService()

    def test_heap(self) -> None:
        """What the process has when its reactor starts is passed over by the collector; not in a process of others."""
        self.assertEqual([], self.frozen)
        self.reactor.run()
        self.service.stopService()
        self.reactor.running = True
        self.service.startService()
        self.assertEqual(1, len(self.frozen))

    def test_late(self) -> None:
        """A stop takes at most --drain-timeout."""
        lines = keepLog(self)
        self.patch(self.service.server, "stopService", Deferred)
        stopped: Deferred[Any] = self.service.stopService()
        self.reactor.advance(6.5)
        self.assertNoResult(stopped)
        self.reactor.advance(0.4)
        self.successResultOf(stopped)
        self.assertIn("getty-echo has not stopped in 7 s", lines)

    def test_inTime(self) -> None:
        """A finished stop leaves no timer."""
        ended: Deferred[None] = Deferred()
        self.patch(self.service.server, "stopService", lambda: ended)
        stopped: Deferred[Any] = self.service.stopService()
        ended.callback(None)
        self.successResultOf(stopped)
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_signal(self) -> None:
        """The handler of SIGTERM is installed while the service runs, and restored."""
        before = signal.getsignal(signal.SIGTERM)
        service = ending.OrderlyEnd(self.reactor)
        service.startService()
        self.addCleanup(signal.signal, signal.SIGTERM, before)
        self.reactor.run()
        self.assertNotEqual(before, signal.getsignal(signal.SIGTERM))
        service.stopService()
        self.assertEqual(before, signal.getsignal(signal.SIGTERM))

    def test_signalled(self) -> None:
        """The signal stops the reactor, and another signal changes nothing."""
        before = signal.getsignal(signal.SIGTERM)
        service = ending.OrderlyEnd(self.reactor)
        service.startService()
        self.addCleanup(signal.signal, signal.SIGTERM, before)
        self.reactor.run()
        ours = signal.getsignal(signal.SIGTERM)
        assert callable(ours)
        ours(signal.SIGTERM, None)
        self.assertTrue(self.reactor.hasStopped)
        service.stopService()
        self.assertEqual(ours, signal.getsignal(signal.SIGTERM))


class Upper(EventListener):
    """Answers in capitals; raises for one word."""

    def onMessage(self, session: Session, pkg: bytes) -> None:
        """A line."""
        if pkg == b"break":
            raise SettingError("it is broken")
        session.writePkg(pkg.upper())


class EchoTests(TestCase):
    """The echo, over every kind of endpoint."""

    timeout = 20

    async def serve(self, *listen: str, more: tuple[str, ...] = ()) -> ListenService:
        """A running ``getty-echo``."""
        options = echo.Options()
        options.parseOptions([word for description in listen for word in ("--listen", description)] + list(more))
        return await self.start(echo.makeService(options))

    async def start(self, service: IService) -> ListenService:
        """Start a service, which is stopped after the test."""
        assert isinstance(service, ListenService)
        service.startService()
        self.addCleanup(service.stopService)
        self.addresses: list[Any] = await service.server.whenListening()
        return service

    async def connect(self, endpoint: str | IStreamClientEndpoint) -> Collector:
        """A client, which is closed after the test."""
        if isinstance(endpoint, str):
            endpoint = clientFromString(reactor, endpoint)
        client = await connectProtocol(endpoint, Collector())
        self.addCleanup(client.transport.loseConnection)
        return client

    async def check(self, endpoint: str | IStreamClientEndpoint) -> Collector:
        """Send bytes, and expect the same back."""
        client = await self.connect(endpoint)
        client.transport.write(b"hello\nwor")
        client.transport.write(b"ld\n")
        self.assertEqual(b"hello\nworld\n", await client.until(b"world\n"))
        return client

    async def test_tcp(self) -> None:
        """IPv4."""
        await self.serve("tcp:0:interface=127.0.0.1")
        await self.check(f"tcp:127.0.0.1:{self.addresses[0].port}")

    async def test_ipv6(self) -> None:
        """IPv6, whose colons are escaped in the description."""
        await self.serve(r"tcp:0:interface=\:\:1")
        await self.check(rf"tcp:\:\:1:{self.addresses[0].port}")

    if not hasIPv6():
        test_ipv6.skip = "this machine has no IPv6 loopback"

    async def test_unix(self) -> None:
        """A unix socket."""
        path = self.mktemp()
        await self.serve(f"unix:{quoteStringArgument(path)}")
        await self.check(f"unix:{quoteStringArgument(path)}")

    async def test_ssl(self) -> None:
        """TLS, with a certificate that the client verifies."""
        authority = Authority(self.mktemp())
        certificate, key = authority.issue(["localhost"])
        await self.serve(f"ssl:0:privateKey={key}:certKey={certificate}:interface=127.0.0.1")
        below = clientFromString(reactor, f"tcp:127.0.0.1:{self.addresses[0].port}")
        await self.check(wrapClientTLS(clientPolicy("localhost", trustRoot=authority.path), below))

    async def test_haproxy(self) -> None:
        """Behind a proxy, the session's peer is the address in the proxy's header."""
        service = await self.serve("haproxy:tcp:0:interface=127.0.0.1")
        client = await self.connect(f"tcp:127.0.0.1:{self.addresses[0].port}")
        client.transport.write(b"PROXY TCP4 192.0.2.7 192.0.2.8 1111 2222\r\nhello\n")
        await client.until(b"hello\n")
        (session,) = service.server.sessions
        self.assertEqual(("192.0.2.7", 1111), (session.remoteAddr.host, session.remoteAddr.port))

    async def test_several(self) -> None:
        """Several descriptions, one server."""
        path = self.mktemp()
        service = await self.serve("tcp:0:interface=127.0.0.1", f"unix:{quoteStringArgument(path)}")
        await self.check(f"tcp:127.0.0.1:{self.addresses[0].port}")
        await self.check(f"unix:{quoteStringArgument(path)}")
        self.assertEqual(2, service.served)

    async def test_codecs(self) -> None:
        """The packages of every ready-made codec come back unchanged."""
        samples = {
            "length": b"\0\0\0\5hello",
            "line": b"hello\n",
            "netstring": b"5:hello,",
            "varint": b"\5hello",
            "raw": b"hello",
            "json-lines": b'{"a":1}\n',
            "getty": codecs.GettyCodec().write(None, codecs.EchoPackage(body=b"x")),
        }
        self.assertEqual(set(codecs.names()), set(samples))
        for name, sample in samples.items():
            await self.serve("tcp:0:interface=127.0.0.1", more=("--codec", name))
            client = await self.connect(f"tcp:127.0.0.1:{self.addresses[0].port}")
            client.transport.write(sample)
            self.assertEqual(sample, await client.until(sample))

    async def test_maxMsgLen(self) -> None:
        """A package that is too long ends its session, and is logged; other sessions go on."""
        await self.serve("tcp:0:interface=127.0.0.1", more=("--max-msg-len", "20"))
        lines = keepLog(self)
        client = await self.connect(f"tcp:127.0.0.1:{self.addresses[0].port}")
        client.transport.write(b"x" * 21 + b"\n")
        self.assertEqual(b"", await client.closed)
        self.assertEqual(1, sum("maxMsgLen=20" in line for line in lines), lines)
        await self.check(f"tcp:127.0.0.1:{self.addresses[0].port}")

    async def test_readTimeout(self) -> None:
        """A silent session ends, and one line says why."""
        await self.serve("tcp:0:interface=127.0.0.1", more=("--read-timeout", "0.05"))
        lines = keepLog(self)
        client = await self.connect(f"tcp:127.0.0.1:{self.addresses[0].port}")
        await client.closed
        self.assertEqual(1, sum("readTimeout=0.05" in line for line in lines), lines)

    async def test_maxSessions(self) -> None:
        """Connections above the limit are refused, and counted in the totals."""
        service = await self.serve("tcp:0:interface=127.0.0.1", more=("--max-sessions", "1"))
        await self.check(f"tcp:127.0.0.1:{self.addresses[0].port}")
        # That it is refused shows here or there, as the system likes.
        with contextlib.suppress(ConnectError):
            await (await self.connect(f"tcp:127.0.0.1:{self.addresses[0].port}")).closed
        lines = keepLog(self)
        await service.stopService()
        self.assertIn("getty-echo has stopped: 1 sessions served, 1 connections refused", lines)

    async def test_flush(self) -> None:
        """A stop sends pending bytes before it closes."""
        service = await self.serve("tcp:0:interface=127.0.0.1", more=("--codec", "length", "--max-msg-len", "9000000"))
        client = await self.connect(f"tcp:127.0.0.1:{self.addresses[0].port}")
        frame = (8_000_000).to_bytes(4, "big") + bytes(8_000_000)
        client.transport.write(frame)
        while not (service.server.sessions and next(iter(service.server.sessions)).stats.writePkgs):
            pause: Deferred[None] = Deferred()
            reactor.callLater(0.005, pause.callback, None)
            await pause
        await service.stopService()
        self.assertEqual(len(frame), len(await client.closed))

    async def test_serve(self) -> None:
        """``getty-serve`` uses the given listener; an exception of it ends only its session."""
        options = serve.Options()
        options.parseOptions(["--listener", f"{__name__}:Upper", "--listen", "tcp:0:interface=127.0.0.1"])
        await self.start(serve.makeService(options))
        client = await self.connect(f"tcp:127.0.0.1:{self.addresses[0].port}")
        broken = await self.connect(f"tcp:127.0.0.1:{self.addresses[0].port}")
        broken.transport.write(b"break\n")
        await broken.closed
        self.assertEqual(1, len(self.flushLoggedErrors(SettingError)))
        client.transport.write(b"hello\n")
        self.assertEqual(b"HELLO\n", await client.until(b"\n"))

    async def test_startLog(self) -> None:
        """A line in the log has the addresses and the codec."""
        lines = keepLog(self)
        await self.serve("tcp:0:interface=127.0.0.1", more=("--max-msg-len", "77"))
        port = self.addresses[0].port
        expected = f"getty-echo serves 127.0.0.1:{port}: {LineCodec()!r}, packages of up to 77 bytes"
        self.assertIn(expected, lines)

    async def test_again(self) -> None:
        """A service that was stopped can be started again."""
        service = await self.serve("tcp:0:interface=127.0.0.1")
        await service.stopService()
        service.startService()
        self.addresses = await service.server.whenListening()
        await self.check(f"tcp:127.0.0.1:{self.addresses[0].port}")


class CannotListenTests(SynchronousTestCase):
    """Endpoints that cannot be listened on."""

    def setUp(self) -> None:
        self.errors = io.StringIO()
        self.patch(sys, "__stderr__", self.errors)

    def test_status(self) -> None:
        """A status that cannot listen prevents the start, too, and the error names its option."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            where = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
            service = self.service("--listen", "tcp:0:interface=127.0.0.1", "--status", where)
            # As twistd does it.
            service.privilegedStartService()
            self.assertRaises(CannotStart, service.startService)
            self.assertIn("choose another place with --status", self.errors.getvalue())

    def service(self, *arguments: str, inside: Any = None) -> ListenService:
        """A service that has not been started."""
        options = echo.Options()
        options.parseOptions(list(arguments))
        service = ListenService(options, EventListener(), inside)
        self.addCleanup(lambda: service.stopService())
        return service

    def failing(self, error: Exception) -> Callable[..., Any]:
        """Fail like a reactor that cannot listen."""

        def listen(*args: object, **kwargs: object) -> Any:
            raise error

        return listen

    def test_unstarted(self) -> None:
        """Making a service opens nothing: it has no reactor yet."""
        service = self.service("--listen", "tcp:1")
        self.assertTrue(IService.providedBy(service))
        self.assertFalse(service.running)
        self.assertEqual([service.server], list(IServiceCollection(service)))

    def test_taken(self) -> None:
        """One line on stderr, and exit status 1; also if listening starts as root."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            line = (
                f"getty-echo: cannot listen on 127.0.0.1:{port}: {os.strerror(errno.EADDRINUSE)};"
                " choose another place with --listen"
            )
            for start in ("startService", "privilegedStartService"):
                service = self.service("--listen", f"tcp:{port}:interface=127.0.0.1")
                error = self.assertRaises(CannotStart, getattr(service, start))
                self.assertEqual((1, line), (error.code, str(error)))
                # twistd, in the background, looks for exceptions; Python exits for this one.
                self.assertIsInstance(error, Exception)
                self.assertIsInstance(error, SystemExit)
        self.assertEqual(f"{line}\n" * 2, self.errors.getvalue())

    def test_texts(self) -> None:
        """The error has the address, for every kind of endpoint."""
        denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        missing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        for error, text in [
            (CannotListenError("", 80, denied), "cannot listen on port 80: Permission denied; choose"),
            (CannotListenError("::1", 80, denied), "cannot listen on [::1]:80: Permission denied; choose"),
            (CannotListenError(None, b"/x/y.sock", missing), "cannot listen on /x/y.sock: No such file or directory;"),
            (CannotListenError(None, "/x/y.sock", "Cannot acquire lock"), "on /x/y.sock: Cannot acquire lock; choose"),
            (OSError(2, "Not there", "1234", None, b"/x/y.lock"), "cannot listen with /x/y.lock: Not there; choose"),
            (PermissionError(13, "Not allowed"), "cannot listen: Not allowed; choose"),
            (OverflowError("bind(): port must be 0-65535."), "cannot listen: bind(): port must be 0-65535"),
        ]:
            memory: Any = MemoryReactorClock()
            memory.listenTCP = self.failing(error)
            started = self.assertRaises(CannotStart, self.service("--listen", "tcp:1", inside=memory).startService)
            self.assertIn(text, str(started))

    def test_fileGone(self) -> None:
        """A file that has disappeared since the check of the options gives one line, not a traceback."""
        authority = Authority(self.mktemp())
        certificate, key = authority.issue(["localhost"])
        service = self.service("--listen", f"ssl:0:privateKey={key}:certKey={certificate}")
        os.unlink(key)
        error = self.assertRaises(CannotStart, service.startService)
        self.assertTrue(str(error).startswith("getty-echo: "), str(error))
        self.assertIn(key, str(error))

    def test_late(self) -> None:
        """An endpoint that fails later stops the reactor, with exit status 1 and one line in the log."""
        ended: list[tuple[Any, int]] = []
        self.patch(listen, "endProcess", lambda inside, status: ended.append((inside, status)))
        memory: Any = MemoryReactorClock()
        service = self.service("--listen", "tcp:1", inside=memory)
        answer: Deferred[Any] = Deferred()
        self.patch(service.server, "whenListening", lambda: answer)
        service.privilegedStartService()
        service.startService()
        lines = keepLog(self)
        answer.errback(Failure(CannotListenError("127.0.0.1", 1, OSError("no"))))
        self.assertEqual([(memory, 1)], ended)
        self.assertEqual(1, sum("getty-echo: cannot listen on 127.0.0.1:1: no" in line for line in lines), lines)

    def test_stoppedBefore(self) -> None:
        """A service that is stopped before it listens does not fail."""
        ended: list[Any] = []
        self.patch(listen, "endProcess", lambda *args: ended.append(args))
        memory: Any = MemoryReactorClock()
        service = self.service("--listen", "tcp:1", inside=memory)
        answer: Deferred[Any] = Deferred()
        self.patch(service.server, "whenListening", lambda: answer)
        service.startService()
        service.stopService()
        answer.errback(Failure(CannotListenError("127.0.0.1", 1, OSError("no"))))
        self.assertEqual([], ended)

    def test_endProcess(self) -> None:
        """endProcess stops the reactor; a status other than 0 is set at the interpreter's exit."""
        kept: list[Any] = []
        self.patch(ending.atexit, "register", lambda *args: kept.append(args))
        memory: Any = MemoryReactorClock()
        memory.stop = lambda: kept.append("stopped")
        ending.endProcess(memory, 0)
        self.assertEqual(["stopped"], kept)
        ending.endProcess(memory, 3)
        ((leave, status), _) = kept[1:]
        left: list[int] = []
        self.patch(ending.os, "_exit", left.append)
        leave(status)
        self.assertEqual([3], left)
