"""The stores that are measured, each of which can be killed, started again, stopped and wiped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from typing import TYPE_CHECKING, Any

from benchmarks.servers import freePort
from tests.support.zookeeper import TICK, ZooKeeper

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TTL", "DirectoryStore", "EtcdStore", "ZooKeeperStore", "available"]

#: Seconds of a lease or a session in the measurements; etcd has none that is shorter.
TTL = 2


def _until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.02)


class DirectoryStore:
    """A folder."""

    name = "dir"
    #: Seconds until a record of one who was killed is gone.
    goneLimit = 0.01

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp()
        self.text = f"dir:{self._folder}/getty"

    def start(self) -> None:
        """It needs none."""

    def remove(self) -> None:
        """Remove it."""
        shutil.rmtree(self._folder, ignore_errors=True)


class EtcdStore:
    """Debian's etcd."""

    name = "etcd"
    goneLimit = TTL + 1.0

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp()
        self.port, self._peer = freePort(), freePort()
        self.text = f"etcd:127.0.0.1:{self.port}:ttl={TTL}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, with the data that it had."""
        client, peer = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self._peer}"
        command = ["etcd", "--name", "one", "--data-dir", f"{self._folder}/data", "--log-outputs", "/dev/null"]
        command += ["--logger", "zap", "--listen-client-urls", client, "--advertise-client-urls", client]
        command += [
            "--listen-peer-urls",
            peer,
            "--initial-advertise-peer-urls",
            peer,
            "--initial-cluster",
            f"one={peer}",
        ]
        quiet: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
        }
        self._process = subprocess.Popen(command, **quiet)
        _until(self._answers)

    def _answers(self) -> bool:
        try:
            return bool(self._ask("maintenance/status"))
        except OSError:
            return False

    def kill(self) -> None:
        """Kill it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """Let it hang."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def revoke(self) -> None:
        """End all leases."""
        for lease in self._ask("lease/leases")["leases"]:
            self._ask("lease/revoke", ID=lease["ID"])

    def _ask(self, path: str, **body: Any) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v3/{path}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)

    def wipe(self) -> None:
        """Remove its data, while it does not run."""
        shutil.rmtree(f"{self._folder}/data")

    def remove(self) -> None:
        """Kill it, and leave nothing behind."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


class ZooKeeperStore:
    """Debian's ZooKeeper."""

    name = "zookeeper"
    goneLimit = TTL + TICK / 1000 + 0.5

    def __init__(self) -> None:
        self._server = ZooKeeper()
        self.text = f"zookeeper:127.0.0.1:{self._server.port}:timeout={TTL}"

    def start(self) -> None:
        """Start it, with the data that it had."""
        self._server.start()
        _until(self._server.isServing)

    def kill(self) -> None:
        """Kill it."""
        self._server.kill()

    def pause(self) -> None:
        """Let it hang."""
        self._server.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._server.signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Remove its data, while it does not run."""
        self._server.wipe()

    def remove(self) -> None:
        """Kill it, and leave nothing behind."""
        self._server.remove()


def available() -> list[type[Any]]:
    """The stores whose programs are installed."""
    stores: list[type[Any]] = [DirectoryStore]
    if shutil.which("etcd"):
        stores.append(EtcdStore)
    if shutil.which("java") and os.path.exists("/usr/share/java/zookeeper.jar"):
        stores.append(ZooKeeperStore)
    return stores
