"""
A transaction of Seata with one branch: ``python examples/seata.py``.

Without arguments a small coordinator runs in the process: it keeps all in memory, tries nothing twice, and forgets
nothing. With an endpoint as argument, such as ``tcp:localhost:8091``, that is the coordinator: a server of Seata.
"""

import sys
from itertools import count

from twisted.internet.task import react

from getty_tx import rpc
from getty_tx.rpc import seata
from getty_tx.rpc.seata import BranchStatus, BranchType, ExceptionCode, GlobalStatus

RESOURCE = "orders"


class Coordinator:
    """The TC: knows transactions and their branches, and calls whoever has a branch."""

    def __init__(self):
        self.numbers = count(1)
        self.status = {}
        self.branches = {}

    @rpc.method
    def RegisterTM(self, message: seata.RegisterTM) -> seata.RegisterTMResult:
        return seata.RegisterTMResult()

    @rpc.method
    def RegisterRM(self, message: seata.RegisterRM) -> seata.RegisterRMResult:
        return seata.RegisterRMResult()

    @rpc.method
    def GlobalBegin(self, message: seata.GlobalBegin) -> seata.GlobalBeginResult:
        xid = f"127.0.0.1:8091:{next(self.numbers)}"
        self.status[xid], self.branches[xid] = GlobalStatus.Begin, []
        return seata.GlobalBeginResult(xid)

    @rpc.method
    def BranchRegister(self, message: seata.BranchRegister) -> seata.BranchRegisterResult:
        self.mustBegin(message.xid)
        branch = next(self.numbers)
        self.branches[message.xid].append((branch, message, rpc.currentCall().peer))
        return seata.BranchRegisterResult(branch)

    @rpc.method
    def BranchReport(self, message: seata.BranchReport) -> seata.BranchReportResult:
        return seata.BranchReportResult()

    @rpc.method
    async def GlobalCommit(self, message: seata.GlobalCommit) -> seata.GlobalCommitResult:
        status = await self.finish(message.xid, seata.BranchCommit, GlobalStatus.Committing, GlobalStatus.Committed)
        return seata.GlobalCommitResult(status)

    @rpc.method
    async def GlobalRollback(self, message: seata.GlobalRollback) -> seata.GlobalRollbackResult:
        status = await self.finish(message.xid, seata.BranchRollback, GlobalStatus.Rollbacking, GlobalStatus.Rollbacked)
        return seata.GlobalRollbackResult(status)

    @rpc.method
    def GlobalStatusQuery(self, message: seata.GlobalStatusQuery) -> seata.GlobalStatusQueryResult:
        return seata.GlobalStatusQueryResult(self.status.get(message.xid, GlobalStatus.Finished))

    @rpc.method
    def MergedMessages(self, message: seata.MergedMessages) -> seata.MergedResults:
        """Clients in Java merge what their resource managers ask for. One that fails does so by itself."""
        methods = {seata.BranchRegister: self.BranchRegister, seata.BranchReport: self.BranchReport}
        results = []
        for each in message.messages:
            try:
                results.append(methods[type(each)](each))
            except rpc.RemoteError as error:
                code = ExceptionCode[error.code]
                results.append(seata.BranchRegisterResult(succeeded=False, text=str(error), exception=code))
        return seata.MergedResults(results)

    def mustBegin(self, xid):
        if self.status.get(xid) is not GlobalStatus.Begin:
            raise rpc.RemoteError(f"{xid} is no open transaction", code="GlobalTransactionNotExist")

    async def finish(self, xid, request, meanwhile, status):
        self.mustBegin(xid)
        self.status[xid] = meanwhile
        for branch, told, peer in self.branches.pop(xid):
            message = request(xid, branch, told.branchType, told.resource, told.data)
            await peer.call("seata", request.__name__, message)
        self.status[xid] = status
        return status


class Orders:
    """The RM: it has the branches, and is called when they end."""

    @rpc.method
    def BranchCommit(self, message: seata.BranchCommit) -> seata.BranchCommitResult:
        print(f"branch of {message.resource} is committed: {message.data}")
        return seata.BranchCommitResult(message.xid, message.branch, BranchStatus.PhaseTwo_Committed)

    @rpc.method
    def BranchRollback(self, message: seata.BranchRollback) -> seata.BranchRollbackResult:
        print(f"branch of {message.resource} is rolled back: {message.data}")
        return seata.BranchRollbackResult(message.xid, message.branch, BranchStatus.PhaseTwo_Rollbacked)


async def transact(tc, end):
    """The TM: begin, a branch, and its end."""
    begun = await tc.GlobalBegin(seata.GlobalBegin(timeout=60.0, name="order"))
    branch = seata.BranchRegister(begun.xid, BranchType.TCC, RESOURCE, data="two books")
    await tc.BranchRegister(branch)
    ended = await getattr(tc, end.__name__)(end(begun.xid))
    print(f"{end.__name__} of {begun.xid}: {ended.status.name}")
    status = await tc.GlobalStatusQuery(seata.GlobalStatusQuery(begun.xid))
    print(f"its status: {status.status.name}")
    return begun.xid


async def main(reactor, endpoint=None):
    server = rpc.Server("tcp:0:interface=127.0.0.1", {"seata": Coordinator()}, wire=rpc.Seata())
    if endpoint is None:
        server.startService()
        [address] = await server.whenListening()
        endpoint = f"tcp:127.0.0.1:{address.port}"
    who = {"application": "shop", "group": "default_tx_group"}
    wire = rpc.Seata(register=(seata.RegisterTM(**who), seata.RegisterRM(**who, resources=RESOURCE)))
    # A coordinator in Java closes a session that says nothing for 15 seconds.
    client = rpc.Client(endpoint, wire=wire, services={"seata": Orders()}, pingInterval=5.0)
    client.startService()
    await client.whenReady(timeout=5)
    tc = client.service("seata")
    await transact(tc, seata.GlobalCommit)
    xid = await transact(tc, seata.GlobalRollback)
    try:
        await tc.BranchRegister(seata.BranchRegister(xid, BranchType.TCC, RESOURCE))
    except rpc.RemoteError as error:
        print(f"too late: {error.code}")
    await client.stopService()
    await server.stopService()


if __name__ == "__main__":
    react(main, sys.argv[1:])
