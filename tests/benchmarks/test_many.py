"""Many connections at once: how they are divided for a machine, and that what is lost is found."""

from __future__ import annotations

import io
import resource
import shutil
import subprocess
import sys
from contextlib import redirect_stderr
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import many
from benchmarks.many import Crowd, HoldError, plansFor
from benchmarks.room import (
    BATCH,
    MOST_PROCESSES,
    RESERVE,
    Machine,
    Plan,
    RoomError,
    makePlan,
    raiseFileLimit,
    sourceAddress,
)
from benchmarks.servers import ServerProcess
from tests.tap.test_twistd import ROOT, Process, ProcessTestCase

#: One whose processes may have 20,000 open files each.
MACHINE = Machine(20_000, 2_000_000, 16_000_000_000, 28_232, 4096)
EACH = 20_000 - RESERVE

#: An echo that closes its 31st connection when something comes, and answers on its 33rd what was not sent. The first
#: one is that which waits for the port.
FAULTY = """\
from twisted.internet import protocol, reactor
class Faulty(protocol.Protocol):
    count = 0
    def connectionMade(self):
        Faulty.count += 1
        self.number = Faulty.count
    def dataReceived(self, data):
        if self.number == 31: self.transport.loseConnection()
        else: self.transport.write(data[:-1] + b'!' if self.number == 33 else data)
reactor.listenTCP({port}, protocol.Factory.forProtocol(Faulty), interface='127.0.0.1')
reactor.run()
"""


class PlanTests(SynchronousTestCase):
    """How many processes and addresses there are."""

    def test_limited(self) -> None:
        """What one process may not have takes several sub-reactors and holders, none with more than it may have."""
        plan = makePlan(MACHINE, 100_000, 100)
        self.assertEqual((100_000, 6, ""), (plan.connections, plan.processes, plan.limit))
        self.assertEqual((99_900, 6), (sum(plan.holders), len(plan.holders)))
        self.assertLessEqual(max(plan.holders), EACH)
        self.assertLessEqual(max(plan.holders) - min(plan.holders), 1)

    def test_unlimited(self) -> None:
        """Where the limit could be raised, one process has them all."""
        plan = makePlan(replace(MACHINE, files=100_000 + RESERVE), 100_000, 100)
        self.assertEqual((100_000, 0, (99_900,)), (plan.connections, plan.processes, plan.holders))

    def test_one(self) -> None:
        """One process has what it may have, and the plan says why that is not all."""
        plan = makePlan(MACHINE, 100_000, 100, 0)
        self.assertEqual((EACH, 0, (EACH - 100,)), (plan.connections, plan.processes, plan.holders))
        self.assertIn("20000 open files of a process", plan.limit)
        self.assertEqual(2 * EACH, makePlan(MACHINE, 100_000, 100, 2).connections)

    def test_machine(self) -> None:
        """Processes, open files of the whole system, and memory are limits as well."""
        for machine, most, why in (
            (replace(MACHINE, files=1064), MOST_PROCESSES * 1000, "1064 open files"),
            (replace(MACHINE, allFiles=50_000), 24_000, "fs.file-max"),
            (replace(MACHINE, memory=1_000_000_000), 25_000, "1000 MB"),
        ):
            plan = makePlan(machine, 100_000, 100)
            self.assertEqual(most, plan.connections)
            self.assertIn(why, plan.limit)

    def test_noRoom(self) -> None:
        """Less than the active ones and one more is an error, which says what the limit is."""
        error = self.assertRaises(RoomError, makePlan, replace(MACHINE, allFiles=2100), 100_000, 100)
        self.assertIn("room for 50 connections", str(error))
        self.assertIn("fs.file-max", str(error))
        error = self.assertRaises(RoomError, makePlan, replace(MACHINE, files=RESERVE), 100_000, 100)
        self.assertIn("room for 0 connections", str(error))

    def test_addresses(self) -> None:
        """No two holders come from the same address, and none takes more than half of its ports."""
        plan = makePlan(replace(MACHINE, ports=9000), 100_000, 100)
        self.assertEqual(4500, plan.perAddress)
        used: set[str] = set()
        for holder, count in enumerate(plan.holders):
            first = plan.firstAddress(holder)
            own = {sourceAddress(first + number // plan.perAddress) for number in range(count)}
            self.assertFalse(used & own)
            used |= own
        self.assertEqual(("127.0.0.2", "127.0.0.251", "127.0.1.2"), tuple(map(sourceAddress, (0, 249, 250))))

    def test_backlog(self) -> None:
        """No more wait to be accepted than the system lets wait."""
        self.assertEqual(BATCH, makePlan(MACHINE, 100_000, 100).batch)
        self.assertEqual(16, makePlan(replace(MACHINE, backlog=16), 100_000, 100).batch)

    def test_here(self) -> None:
        """This machine has room for some, and its limits are read."""
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            machine = Machine.here(200)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        self.assertEqual(200, machine.each)
        self.assertEqual((200, ""), (makePlan(machine, 200, 10).connections, makePlan(machine, 200, 10).limit))

    def test_raised(self) -> None:
        """The soft limit is raised as far as is wanted and may be."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        most = min(hard, 4096)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most // 2, hard))
        self.assertEqual(most // 4, raiseFileLimit(most // 4))
        self.assertEqual((most // 2, hard), resource.getrlimit(resource.RLIMIT_NOFILE))
        self.assertEqual(most, raiseFileLimit(most))
        self.assertEqual((most, hard), resource.getrlimit(resource.RLIMIT_NOFILE))

    def test_refused(self) -> None:
        """Where the hard limit may not be raised, it is what there is."""

        def setrlimit(_: int, limits: tuple[int, int]) -> None:
            if limits[1] > 2000:
                raise ValueError("not allowed to raise maximum limit")
            made.append(limits)

        made: list[tuple[int, int]] = []
        self.patch(resource, "getrlimit", lambda _: (1000, 2000))
        self.patch(resource, "setrlimit", setrlimit)
        self.assertEqual((2000, [(2000, 2000)]), (raiseFileLimit(5000), made))


class OptionTests(SynchronousTestCase):
    """The command line."""

    def plans(self, *arguments: str) -> list[tuple[str, int, int]]:
        """What it measures on a machine: names, connections and sub-reactors."""
        self.patch(sys, "argv", ["many", *arguments])
        return [(name, plan.connections, plan.processes) for name, _, plan in plansFor(many.parse(), MACHINE)]

    def test_plans(self) -> None:
        """One process of each server, and sub-reactors where they can have more; or what is asked for."""
        one = [("getty_tx", EACH, 0), ("twisted", EACH, 0)]
        self.assertEqual([*one, ("getty_tx x6", 100_000, 6)], self.plans())
        few = [("getty_tx", 5000, 0), ("twisted", 5000, 0)]
        self.assertEqual(few, self.plans("--connections", "5000"))
        self.assertEqual([("getty_tx x2", 5000, 2)], self.plans("--connections", "5000", "--processes", "2"))
        self.assertEqual([("getty_tx", EACH, 0)], self.plans("--processes", "0"))

    def test_reactor(self) -> None:
        """The server runs on the fast reactor unless told otherwise, sub-reactors as well."""
        for arguments, reactor in (((), "getty"), (("--reactor", "epoll"), "epoll")):
            self.patch(sys, "argv", ["many", *arguments])
            commands = [command for name, command, _ in plansFor(many.parse(), MACHINE) if "getty" in name]
            self.assertEqual([True, True], [f"twistd --reactor {reactor} -n " in command for command in commands])
            self.assertIn("--processes 6", commands[1])

    def test_errors(self) -> None:
        """What cannot be measured is refused, by the name of the option."""
        for option, value in (
            ("--connections", "100"),
            ("--active", "0"),
            ("--processes", "-1"),
            ("--repetitions", "0"),
            ("--seconds", "0"),
        ):
            self.patch(sys, "argv", ["many", option, value])
            with redirect_stderr(io.StringIO()) as printed:
                self.assertRaises(SystemExit, many.parse)
            self.assertRegex(printed.getvalue(), rf"error: .*{option}")


class CrowdTests(SynchronousTestCase):
    """The processes that hold connections, with a server that is not right."""

    def test_faults(self) -> None:
        """A connection that the server closes, and one with a wrong answer, are found; the others are served."""
        plan = Plan(60, 10, 0, (25, 25), 20, 10, "")
        with ServerProcess(f'python -c "{FAULTY}"') as server, Crowd(server.port, plan, lambda text: None) as crowd:
            self.assertGreater(crowd.open(), 0)
            error = self.assertRaises(HoldError, crowd.echo)
        self.assertIn("2 of 50 connections had no echo, 2 of them were closed or wrong", str(error))

    def test_refused(self) -> None:
        """Without a server the error tells why."""
        with ServerProcess(f'python -c "{FAULTY}"') as server:
            port = server.port
        with Crowd(port, Plan(20, 10, 0, (10,), 20, 10, ""), lambda text: None) as crowd:
            error = self.assertRaises(HoldError, crowd.open)
        self.assertIn("not all connections could be opened: ", str(error))
        self.assertIn("refused", str(error))


class RunTests(ProcessTestCase):
    """Programs as a whole."""

    def setUp(self) -> None:
        super().setUp()
        # What it starts is found from where it is itself, and is not to leave a cache of dropins in the checkout.
        shutil.copytree(ROOT / "benchmarks", f"{self.folder}/benchmarks", ignore=shutil.ignore_patterns("__pycache__"))

    def test_run(self) -> None:
        """200 connections to two sub-reactors, of which 10 are active, are served and measured."""
        counts = ("--connections", "200", "--active", "10", "--processes", "2")
        run = self.run_(sys.executable, "-m", "benchmarks.many", *counts, "--repetitions", "1", "--seconds", "0.2")
        self.assertEqual(0, run.end(), run.output)
        self.assertEqual([], run.errors)
        run.expect("; getty_tx on --reactor getty; 10 connections are active$")
        run.expect(r"^  getty_tx x2 +200( +[\d.-]+){12}$")

    def test_end(self) -> None:
        """A holder ends with its input, and so with whoever has started it."""
        command = [sys.executable, "-m", "benchmarks.holder", "1", "1", "0", "1", "1"]
        holder = Process(command, self.environment, self.folder, subprocess.PIPE)
        self.addCleanup(holder.kill)
        holder.type(None)
        self.assertEqual(0, holder.end(), holder.output)
