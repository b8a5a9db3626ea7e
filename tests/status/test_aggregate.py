"""The status of a main process and its sub-reactors, on real sockets."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import urllib.request
from typing import TYPE_CHECKING, Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parseOpenMetrics
from prometheus_client.parser import text_string_to_metric_families as parseText
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from getty_tx.processes.member import READY
from getty_tx.reactors import Processes
from getty_tx.status import StatusService
from getty_tx.status.aggregate import MemberReports
from getty_tx.status.table import COLUMNS
from tests.processes.test_twistd import ManyTestCase
from tests.status.test_service import LOCAL, StatusCase
from tests.support import programs

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.processes.member import Member


class ManyStatusCase(StatusCase):
    """A main process with two sub-reactors and a status, in this process."""

    async def serveMany(self, *, token: str | None = None, **settings: Any) -> None:
        """Start the processes and the status."""
        self.processes = Processes(f"{programs.__name__}:makeEcho", LOCAL, processes=2, drainTimeout=5, **settings)
        self.processes.setName("echo")
        self.status = StatusService(self.processes, endpoint=LOCAL, token=token)
        for service in (self.processes, self.status):
            service.startService()
            self.addCleanup(service.stopService)
        [address] = await self.processes.whenListening().addTimeout(60, reactor)
        self.port = address.port
        self.statusPort = (await self.status.whenListening()).port

    async def metrics(self) -> dict[str, float]:
        """The metrics, by name, sub-reactor, and state or reason."""
        code, text = await self.get("/metrics")
        self.assertEqual(200, code)
        return {
            " ".join([sample.name, *(value for name, value in sorted(sample.labels.items())
                                     if name in ("subreactor", "state", "reason"))]): sample.value
            for family in parseText(text) for sample in family.samples
        }  # fmt: skip

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until the condition, which may be awaitable, returns true."""
        while True:
            found = condition()
            if isinstance(found, Deferred) or hasattr(found, "__await__"):
                found = await found
            if found:
                return found
            await deferLater(reactor, 0.01)

    def pids(self) -> list[int | None]:
        """The pids of processes that take connections."""
        return [member.pid for member in self.processes.members if member.state == READY]


class MetricsTests(ManyStatusCase):
    """Counters."""

    async def test_sums(self) -> None:
        """Sums and counters of each process match what was sent; refusals of the main process count; both formats."""
        await self.serveMany(maxSessions=4)
        for number, client in enumerate([await self.echo() for _ in range(4)]):
            for _ in range(number):
                await self.exchange(client)
        refused = await self.connect(self.port)
        await refused.lost
        values = await self.metrics()
        expected = {
            "getty_sessions open": 4,
            "getty_sessions_opened_total": 4,
            "getty_read_packages_total": 10,
            "getty_write_bytes_total": 80,
            "getty_connections_refused_total maxSessions": 1,
            "getty_ready": 1,
            # Each in turn has had a connection.
            "getty_subreactor_read_packages_total 1": 4,
            "getty_subreactor_read_packages_total 2": 6,
            "getty_subreactor_sessions 1": 2,
            "getty_subreactor_sessions 2": 2,
            "getty_subreactor_up 1": 1,
            "getty_subreactor_restarts_total 1": 0,
        }
        self.assertEqual(expected, {name: values.get(name) for name in expected})
        self.assertGreater(values["getty_subreactor_cpu_seconds_total 1"], 0)
        _, text = await self.get("/metrics", "Accept: application/openmetrics-text; version=1.0.0")
        self.assertIn("getty_subreactor_up", {family.name for family in parseOpenMetrics(text)})
        self.assertIn(f'getty_read_packages_total{{endpoint="{LOCAL}",service="echo"}} 10.0', text)

    async def test_killed(self) -> None:
        """While processes are killed repeatedly, requests are answered and no counter decreases."""
        await self.serveMany()
        clients = [await self.echo() for _ in range(6)]
        seen = await self.metrics()
        self.assertEqual(6, seen["getty_read_packages_total"])
        for kill in range(2):
            [_, victim] = self.pids()
            os.kill(victim, signal.SIGKILL)
            while True:
                values = await self.metrics()
                back = [name for name in seen if "_total" in name and name in values and values[name] < seen[name]]
                self.assertEqual([], back)
                seen = values
                self.assertEqual(200, (await self.get("/sessions"))[0])
                if values["getty_subreactor_restarts_total 2"] > kill and values["getty_subreactor_up 2"]:
                    break
            self.assertEqual(3, values["getty_sessions open"])
            self.assertEqual(3, values["getty_sessions_closed_total lost"])
            self.assertEqual(6 + kill, values["getty_read_packages_total"])
            # Those of the other are still served, and the new one is counted.
            await gatherResults([Deferred.fromCoroutine(self.exchange(client)) for client in clients[:1]])
            seen = await self.metrics()
            self.assertEqual(7 + kill, seen["getty_read_packages_total"])
        self.flushLoggedErrors()

    async def test_killedUnseen(self) -> None:
        """What a killed process had counted is kept though nobody has asked for metrics since it began."""
        reported: dict[int, int] = {}
        received = MemberReports.received

        def store(reports: MemberReports, member: Member, parts: list[Any]) -> None:
            received(reports, member, parts)
            snapshot = reports.lastOf(member).snapshot
            assert snapshot is not None
            reported[member.number] = sum(endpoint.totals.readPkgs for endpoint in snapshot.endpoints)

        self.patch(MemberReports, "received", store)
        await self.serveMany()
        clients = [await self.echo() for _ in range(4)]
        # A heartbeat brings it, within a second on a machine that has time.
        await self.until(lambda: reported == {1: 2, 2: 2})
        for _ in range(3):
            await self.exchange(clients[1])
        await self.until(lambda: reported == {1: 2, 2: 5})
        victim: Any = self.pids()[1]
        os.kill(victim, signal.SIGKILL)
        await self.until(lambda: victim not in self.pids() and len(self.pids()) == 2)
        values = await self.metrics()
        expected = {
            "getty_read_packages_total": 7,
            "getty_write_packages_total": 7,
            "getty_sessions_opened_total": 4,
            "getty_sessions_closed_total lost": 2,
            "getty_sessions open": 2,
            "getty_subreactor_read_packages_total 2": 5,
        }
        self.assertEqual(expected, {name: values.get(name) for name in expected})
        self.flushLoggedErrors()

    async def test_stuck(self) -> None:
        """A stopped process is shown as silent with its last report; when it continues, so do its values."""
        await self.serveMany(heartbeatTimeout=600)
        page, _ = await self.page()
        for _ in range(2):
            await self.echo()
        while (await self.metrics())["getty_sessions open"] < 2:
            pass
        victim: Any = self.pids()[1]
        os.kill(victim, signal.SIGSTOP)
        try:
            values = await self.metrics()
            self.assertEqual((0, 1), (values["getty_subreactor_up 2"], values["getty_subreactor_up 1"]))
            self.assertEqual(2, values["getty_sessions open"])
            found = json.loads((await self.get("/sessions"))[1])
            self.assertEqual((1, [2]), (found["total"], found["silent"]))
            message = await page.when(lambda message: message["state"])
            self.assertEqual(["ready", "silent"], [each["state"] for each in message["state"]["subreactors"]])
        finally:
            os.kill(victim, signal.SIGCONT)

        async def isUp() -> bool:
            return (await self.metrics())["getty_subreactor_up 2"] == 1

        await self.until(isUp)
        found = json.loads((await self.get("/sessions"))[1])
        self.assertEqual((2, []), (found["total"], found["silent"]))


class SessionsTests(ManyStatusCase):
    """The table."""

    async def test_pages(self) -> None:
        """One table of all processes, sorted by any column in both orders; each row has its sub-reactor."""
        await self.serveMany()
        for number in range(7):
            client = await self.echo()
            for _ in range(number % 4):
                await self.exchange(client)
        pids = self.pids()
        for column in ("subreactor", "pid", *COLUMNS):
            for order in ("ascending", "descending"):
                rows: list[Any] = []
                for offset in (0, 3, 6):
                    _, text = await self.get(f"/sessions?sort={column}&order={order}&offset={offset}&limit=3")
                    found = json.loads(text)
                    self.assertEqual((7, []), (found["total"], found["silent"]))
                    rows += found["sessions"]
                if column in ("age", "silence"):
                    # From one page to the next, rounding turns those around that came at the same time.
                    continue
                self.assertEqual(7, len({(row["pid"], row["id"]) for row in rows}), column)
                self.assertEqual({(1, pids[0]), (2, pids[1])}, {(row["subreactor"], row["pid"]) for row in rows})
                values = [row[column] for row in rows]
                self.assertEqual(sorted(values, reverse=order == "descending"), values, column)
        code, text = await self.get("/sessions?sort=colour")
        self.assertEqual((400, True), (code, "subreactor" in text))

    async def test_close(self) -> None:
        """Closing needs the pid, because both processes have a session with this id, and the token."""
        await self.serveMany(token="geheim")
        page, session = await self.page()
        clients = [await self.echo() for _ in range(2)]
        rows = json.loads((await self.get("/sessions?sort=subreactor"))[1])["sessions"]
        self.assertEqual(1, len({row["id"] for row in rows}))
        number, pid = rows[1]["id"], rows[1]["pid"]
        for wanted, token, answer in (
            ({"pid": pid}, "falsch", "wrong token"),
            ({}, "geheim", "no such session is open"),
            ({"pid": 1}, "geheim", "no such session is open"),
            ({"pid": "1"}, "geheim", "no such session is open"),
            ({"pid": pid}, "geheim", "closed"),
            ({"pid": pid}, "geheim", "no such session is open"),
        ):
            session.writePkg(json.dumps({"close": number, "token": token, **wanted}))
            message = await page.when(lambda message: "answer" in message)
            self.assertEqual({"close": number, "answer": answer}, message)
        await clients[1].lost
        await self.exchange(clients[0])

    async def test_errors(self) -> None:
        """The last errors of all processes, each with its sub-reactor: the main process's, and an ended one's."""
        await self.serveMany(maxSessions=1)
        page, _ = await self.page()
        client = await self.echo()
        refused = await self.connect(self.port)
        await refused.lost
        client.transport.write(b"\xff\xff\xff\xff")
        await client.lost

        def all(message: Any) -> bool:
            return message["state"] is not None and len(message["state"]["errors"]) == 2

        found = (await page.when(all))["state"]["errors"]
        expected = [("MessageTooLongError", 1, "echo"), ("refused: maxSessions", None, "echo")]
        self.assertEqual(expected, [(each["kind"], each.get("subreactor"), each["service"]) for each in found])
        os.kill(self.pids()[0] or 0, signal.SIGKILL)
        await self.until(lambda: self.processes.restarts == [1, 0])
        found = (await page.when(all))["state"]["errors"]
        self.assertEqual(expected, [(each["kind"], each.get("subreactor"), each["service"]) for each in found])
        self.flushLoggedErrors()


class LifeTests(ManyStatusCase):
    """Reloads and stops."""

    async def test_reload(self) -> None:
        """During a reload it stays ready and no counter decreases; draining processes count until their end."""
        await self.serveMany()
        clients = [await self.echo() for _ in range(4)]
        before = self.pids()
        reloaded = self.processes.reload()
        while not reloaded.called or len(self.processes.members) > 2:
            self.assertEqual((200, "ok\n"), await self.get("/health/ready"))
            self.assertEqual(4, (await self.metrics())["getty_read_packages_total"])
        self.assertTrue(await reloaded)
        self.assertFalse(set(before) & set(self.pids()))
        for client in clients:
            await client.lost
        await self.echo()
        values = await self.metrics()
        expected = {
            "getty_read_packages_total": 5,
            "getty_sessions_closed_total stopping": 4,
            "getty_sessions open": 1,
            "getty_subreactor_restarts_total 1": 0,
        }
        self.assertEqual(expected, {name: values[name] for name in expected})

    async def test_drain(self) -> None:
        """While sub-reactors drain the status answers, and is not ready; then it stops."""
        await self.serveMany()
        client = await self.echo()
        # Its end does not come by itself, so that the sub-reactor drains.
        client.transport.pauseProducing()
        stopped = gatherResults([self.status.stopService(), self.processes.stopService()])
        self.assertEqual((503, "echo is stopping\n"), await self.get("/health/ready"))
        self.assertEqual(200, (await self.get("/health/live"))[0])
        values = await self.metrics()
        self.assertEqual((0, 1), (values["getty_ready"], values["getty_read_packages_total"]))
        client.transport.abortConnection()
        await stopped
        await self.assertFailure(self.connect(self.statusPort), Exception)

    async def test_noSub(self) -> None:
        """Without a sub-reactor that takes connections it is not ready."""
        await self.serveMany()
        for pid in self.pids():
            os.kill(pid or 0, signal.SIGKILL)
        await self.until(lambda: not self.processes.isReady)
        self.assertEqual((503, "echo has no sub-reactor that is ready\n"), await self.get("/health/ready"))
        self.assertEqual(0, (await self.metrics())["getty_subreactor_up 1"])

        async def isReady() -> bool:
            return (await self.get("/health/ready"))[0] == 200

        await self.until(isReady)
        self.flushLoggedErrors()


class CommandTests(ManyTestCase):
    """The command."""

    def get(self, path: str) -> str:
        """The body of the response."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=30) as answer:
            text: str = answer.read().decode()
        return text

    def test_command(self) -> None:
        """``--status`` with ``--processes``: the names and labels are those of one process; SIGTERM ends it in time."""
        process = self.serve("--status=tcp:0:interface=127.0.0.1", "--drain-timeout=4")
        self.url = process.expect("status on (http://[^ ]*)/ ")[1]
        [port] = self.ports(process)
        # Sub-reactors have no status, and import nothing of it.
        self.assertEqual(["0"] * 4, [self.ask(self.connect(port), b"web") for _ in range(4)])
        text = self.get("/metrics")
        self.assertIn('getty_read_packages_total{endpoint="tcp:0:interface=127.0.0.1",service="getty-serve"} 4.0', text)
        self.assertEqual(4, json.loads(self.get("/sessions"))["total"])
        self.assertEqual(1, len(re.findall("status on", process.output)))
        with socket.create_connection(("127.0.0.1", int(self.url.rpartition(":")[2]))) as page:
            # A connection that reads nothing.
            page.sendall(b"GET /sessions HTTP/1.1\r\nHost: localhost\r\n")
            self.stop(process)
        self.assertIn("has stopped: 4 sessions served", process.output)
