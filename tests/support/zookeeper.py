"""
A ZooKeeper for tests, a child process: ``java`` and Debian's jars. Where they are missing, tests skip, and say so.

It starts within a second and serves all tests of the process; each has a root of its own.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.trial.unittest import SkipTest

if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping

__all__ = ["HOST", "ZooKeeper", "shared"]

HOST = "127.0.0.1"

#: All jars of the folder together do not work: there are several of slf4j's.
JARS = (
    "zookeeper",
    "zookeeper-jute",
    "slf4j-api",
    "slf4j-nop",
    "netty-buffer",
    "netty-codec",
    "netty-common",
    "netty-handler",
    "netty-resolver",
    "netty-transport",
    "netty-transport-native-epoll",
    "netty-transport-native-unix-common",
    "snappy-java",
    "metrics-core",
    "commons-cli",
    "commons-io",
    "jackson-annotations",
    "jackson-core",
    "jackson-databind",
)

#: Milliseconds of a tick; a session has two to as many as maxSessionTimeout has.
TICK = 100


class ZooKeeper:
    """
    One server.

    :ivar port: its port, on :py:data:`HOST`; the same after :py:meth:`start` once more.
    :ivar securePort: the port of TLS, if there is a certificate.
    :param pem: a PEM file with a private key and its certificate, for TLS.
    """

    def __init__(self, pem: str | None = None) -> None:
        java = shutil.which("java")
        jars = [f"/usr/share/java/{name}.jar" for name in JARS]
        if java is None or not os.path.exists(jars[0]):
            raise SkipTest("java or ZooKeeper's jars in /usr/share/java are not installed")
        self._command = [java, "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"]
        self._command += ["-cp", ":".join(each for each in jars if os.path.exists(each))]
        self._directory = Path(tempfile.mkdtemp(prefix="zookeeper-"))
        self._pem = pem
        self.port, self.securePort = _freePorts()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, with the data that it had. :py:meth:`waitUntilServing` waits for it."""
        settings: dict[str, object] = {
            "tickTime": TICK,
            "maxSessionTimeout": 60_000,
            "dataDir": self._directory / "data",
            "clientPortAddress": HOST,
            "clientPort": self.port,
            "maxClientCnxns": 0,
            "admin.enableServer": "false",
            "4lw.commands.whitelist": "*",
        }
        if self._pem is not None:
            settings |= self._tls(self._pem)
        config = self._directory / "zoo.cfg"
        config.write_text(_lines(settings))
        self._process = subprocess.Popen(
            [*self._command, "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _tls(self, pem: str) -> Mapping[str, object]:
        return {
            "secureClientPortAddress": HOST,
            "secureClientPort": self.securePort,
            "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
            "ssl.keyStore.location": pem,
            "ssl.keyStore.type": "PEM",
            "ssl.clientAuth": "none",
        }

    def isServing(self) -> bool:
        """Whether it answers. It waits for the answer."""
        try:
            with socket.create_connection((HOST, self.port), 2) as sock:
                sock.sendall(b"ruok")
                return sock.recv(4) == b"imok"
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP, SIGCONT."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it, as ``kill -9`` does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wipe(self) -> None:
        """Remove all of its data, while it is not running."""
        shutil.rmtree(self._directory / "data", ignore_errors=True)

    def remove(self) -> None:
        """Kill it, and leave nothing behind."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)


_shared: list[ZooKeeper] = []


def shared() -> ZooKeeper:
    """
    The one that all tests of this process use. It runs until the process ends.

    :raise SkipTest: it cannot be started here.
    """
    if not _shared:
        server = ZooKeeper()
        server.start()
        atexit.register(server.remove)
        _shared.append(server)
    return _shared[0]


def _lines(settings: Mapping[str, object]) -> str:
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _freePorts() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind((HOST, 0))
        other.bind((HOST, 0))
        return one.getsockname()[1], other.getsockname()[1]
