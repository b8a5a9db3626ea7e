"""Tests of several processes, run with twistd as users do."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.errors import SettingError
from getty_tx.reactors import Processes
from getty_tx.tap import echo
from tests.support import programs
from tests.support.certificates import Authority
from tests.tap.test_twistd import PATIENCE, TWISTD, Process, ProcessTestCase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


#: Gives a program a socket as systemd does; the place of the socket is on standard output.
ACTIVATE = """
import os, socket, sys
bound = socket.create_server(("127.0.0.1", 0))
print("bound", bound.getsockname()[1], flush=True)
if bound.fileno() != 3:
    os.dup2(bound.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="some")
os.execv(sys.executable, sys.argv[1:])
"""

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class ManyTestCase(ProcessTestCase):
    """Servers with two sub-reactors."""

    def setUp(self) -> None:
        super().setUp()
        self.connections: list[socket.socket] = []

    def serve(self, *more: str, listener: str = f"{programs.__name__}:Who", before: Sequence[str] = TWISTD) -> Process:
        """Start ``getty-serve``, by default on TCP."""
        words = ["getty-serve", f"--listener={listener}", "--processes=2", *more]
        if not any(word.startswith("--listen=") for word in more):
            words.append("--listen=tcp:0:interface=127.0.0.1")
        return self.run_(*before, "-n", "--pidfile=", *words)

    def ports(self, process: Process) -> list[int]:
        """Wait until it is ready; return the ports of its endpoints, 0 where there is none."""
        places: list[str] = process.expect(r"serves (.*) with 2 processes")[1].split(", ")
        return [int(port) if (port := place.rpartition(":")[2]).isdigit() else 0 for place in places]

    def connect(self, port: int) -> socket.socket:
        """Make a connection, closed after the test."""
        self.connections.append(socket.create_connection(("127.0.0.1", port), PATIENCE))
        self.addCleanup(self.connections[-1].close)
        return self.connections[-1]

    def ask(self, connection: Any, what: bytes = b"who") -> str:
        """Send a line; return the answer, empty at the end."""
        connection.sendall(what + b"\n")
        answer: bytes = connection.recv(1000)
        return answer.decode().strip()

    def subs(self, process: Process) -> list[int]:
        """Return the process ids of the sub-reactors."""
        pid = process.pid
        return sorted(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait until the condition is true."""
        end = time.monotonic() + PATIENCE
        while not condition():
            self.assertLess(time.monotonic(), end, "waited in vain")
            time.sleep(0.01)

    def stop(self, process: Process, isClean: bool = True) -> None:
        """Stop the program; it ends in order, with all its processes."""
        for connection in self.connections:
            # Otherwise it would wait for their ends, too.
            connection.close()
        subs = self.subs(process)
        process.send(signal.SIGTERM)
        self.assertEqual(0, process.end(), process.output)
        self.assertEqual([], [pid for pid in subs if os.path.exists(f"/proc/{pid}")])
        if isClean:
            self.assertNotIn("Traceback", process.output)


class ServeTests(ManyTestCase):
    """Serving and balancing."""

    def test_roundRobin(self) -> None:
        """Connections are spread exactly evenly; SIGTERM ends all with status 0; totals are sums."""
        process = self.serve()
        [port] = self.ports(process)
        connections = [self.connect(port) for _ in range(20)]
        served = [int(self.ask(each)) for each in connections]
        self.assertEqual([10, 10], [served.count(pid) for pid in self.subs(process)])
        process.send(signal.SIGTERM)
        self.assertEqual([b""] * 20, [each.recv(1) for each in connections])
        self.stop(process)
        self.assertIn("tap.listen#info] getty-serve has stopped: 20 sessions served, 0 connections", process.output)

    def test_everywhere(self) -> None:
        """TLS, WebSocket, unix sockets; the chosen reactor; a limit for all processes together."""
        authority = Authority(self.mktemp())
        certificate, key = map(os.path.abspath, authority.issue(["localhost"]))
        process = self.serve(
            "--listen=tcp:0:interface=127.0.0.1",
            f"--listen=ssl:0:privateKey={key}:certKey={certificate}:interface=127.0.0.1",
            "--listen=ws:0:interface=127.0.0.1:path=/",
            "--listen=unix:some.sock",
            "--max-sessions=4",
            "--max-sessions-per-host=3",
            "--balance=least-connections",
            before=[*TWISTD, "--reactor=getty"],
        )
        plain, tls, web, _ = self.ports(process)
        first = self.connect(plain)
        context = ssl.create_default_context(cafile=authority.path)
        encrypted = context.wrap_socket(self.connect(tls), server_hostname="localhost")
        local = self.connectUnix(os.path.join(self.folder, "some.sock"))
        for each in (encrypted, local):
            self.addCleanup(each.close)
        served = [int(self.ask(each)) for each in (first, encrypted, local)]
        self.assertEqual("getty_tx.reactors.epoll", self.ask(first, b"reactor"))
        upgraded = self.connect(web)
        upgraded.sendall(UPGRADE)
        self.assertIn(b"101 Switching Protocols", upgraded.recv(1000))
        upgraded.sendall(b"\x82\x84\0\0\0\0who\n")
        served.append(int(upgraded.recv(100)[2:]))
        self.assertEqual([2, 2], [served.count(pid) for pid in self.subs(process)])
        # There are four, so that no other has room, to whichever it comes.
        self.assertEqual(b"", self.connect(plain).recv(1))
        first.close()
        self.wait(lambda: self.hasRoom(plain))
        process.send(signal.SIGTERM)
        # A WebSocket's peer is told that the server goes away.
        frame = upgraded.recv(2) + upgraded.recv(2)
        self.assertEqual((b"\x88", struct.pack(">H", 1001)), (frame[:1], frame[2:]))
        for each in (upgraded, encrypted, local):
            each.close()
        self.assertEqual(0, process.end())
        self.assertFalse(os.path.exists(os.path.join(self.folder, "some.sock")))
        self.assertIn("maxSessions=4 reached", process.output)
        self.assertNotIn("maxSessionsPerHost", process.output)
        self.assertNotIn("Traceback", process.output)

    def test_answered(self) -> None:
        """
        WebSocket clients above a limit get an answer, also over TLS, and count once; others are dropped. It is so for
        each limit, and for each way to share connections.
        """
        authority = Authority(self.mktemp())
        certificate, key = map(os.path.abspath, authority.issue(["localhost"]))
        context = ssl.create_default_context(cafile=authority.path)
        for limit, *more in (
            ("--max-sessions=2",),
            ("--max-sessions-per-host=2", "--balance=least-connections"),
            ("--max-sessions=2", "--balance=reuse-port"),
        ):
            process = self.serve(
                "--listen=tcp:0:interface=127.0.0.1",
                "--listen=ws:0:interface=127.0.0.1",
                f"--listen=wss:0:privateKey={key}:certKey={certificate}:interface=127.0.0.1",
                limit,
                *more,
            )
            plain, web, secure = self.ports(process)
            served = refused = 0
            while served < 2:
                # With reuse-port the kernel may choose one that has its part of the sessions.
                answer = self.upgrade(self.connect(web))
                served += b"101 Switching Protocols" in answer
                refused += b"503 Service Unavailable" in answer
                self.assertLess(refused, 60, answer)
            for _ in range(2):
                encrypted = context.wrap_socket(self.connect(secure), server_hostname="localhost")
                self.addCleanup(encrypted.close)
                for each in (encrypted, self.connect(web)):
                    answer = self.upgrade(each)
                    self.assertTrue(answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n"), (limit, more, answer))
                    self.assertEqual(b"", each.recv(1000))
                self.assertEqual(b"", self.connect(plain).recv(1))
            self.stop(process)
            name = "maxSessionsPerHost" if "host" in limit else "maxSessions"
            self.assertIn(f"({name}: ", process.output)
            self.assertIn(f"2 sessions served, {refused + 6} connections refused", process.output)

    def upgrade(self, connection: Any) -> bytes:
        """Ask for a WebSocket; return the answer."""
        connection.sendall(UPGRADE)
        answer: bytes = connection.recv(1000)
        return answer

    def hasRoom(self, port: int) -> bool:
        """Return whether a connection is served."""
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            try:
                return self.ask(connection) != ""
            except ConnectionError:
                return False

    def test_reusePort(self) -> None:
        """The kernel balances, for TCP and UDP."""
        process = self.serve(
            "--balance=reuse-port",
            "--listen=tcp:0:interface=127.0.0.1",
            "--listen=udp:0:interface=127.0.0.1:sessions=peer",
        )
        stream, datagrams = self.ports(process)
        subs = set(map(str, self.subs(process)))
        served = set()
        while served != subs:
            served.add(self.ask(self.connect(stream)))
            self.assertLessEqual(served, subs)
        served.clear()
        while served != subs:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                peer.settimeout(PATIENCE)
                peer.connect(("127.0.0.1", datagrams))
                served.add(self.ask(peer))
        self.stop(process)

    def test_systemd(self) -> None:
        """A socket of systemd belongs to the main process; early clients wait until all is ready."""
        before = [sys.executable, "-c", ACTIVATE, *TWISTD]
        process = self.serve("--listen=systemd:domain=INET:name=some", before=before)
        port = int(process.expect("bound (.*)")[1])
        self.ask(self.connect(port))
        self.ports(process)
        served = {self.ask(self.connect(port)) for _ in range(2)}
        self.assertEqual(set(map(str, self.subs(process))), served)
        self.stop(process)


class FaultTests(ManyTestCase):
    """Failures, and reloads."""

    def test_killed(self) -> None:
        """When a sub-reactor is killed repeatedly, connections of the other stay, and new ones are always served."""
        process = self.serve()
        [port] = self.ports(process)
        stays, victim = self.subs(process)
        connections = [self.connect(port) for _ in range(8)]
        kept = [each for each in connections if self.ask(each) == str(stays)]
        self.assertEqual(4, len(kept))
        for _ in range(2):
            os.kill(victim, signal.SIGKILL)
            while True:
                # Those that were on their way to the killed one are served as well.
                with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
                    try:
                        served = self.ask(connection)
                    except ConnectionError:
                        served = ""
                if served not in ("", str(stays)):
                    break
            self.assertEqual([str(stays)] * 4, [self.ask(each) for each in kept])
            [victim] = set(self.subs(process)) - {stays}
            self.assertEqual(str(victim), served)
        self.stop(process)
        self.assertIn("was ended by SIGKILL, with 4 connections", process.output)

    def test_stuck(self) -> None:
        """A sub-reactor without heartbeats is logged, killed and replaced; one that a signal ends is replaced."""
        process = self.serve("--heartbeat-timeout=1")
        [port] = self.ports(process)
        first, second = self.connect(port), self.connect(port)
        stuck, other = int(self.ask(first)), int(self.ask(second))
        first.sendall(b"stick\n")
        process.expect(rf"\(process {stuck}\) has not been heard of for .*: it gets no more connections")
        self.assertEqual(str(other), self.ask(self.connect(port)))
        process.expect(rf"\(process {stuck}\) has not been heard of for .*: killed")
        self.assertEqual(b"", first.recv(1))
        self.wait(lambda: other in self.subs(process) and len(self.subs(process)) == 2)
        self.assertEqual(str(other), self.ask(second))
        os.kill(other, signal.SIGTERM)
        self.assertEqual(b"", second.recv(1))
        second.close()
        process.expect(rf"\(process {other}\) has ended with status 0")
        self.wait(lambda: len(self.subs(process)) == 2)
        self.assertNotIn(self.ask(self.connect(port)), ("", str(stuck), str(other)))
        self.stop(process)

    def write(self, code: str) -> None:
        """Change the module with the listener."""
        path = Path(self.folder, "mine.py")
        lines = ["from getty_tx import EventListener", "class Listener(EventListener):"]
        path.write_text("\n".join([*lines, "    def onMessage(self, session, pkg):", f"        {code}", ""]))
        # Python tells by whole seconds, and the size, whether it has to compile a module anew.
        os.utime(path, (time.time(), os.stat(path).st_mtime + len(code) * 10))

    def test_reload(self) -> None:
        """On SIGHUP new code takes over, no connection is refused, and old sessions end. Bad code changes nothing."""
        self.write("session.writePkg(b'one')")
        process = self.serve(listener="mine:Listener")
        [port] = self.ports(process)
        old = [self.connect(port) for _ in range(4)]
        self.assertEqual(["one"] * 4, [self.ask(each) for each in old])
        before = self.subs(process)
        self.write("session.writePkg(b'second')")
        process.send(signal.SIGHUP)
        answers = []
        while not answers or answers[-1] != "second":
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
                answers.append(self.ask(connection))
        self.assertEqual({"one", "second"}, set(answers))
        process.expect("#info] reloaded")
        self.assertEqual([b""] * 4, [each.recv(1) for each in old])
        for each in old:
            each.close()
        self.wait(lambda: len(self.subs(process)) == 2)
        after = self.subs(process)
        self.assertFalse(set(before) & set(after))
        self.write("this is no Python")
        process.send(signal.SIGHUP)
        process.expect("reload given up")
        self.wait(lambda: self.subs(process) == after)
        self.assertEqual("second", self.ask(self.connect(port)))
        self.stop(process, isClean=False)
        self.assertIn("cannot start: --listener mine:Listener: importing 'mine' failed: SyntaxError", process.output)

    def test_certificates(self) -> None:
        """On SIGHUP the present certificate is loaded."""
        authority = Authority(self.mktemp())
        paths = [os.path.join(self.folder, name) for name in ("cert.pem", "key.pem")]

        def issue(name: str) -> None:
            for made, path in zip(authority.issue([name]), paths, strict=True):
                os.replace(made, path)

        issue("before.example")
        process = self.serve(f"--listen=ssl:0:certKey={paths[0]}:privateKey={paths[1]}:interface=127.0.0.1")
        [port] = self.ports(process)
        context = ssl.create_default_context(cafile=authority.path)
        issue("after.example")
        with context.wrap_socket(self.connect(port), server_hostname="before.example") as connection:
            self.ask(connection)
            process.send(signal.SIGHUP)
            process.expect("#info] reloaded")
        with context.wrap_socket(self.connect(port), server_hostname="after.example") as connection:
            self.ask(connection)
        self.stop(process)

    def test_cannotStart(self) -> None:
        """When sub-reactors cannot start, the exit status is 1, with the reason."""
        self.write("pass")
        path = Path(self.folder, "mine.py")
        path.write_text(
            "import sys\nif sys.argv[-1].startswith('sub-reactor'): raise OSError('no such thing')\n" + path.read_text()
        )
        process = self.serve(listener="mine:Listener")
        self.assertEqual(1, process.end(), process.output)
        self.assertIn("#critical] getty-serve: --listener mine:Listener: importing 'mine' failed", process.output)
        self.assertIn("OSError: no such thing", process.output)

    def test_taken(self) -> None:
        """A port in use is an error at once."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            process = self.serve(f"--listen=tcp:{taken.getsockname()[1]}:interface=127.0.0.1")
            self.assertEqual(1, process.end())
        self.assertIn("Address already in use; choose another place with --listen", process.errors[-1])

    def test_application(self) -> None:
        """Started from Python: when the main process is killed, the sub-reactors end by themselves."""
        with open(os.path.join(self.folder, "many.tac"), "w") as file:
            file.write(
                "from twisted.application.service import Application\n"
                "from getty_tx.reactors import Processes\n"
                "application = Application('many')\n"
                f"service = Processes('{programs.__name__}:makeWho', 'unix:x.sock', processes=2, drainTimeout=2)\n"
                "service.setServiceParent(application)\n"
            )
        process = self.twistd("-y", "many.tac")
        for number in (1, 2):
            process.expect(rf"sub-reactor {number} .* is ready")
        path = os.path.join(self.folder, "x.sock")
        with self.connectUnix(path) as first, self.connectUnix(path) as second:
            subs = self.subs(process)
            self.assertEqual(subs, sorted(int(self.ask(each)) for each in (first, second)))
            process.send(signal.SIGKILL)
            self.assertEqual([b"", b""], [each.recv(1) for each in (first, second)])
        self.wait(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in subs))


class SettingTests(SynchronousTestCase):
    """Settings that are refused before the start."""

    def check(self, wanted: str, *words: str) -> None:
        """Check that options are refused with a text."""
        error = self.assertRaises(usage.UsageError, echo.Options().parseOptions, list(words))
        self.assertIn(wanted, str(error))

    def test_options(self) -> None:
        """Errors name the option, the value and the remedy."""
        self.check("--processes many: takes a whole number of processes, 1 or more", "--processes=many")
        self.check("or 0 for one on each core", "--processes=-1")
        self.check("--balance fair: takes one of round-robin", "--processes=2", "--balance=fair")
        self.check("--drain-timeout 0: takes a number of seconds", "--drain-timeout=0")
        udp = ["--processes=2", "--listen=udp:8090"]
        self.check("--processes 2: 'udp:8090': datagrams cannot be handed over, balance='round-robin'", *udp)
        self.check("take 'reuse-port'", *udp)
        self.check("'unix:x' is one socket", "--processes=2", "--listen=unix:x", "--balance=reuse-port")
        few = ["--processes=4", "--max-sessions=3", "--balance=reuse-port"]
        self.check("maxSessions=3 is less than processes=4", *few)

    def test_cores(self) -> None:
        """0 is one process for each usable core."""
        options = echo.Options()
        options.parseOptions(["--processes=0"])
        service = Processes("some:thing", "tcp:0", processes=0)
        self.assertEqual((0, len(os.sched_getaffinity(0))), (options["processes"], service.count))

    def test_one(self) -> None:
        """By default there are no sub-reactors, and the other options may be set anyway."""
        options = echo.Options()
        options.parseOptions(["--listen=udp:8090", "--balance=reuse-port"])
        self.assertIsNone(options["processes"])

    def test_settings(self) -> None:
        """Errors of the settings in Python."""
        for settings, wanted in [
            ({"processes": -1}, "processes=-1"),
            ({"balance": "fair"}, "balance='fair'"),
            ({"maxSessions": 0}, "maxSessions=0"),
            ({"maxSessionsPerHost": 0}, "maxSessionsPerHost=0"),
            ({"maxSessionsPerHost": 1, "balance": "reuse-port"}, "no process counts all connections"),
            ({"drainTimeout": 0}, "drainTimeout=0"),
            ({"heartbeatTimeout": -1}, "heartbeatTimeout=-1"),
        ]:
            made: dict[str, Any] = settings
            error = self.assertRaises(SettingError, Processes, "some:thing", "tcp:0", **made)
            self.assertIn(wanted, str(error))
        self.assertRaises(SettingError, Processes, "some:thing")
        self.assertRaises(SettingError, Processes, "thing", "tcp:0")
        self.assertRaises(SettingError, Processes, "some:thing", "nowhere:0")

    def test_idle(self) -> None:
        """A service that was not started has zero totals, and can be stopped."""
        service = Processes("some:thing", "tcp:0")
        self.assertEqual((0, 0, []), (service.stats["served"], service.refusals["maxSessions"], service.members))
        self.assertFalse(self.successResultOf(service.reload()))
        self.successResultOf(service.stopService())
