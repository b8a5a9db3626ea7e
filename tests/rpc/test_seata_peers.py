"""Seata's wire beside another: seata-python of PyPI, a client from 2021."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.trial.unittest import SkipTest, TestCase

from getty_tx import rpc
from getty_tx.rpc import seata
from tests.rpc.test_seata_messages import GOLDEN

HERE = Path(__file__).resolve().parent
SCRIPT = str(HERE / "peers" / "seatapython.py")

#: Of an environment with seata-python, whose protobuf is too old for ours; another place is named by SEATA_PYTHON.
PYTHON = Path(os.environ.get("SEATA_PYTHON", HERE.parents[1] / "build" / "seata" / "bin" / "python"))
INSTALL = (
    "python -m venv build/seata; build/seata/bin/pip install --no-deps seata-python==0.1 DBUtils==2.0 "
    "antlr4-mysql==0.1.1 antlr4-python3-runtime==4.9.2 protobuf==3.20.3 PyYAML loguru setuptools==65.5.0"
)

#: Where it finds its coordinator.
CONFIG = """
application-id: app
tx-service-group: grp
config: {type: file}
registry: {type: file}
service:
  vgroupMapping: {grp: default}
  grouplist: {default: "127.0.0.1:PORT"}
"""

#: The messages that it reads and writes; it fails with its own of the others.
READ = (
    seata.GlobalCommit,
    seata.GlobalRollback,
    seata.BranchRegister,
    seata.BranchRegisterResult,
    seata.BranchReportResult,
    seata.GlobalStatusQuery,
    seata.GlobalLockQuery,
    seata.GlobalLockQueryResult,
    seata.RegisterRM,
    seata.DeleteUndoLog,
)


class Coordinator:
    """A coordinator with one transaction."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.results: list[Any] = []
        self.peer: Any = None
        self.ended = False

    @rpc.method
    def RegisterTM(self, message: seata.RegisterTM) -> seata.RegisterTMResult:
        self.seen.append(message)
        return seata.RegisterTMResult()

    @rpc.method
    def RegisterRM(self, message: seata.RegisterRM) -> seata.RegisterRMResult:
        self.seen.append(message)
        return seata.RegisterRMResult()

    @rpc.method
    def GlobalBegin(self, message: seata.GlobalBegin) -> seata.GlobalBeginResult:
        self.seen.append(message)
        return seata.GlobalBeginResult("127.0.0.1:8091:1")

    @rpc.method
    def BranchRegister(self, message: seata.BranchRegister) -> seata.BranchRegisterResult:
        self.seen.append(message)
        self.peer = rpc.currentCall().peer
        if self.ended:
            raise rpc.RemoteError("it has ended", code="GlobalTransactionNotExist")
        return seata.BranchRegisterResult(2)

    @rpc.method
    def BranchReport(self, message: seata.BranchReport) -> seata.BranchReportResult:
        self.seen.append(message)
        return seata.BranchReportResult()

    @rpc.method
    async def GlobalCommit(self, message: seata.GlobalCommit) -> seata.GlobalCommitResult:
        self.seen.append(message)
        commit = seata.BranchCommit(message.xid, 2, seata.BranchType.AT, "db", "data")
        self.results.append(await self.peer.call("seata", "BranchCommit", commit))
        self.ended = True
        return seata.GlobalCommitResult(seata.GlobalStatus.Committed)

    @rpc.method
    def GlobalStatusQuery(self, message: seata.GlobalStatusQuery) -> seata.GlobalStatusQueryResult:
        self.seen.append(message)
        return seata.GlobalStatusQueryResult(seata.GlobalStatus.Finished)


class Script(ProcessProtocol):
    """
    A run of the script.

    :ivar ended: fires with what it has printed, or fails with its errors.
    """

    def __init__(self, given: str) -> None:
        self.given = given
        self.out = self.errors = b""
        self.ended: Deferred[Any] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.given.encode())
        self.transport.closeStdin()

    def outReceived(self, data: bytes) -> None:
        self.out += data

    def errReceived(self, data: bytes) -> None:
        self.errors += data

    def processEnded(self, reason: Any) -> None:
        if self.out:
            self.ended.callback(json.loads(self.out))
        else:
            self.ended.errback(AssertionError(self.errors.decode()))


class PeerTests(TestCase):
    """It calls a coordinator here, and reads what was written here."""

    timeout = 30

    def setUp(self) -> None:
        if not PYTHON.exists():
            raise SkipTest(f"there is no seata-python: {INSTALL}")

    def run_(self, what: str, given: str = "", port: int = 0) -> Deferred[Any]:
        config = Path(self.mktemp())
        config.write_text(CONFIG.replace("PORT", str(port)))
        environment = {"config.name": str(config.resolve()), "PATH": os.environ.get("PATH", "")}
        script = Script(given)
        reactor.spawnProcess(script, str(PYTHON), [str(PYTHON), SCRIPT, what], environment)
        return script.ended

    async def test_calls(self) -> None:
        """Registrations, a transaction with a branch that is called back, and a branch that is refused."""
        coordinator = Coordinator()
        server = rpc.Server("tcp:0:interface=127.0.0.1", {"seata": coordinator}, wire=rpc.Seata())
        server.startService()
        self.addCleanup(server.stopService)
        [address] = await server.whenListening()
        found = await self.run_("calls", port=getattr(address, "port", 0))
        ends = {"committed": "Committed", "status": "Finished", "late": "RmTransactionException"}
        self.assertEqual(found, {"xid": "127.0.0.1:8091:1", "branch": 2, **ends})
        xid, kind = "127.0.0.1:8091:1", seata.BranchType.AT
        register = seata.BranchRegister(xid, kind, "db", "t:1", "data")
        # It registers its TM by itself as well, at any time.
        tm = seata.RegisterTM("1.0", "app", "grp")
        self.assertIn(tm, coordinator.seen)
        self.assertEqual(
            [each for each in coordinator.seen if each != tm],
            [
                seata.RegisterRM("1.0", "app", "grp", resources="db"),
                seata.GlobalBegin(60.0, "order"),
                register,
                seata.BranchReport(xid, 2, seata.BranchStatus.PhaseOne_Done, "", "data", kind),
                seata.GlobalCommit(xid),
                seata.GlobalStatusQuery(xid),
                register,
            ],
        )
        done = seata.BranchCommitResult(xid, 2, seata.BranchStatus.PhaseTwo_Committed)
        self.assertEqual(coordinator.results, [done])

    async def test_bodies(self) -> None:
        """What it reads of these messages it writes with the same bytes."""
        given = [bytes.fromhex(text).hex() for message, text in GOLDEN if type(message) in READ]
        self.assertEqual(await self.run_("bodies", "\n".join(given)), given)
