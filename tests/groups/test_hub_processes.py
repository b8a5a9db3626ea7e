"""Groups over two sub-reactors, with clients over TCP: one order, a process that is killed, a reload."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

from benchmarks.acceptance.rooms import Record, RoomClient, settled, talk
from tests.processes.test_twistd import ManyTestCase
from tests.tap.test_twistd import ROOT

if TYPE_CHECKING:
    from tests.tap.test_twistd import Process


class TwoProcessesTests(ManyTestCase):
    """Eight members, four of which publish all the time."""

    def setUp(self) -> None:
        super().setUp()
        os.symlink(ROOT / "benchmarks", os.path.join(self.folder, "benchmarks"))

    def test_all(self) -> None:
        """
        All get all, in one order, and nothing twice: while nothing happens, when a process is killed, and over a
        reload. Presence is that of all processes, and nobody has come or left over a reload.
        """
        process = self.serve("--drain-timeout=4", "--codec=line", listener="benchmarks.acceptance.rooms:Rooms")
        [port] = self.ports(process)
        record = Record(port, "room:x")
        asyncio.run(asyncio.wait_for(self.scenario(process, record), 60))
        self.assertEqual([], list(record.check()))
        self.stop(process)

    async def scenario(self, process: Process, record: Record) -> None:
        """What happens."""
        clients = [RoomClient(record, f"user{number}") for number in range(8)]
        running = [asyncio.create_task(client.run()) for client in clients]
        await asyncio.gather(*(client.joined.wait() for client in clients))
        self.assertEqual(2, len({client.pid for client in clients}))
        talking = [asyncio.create_task(talk(client, 0.01)) for client in clients[:4]]
        await self.said(record, 50)
        who = await clients[5].ask({"who": record.room})
        self.assertEqual(sorted(client.user for client in clients), who["who"])

        victim = clients[0].pid
        self.assertIn(victim, self.subs(process))
        os.kill(victim, signal.SIGKILL)
        count = sum(client.pid == victim for client in clients)
        while any(client.pid == victim for client in clients):
            await asyncio.sleep(0.01)
        self.assertEqual(count, record.gone)
        await self.said(record, 50)

        before = set(self.subs(process))
        process.send(signal.SIGHUP)
        while before & {client.pid for client in clients}:
            await asyncio.sleep(0.01)
        await self.said(record, 50)
        who = await clients[5].ask({"who": record.room})
        self.assertEqual(sorted(client.user for client in clients), who["who"])
        # Those who took over have heard that nobody has come: all were back in time.
        for client in {client.pid: client for client in clients}.values():
            self.assertEqual([0, 0], (await client.ask({"heard": record.room}))["heard"])

        record.running = False
        await asyncio.gather(*talking)
        self.assertTrue(await settled(clients))
        for client in clients:
            if client.writer is not None:
                client.writer.close()
        await asyncio.gather(*running)

    async def said(self, record: Record, count: int) -> None:
        """Wait until so many more were published."""
        until = len(record.said) + count
        while len(record.said) < until:
            await asyncio.sleep(0.01)
