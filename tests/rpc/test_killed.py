"""Servers in processes of their own that are killed, or reloaded, while calls run."""

from __future__ import annotations

import signal
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from getty_tx import rpc
from tests.rpc.test_services_on_sockets import until
from tests.support import slow
from tests.tap.test_twistd import PATIENCE, TWISTD, Process, ProcessTestCase


class ProcessCase(TestCase, ProcessTestCase):
    """Programs, and clients of them in this process."""

    timeout = 4 * PATIENCE

    def serve(self, port: int = 0, *more: str) -> Process:
        """Start ``getty-rpc``."""
        words = ["getty-rpc", f"--service={slow.__name__}:Slow", f"--listen=tcp:{port}:interface=127.0.0.1", *more]
        return self.run_(*TWISTD, "-n", "--pidfile=", *words)

    async def port(self, process: Process, pattern: str) -> int:
        """Wait until it is ready."""
        found: Any = await deferToThread(process.expect, pattern)
        return int(found[1].rpartition(":")[2])

    def client(self, port: int, **options: Any) -> rpc.Client:
        """A client that dials anew at once."""
        client = rpc.Client(f"tcp:127.0.0.1:{port}", reconnectInterval=0.02, **options)
        client.startService()
        self.addCleanup(client.stopService)
        return client


class KilledTests(ProcessCase):
    """kill -9."""

    async def test_killed(self) -> None:
        """The errors say what was sent, nothing hangs, and the client goes on with the next server at the place."""
        process = self.serve()
        port = await self.port(process, r"serves? .*?(tcp:[^ ]*|[0-9.]+:\d+)")
        client = self.client(port, number=2)
        await client.whenReady(2)
        running = [client.call("Slow", "never", timeout=None) for _ in range(20)]
        self.assertEqual(await client.call("Slow", "pid"), process.pid)
        process.send(signal.SIGKILL)
        for call in running:
            error = await self.assertFailure(call, rpc.CallLostError)
            self.assertTrue(error.sent)
            self.assertFalse(error.retryable)
        await until(lambda: client.pick() is None)
        late = [client.call("Slow", "pid", timeout=0.05), client.call("Slow", "pid", timeout=PATIENCE)]
        error = await self.assertFailure(late[0], rpc.CallLostError)
        self.assertFalse(error.sent)
        with self.assertRaises(rpc.CallLostError) as raised:
            client.send("Slow", "pid")
        self.assertFalse(raised.exception.sent)
        successor = self.serve(port)
        self.assertEqual(await late[1], successor.pid)
        self.assertEqual(await client.call("Slow", "pid"), successor.pid)
        await client.whenReady(2)


class ReloadTests(ProcessCase):
    """SIGHUP with two sub-reactors."""

    async def test_reload(self) -> None:
        """No call is lost: those that run end in the old processes, new ones go to the new."""
        process = self.serve(0, "--processes=2")
        port = await self.port(process, r"serves (.*) with 2 processes")
        client = self.client(port, number=4, timeout=PATIENCE)
        await client.whenReady(4)
        before = {await call for call in [client.call("Slow", "last", 0.01) for _ in range(8)]}
        running = [client.call("Slow", "last", 1.0) for _ in range(40)]
        process.send(signal.SIGHUP)
        meanwhile = []
        while not meanwhile or meanwhile[-1] in before:
            meanwhile.append(await client.call("Slow", "pid"))
        self.assertLessEqual({await call for call in running}, before)
        await deferToThread(process.expect, "#info] reloaded")
        after = {await call for call in [client.call("Slow", "last", 0.01) for _ in range(8)]}
        self.assertFalse(after & before)
