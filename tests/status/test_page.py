"""Chromium, on the live page."""

from __future__ import annotations

import os
import signal
from typing import Any
from weakref import WeakSet

from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall

from getty_tx import Client, EventListener
from getty_tx.groups import groups
from getty_tx.status import StatusService
from getty_tx.status.calls import CallTotals
from getty_tx.testing import MemoryRegistry
from tests.docs.test_echo_page import CHROMIUM, PATIENCE
from tests.status.test_aggregate import ManyStatusCase
from tests.status.test_service import LOCAL, StatusCase
from tests.support.devtools import Tab
from tests.support.memory import configure, frame

ROWS = "document.querySelectorAll('#sessions tbody tr')"

SUBS = "document.querySelectorAll('#subreactors tbody tr')"

#: The value in the box of the numbers that has this title.
NUMBER = "[...document.querySelectorAll('#numbers div')].find(box => box.firstChild.textContent === '%s').innerText"


class BrowserCase(StatusCase):
    """A browser with the status page."""

    timeout = 4 * PATIENCE

    if CHROMIUM is None:
        skip = "there is no Chromium (Debian: apt-get install chromium)"

    async def browse(self) -> Tab:
        """Open the page."""
        return await Tab.open(self, f"http://127.0.0.1:{self.statusPort}/")

    async def press(self, tab: Tab, element: str) -> None:
        """Give an element the focus, and press Enter."""
        await tab.ask(f"{element}.focus()")
        await tab.enter()


class PageTests(BrowserCase):
    """The page of one server."""

    async def test_sessions(self) -> None:
        """The page shows a registry, a new session and its rate under load, and its table closes it."""
        registry = MemoryRegistry()
        await self.serve(token="geheim", service="echo", registry=registry)
        tab = await self.browse()
        await tab.until("document.getElementById('health').textContent === 'ready'")
        shown = "document.querySelector('#registries > ul').textContent"
        await tab.until(f"{shown} === 'memory: (connected)echo tcp:127.0.0.1:{self.port}: registered'")
        registry.store.goAway()
        await tab.until(f"{shown}.startsWith('memory: (stale for ')")
        self.assertEqual(0, await tab.ask(f"{ROWS}.length"))
        self.assertTrue(await tab.ask("document.getElementById('subreactors').hidden"))
        client = await self.echo()
        peer = f"127.0.0.1:{client.transport.getHost().port}"
        await tab.until(f"{ROWS}.length === 1 && {ROWS}[0].textContent.includes('{peer}')")
        load = LoopingCall(lambda: client.transport.write(100 * frame(b"ping")))
        load.start(0.05)
        self.addCleanup(lambda: load.running and load.stop())
        # "2.00k" is how it writes 2000.
        await tab.until((NUMBER % "packages in/s") + ".endsWith('k')")
        self.assertEqual(5, await tab.ask("document.querySelectorAll('.plot canvas').length"))
        # By the keyboard alone: the button has a name, and takes the focus. Without the token nothing happens.
        close = f"{ROWS}[0].querySelector('button')"
        self.assertIn("Close session", await tab.ask(f"{close}.getAttribute('aria-label')"))
        await self.press(tab, close)
        await tab.until("document.activeElement.id === 'token'")
        await tab.tell("Input.insertText", text="geheim")
        await self.press(tab, close)
        await client.lost.addTimeout(PATIENCE, reactor)
        await tab.until(f"{ROWS}.length === 0")
        self.assertIn("closed", await tab.ask("document.getElementById('said').textContent"))

    async def test_sorting(self) -> None:
        """A click on the head of a column sorts the whole table by it, and another click reverses the order."""
        await self.serve()
        clients = [await self.echo() for _ in range(60)]
        await self.exchange(clients[55])
        tab = await self.browse()
        await tab.until(f"{ROWS}.length === 50")
        head = "document.querySelector('th[data-column=readPkgs] button')"
        await self.press(tab, head)
        await tab.until(f"{ROWS}[0].textContent.includes(':{clients[55].transport.getHost().port}')")
        self.assertEqual("descending", await tab.ask(f"{head}.parentNode.ariaSort"))
        await self.press(tab, head)
        await tab.until(f"{head}.parentNode.ariaSort === 'ascending' && {ROWS}[0].cells[10].textContent === '1'")
        await self.press(tab, "document.getElementById('after')")
        await tab.until(f"{ROWS}.length === 10 && {ROWS}[9].cells[10].textContent === '2'")

    async def test_endpoints(self) -> None:
        """A client of several endpoints is shown with each; without one the section is hidden."""
        await self.serve()
        tab = await self.browse()
        await tab.until("document.getElementById('health').textContent === 'ready'")
        self.assertTrue(await tab.ask("document.getElementById('providers').hidden"))
        closed = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
        good, bad = (f"tcp:127.0.0.1:{port}" for port in (self.port, closed.getHost().port))
        await closed.stopListening()
        client = Client(configure(EventListener()), [good, bad], 2)
        status = StatusService(client, endpoint=LOCAL)
        for service in (client, status):
            service.startService()
            self.addCleanup(service.stopService)
        await client.whenReady(2)
        self.statusPort = (await status.whenListening()).port
        tab = await self.browse()
        rows = "document.querySelectorAll('#providers tbody tr')"
        await tab.until(f"{rows}.length === 2 && {rows}[0].cells[5].textContent.includes('refused')")
        first, second = await tab.ask(f"[...{rows}].map(row => [...row.cells].map(cell => cell.textContent))")
        self.assertEqual(["client", bad, "connecting", "0 of 2"], [*first[:3], first[4]])
        self.assertEqual(["client", good, "open", "2 of 2", ""], [*second[:3], *second[4:]])
        said = "document.querySelector('#providers ul').textContent"
        self.assertEqual("client: connecting 1, open 1", await tab.ask(said))

    async def test_groups(self) -> None:
        """Groups appear with the first Groups, in the table of sessions, too; an engine that is away is a warning."""
        self.patch(groups, "_running", WeakSet())
        await self.serve()
        await self.echo()
        tab = await self.browse()
        await tab.until(f"{ROWS}.length === 1")
        self.assertTrue(await tab.ask("document.getElementById('groups').hidden"))
        columns = "[...document.querySelectorAll('#sessions th')].map(cell => cell.dataset.column)"
        self.assertNotIn("groups", await tab.ask(columns))
        rooms = groups.Groups()
        rooms.startService()
        self.addCleanup(rooms.stopService)
        [session] = self.server.contexts[0].sessions
        room = rooms.group("<b>room")
        await room.join(session)
        await tab.until(f"{columns}.includes('groups')")
        place = (await tab.ask(columns)).index("groups")
        self.assertEqual("1", await tab.ask(f"{ROWS}[0].cells[{place}].textContent"))
        load = LoopingCall(room.publish, frame(b"ping"))
        load.start(0.05)
        self.addCleanup(load.stop)
        row = "document.querySelector('#%s tbody tr')"
        await tab.until(f"{row % 'busiest'} && {row % 'busiest'}.cells[2].textContent.startsWith('20')")
        self.assertEqual(
            ["<b>room", "1"], await tab.ask(f"[...{row % 'largest'}.cells].slice(0, 2).map(c => c.textContent)")
        )
        self.assertTrue(await tab.ask("document.getElementById('behind').hidden"))
        engine: Any = rooms.engine
        engine.isUp = False
        await tab.until("document.getElementById('health').textContent === 'ready; the engine of groups is away'")
        self.assertEqual("engine this process: away", await tab.ask("document.querySelector('#groups ul').textContent"))

    async def test_calls(self) -> None:
        """The table of methods appears with the first call, and has their rates; without calls it is hidden."""
        await self.serve()
        tab = await self.browse()
        await tab.until("document.getElementById('health').textContent === 'ready'")
        self.assertTrue(await tab.ask("document.getElementById('calls').hidden"))
        # Counters of a server of calls; the page sees no difference.
        totals, others = CallTotals(), CallTotals()
        self.server.contexts[0].calls["server"] = {"Echo/<b>say": totals, "": others}
        totals.seconds.add(0.05)
        totals.fail("deadline")
        others.failed = {"noMethod": 3, "refused": 2}
        self.server.contexts[0].lateReplies = 7

        def call() -> None:
            totals.done += 100

        load = LoopingCall(call)
        load.start(0.05)
        self.addCleanup(lambda: load.running and load.stop())
        rows = "document.querySelectorAll('#calls tbody tr')"
        # "2.00k" is how it writes 2000.
        await tab.until(f"{rows}.length === 2 && {rows}[0].cells[4].textContent.endsWith('k')")
        load.stop()
        self.assertFalse(await tab.ask("document.getElementById('calls').hidden"))
        await tab.until(f"{rows}[0].cells[4].textContent === '0'")
        first, second = await tab.ask(f"[...{rows}].map(row => [...row.cells].map(cell => cell.textContent))")
        self.assertEqual(["echo", "server", "Echo/<b>say"], first[:3])
        none = "\N{EN DASH}"
        self.assertEqual(["0", "0", "1", "62.5", "99.3", none, none, "deadline 1"], first[4:])
        self.assertEqual(
            ["echo", "server", "(others)", "5", "0", "0", "5", *4 * [none], "noMethod 3, refused 2"],
            second,
        )
        said = "document.getElementById('ofCalls').textContent"
        self.assertEqual("late replies 7, refused 2, time-outs 1", await tab.ask(said))
        for number in range(60):
            self.server.contexts[0].calls["server"][f"Many/method{number}"] = CallTotals()
        totals.seconds.counts[-1] = 100
        await tab.until(
            f"{rows}.length === 50 && {said}.endsWith('the 50 methods with the most calls, without 12 others')"
        )
        self.assertEqual("≥ 10.0k", await tab.ask(f"{rows}[0].cells[7].textContent"))

    async def test_restart(self) -> None:
        """The page survives a restart of server and status, and goes on."""
        await self.serve()
        tab = await self.browse()
        await tab.until("document.getElementById('health').textContent === 'ready'")
        await self.status.stopService()
        await self.server.stopService()
        await tab.until("document.getElementById('health').textContent.startsWith('no connection')")
        self.server.startService()
        [address] = await self.server.whenListening()
        self.port = address.port
        again = StatusService(self.server, endpoint=LOCAL.replace("0", str(self.statusPort), 1))
        again.startService()
        self.addCleanup(again.stopService)
        await again.whenListening()
        await self.echo()
        await tab.until(f"{ROWS}.length === 1")

    async def test_colours(self) -> None:
        """The page is dark or light like the system, also after a change; there is no error, nor one of the policy."""
        await self.serve()
        tab = await self.browse()
        await tab.until("document.getElementById('health').textContent === 'ready'")
        grounds = []
        for scheme in ("dark", "light"):
            await tab.tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            grounds.append(await tab.ask("getComputedStyle(document.body).backgroundColor"))
        self.assertEqual(["rgb(18, 22, 28)", "rgb(246, 247, 249)"], grounds)
        self.assertEqual(5, await tab.ask("document.querySelectorAll('.plot canvas').length"))


class SubReactorsTests(BrowserCase, ManyStatusCase):
    """The page of a main process and its sub-reactors."""

    async def test_subReactors(self) -> None:
        """Each sub-reactor has a row with rates; the page closes sessions of any; a replaced process is shown."""
        await self.serveMany(token="geheim")
        tab = await self.browse()
        ready = f"[...{SUBS}].map(row => row.cells[2].textContent).join() === 'ready,ready'"
        await tab.until(ready)
        pids = self.pids()
        self.assertEqual(
            [["1", str(pids[0])], ["2", str(pids[1])]],
            await tab.ask(f"[...{SUBS}].map(row => [row.cells[0].textContent, row.cells[1].textContent])"),
        )
        clients = [await self.echo() for _ in range(2)]
        # Its messages, in and out, are those of the second alone.
        load = LoopingCall(lambda: clients[1].transport.write(100 * frame(b"ping")))
        load.start(0.05)
        self.addCleanup(lambda: load.running and load.stop())
        await tab.until(f"{SUBS}[1].cells[4].textContent.endsWith('k')")
        self.assertEqual("1", await tab.ask(f"{SUBS}[0].cells[3].textContent"))
        self.assertNotIn("k", await tab.ask(f"{SUBS}[0].cells[4].textContent"))
        await tab.until((NUMBER % "packages in/s") + ".endsWith('k')")
        load.stop()
        # Both have one number, so that only the process tells them apart.
        await self.press(tab, "document.querySelector('th[data-column=subreactor] button')")
        await tab.until(f"{ROWS}.length === 2 && {ROWS}[1].cells[1].textContent === '{pids[1]}'")
        close = f"{ROWS}[1].querySelector('button')"
        self.assertIn("of sub-reactor 2", await tab.ask(f"{close}.getAttribute('aria-label')"))
        await tab.ask("document.getElementById('token').focus()")
        await tab.tell("Input.insertText", text="geheim")
        await self.press(tab, close)
        await clients[1].lost.addTimeout(PATIENCE, reactor)
        await tab.until(f"{ROWS}.length === 1 && {ROWS}[0].cells[1].textContent === '{pids[0]}'")
        os.kill(pids[0] or 0, signal.SIGKILL)
        await tab.until(f"{SUBS}[0].cells[1].textContent !== '{pids[0]}' && {ready}")
        before = self.pids()
        self.assertTrue(await self.processes.reload())
        await tab.until(f"{SUBS}.length === 2 && {ready} && ![{before[0]}, {before[1]}].includes("
                        f"Number({SUBS}[0].cells[1].textContent))")  # fmt: skip
        self.assertEqual("ready", await tab.ask("document.getElementById('health').textContent"))
        self.flushLoggedErrors()
