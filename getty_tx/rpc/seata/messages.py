"""
What Seata's programs say to one another.

TC is the coordinator, TM whoever begins and ends transactions, RM whoever has a part of one: a branch. Each class has
its number on the wire as ``TYPE``, and as ``LAYOUT`` its fields in their order there, with the kind of each.

Texts are never None: where Java has null, there is "" here. Times are seconds. Types and statuses are members of their
enumeration, or plain numbers where a newer peer has one that is not in it; the names are those of Java.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar

__all__ = [
    "RESULTS",
    "BatchResult",
    "BranchCommit",
    "BranchCommitResult",
    "BranchRegister",
    "BranchRegisterResult",
    "BranchReport",
    "BranchReportResult",
    "BranchRollback",
    "BranchRollbackResult",
    "BranchStatus",
    "BranchType",
    "DeleteUndoLog",
    "ExceptionCode",
    "GlobalBegin",
    "GlobalBeginResult",
    "GlobalCommit",
    "GlobalCommitResult",
    "GlobalLockQuery",
    "GlobalLockQueryResult",
    "GlobalReport",
    "GlobalReportResult",
    "GlobalRollback",
    "GlobalRollbackResult",
    "GlobalStatus",
    "GlobalStatusQuery",
    "GlobalStatusQueryResult",
    "MergedMessages",
    "MergedResults",
    "Message",
    "RegisterRM",
    "RegisterRMResult",
    "RegisterTM",
    "RegisterTMResult",
    "Result",
]

BranchType = IntEnum("BranchType", "AT TCC SAGA XA", start=0)
BranchType.__doc__ = "How a branch is committed."

GlobalStatus = IntEnum(
    "GlobalStatus",
    "UnKnown Begin Committing CommitRetrying Rollbacking RollbackRetrying TimeoutRollbacking TimeoutRollbackRetrying "
    "AsyncCommitting Committed CommitFailed Rollbacked RollbackFailed TimeoutRollbacked TimeoutRollbackFailed Finished "
    "CommitRetryTimeout RollbackRetryTimeout Deleting StopCommitOrCommitRetry StopRollbackOrRollbackRetry",
    start=0,
)
GlobalStatus.__doc__ = "How far a transaction is."

BranchStatus = IntEnum(
    "BranchStatus",
    "Unknown Registered PhaseOne_Done PhaseOne_Failed PhaseOne_Timeout PhaseTwo_Committed "
    "PhaseTwo_CommitFailed_Retryable PhaseTwo_CommitFailed_Unretryable PhaseTwo_Rollbacked "
    "PhaseTwo_RollbackFailed_Retryable PhaseTwo_RollbackFailed_Unretryable PhaseTwo_CommitFailed_XAER_NOTA_Retryable "
    "PhaseTwo_RollbackFailed_XAER_NOTA_Retryable PhaseOne_RDONLY STOP_RETRY PhaseOne_PrepareFailed",
    start=0,
)
BranchStatus.__doc__ = "How far a branch is."

ExceptionCode = IntEnum(
    "ExceptionCode",
    "Unknown BeginFailed LockKeyConflict IO BranchRollbackFailed_Retriable BranchRollbackFailed_Unretriable "
    "BranchRegisterFailed BranchReportFailed LockableCheckFailed BranchTransactionNotExist GlobalTransactionNotExist "
    "GlobalTransactionNotActive GlobalTransactionStatusInvalid FailedToSendBranchCommitRequest "
    "FailedToSendBranchRollbackRequest FailedToAddBranch FailedLockGlobalTransaction FailedWriteSession FailedStore "
    "NotRaftLeader LockKeyConflictFailFast TransactionTimeout CommitHeuristic Broken",
    start=0,
)
ExceptionCode.__doc__ = "Why something has failed; a RemoteError has the name as its code."


class Message:
    """The base of all messages."""

    __slots__ = ()

    TYPE: ClassVar[int]
    LAYOUT: ClassVar[tuple[tuple[str, str], ...]] = ()


@dataclass(slots=True)
class Result(Message):
    """
    The base of most results.

    :ivar succeeded: False: ``text`` says why not, and ``exception`` is one of :py:class:`ExceptionCode`.
    """

    succeeded: bool = field(default=True, kw_only=True)
    text: str = field(default="", kw_only=True)
    exception: int = field(default=0, kw_only=True)


# Transactions: TM to TC


@dataclass(slots=True)
class GlobalBegin(Message):
    """Begin a transaction, which is rolled back after ``timeout`` seconds."""

    TYPE = 1
    LAYOUT = (("timeout", "ms"), ("name", "s16"))

    timeout: float = 60.0
    name: str = ""


@dataclass(slots=True)
class GlobalBeginResult(Result):
    """The transaction's id."""

    TYPE = 2
    LAYOUT = (("xid", "s16"), ("extra", "s16"))

    xid: str = ""
    extra: str = ""


@dataclass(slots=True)
class _GlobalEnd(Message):
    LAYOUT = (("xid", "s16"), ("extra", "s16"))

    xid: str = ""
    extra: str = ""


@dataclass(slots=True)
class _GlobalEndResult(Result):
    LAYOUT = (("status", "globalStatus"),)

    status: int = 0


class GlobalCommit(_GlobalEnd):
    """Commit a transaction."""

    __slots__ = ()
    TYPE = 7


class GlobalCommitResult(_GlobalEndResult):
    """How far it is."""

    __slots__ = ()
    TYPE = 8


class GlobalRollback(_GlobalEnd):
    """Roll a transaction back."""

    __slots__ = ()
    TYPE = 9


class GlobalRollbackResult(_GlobalEndResult):
    """How far it is."""

    __slots__ = ()
    TYPE = 10


class GlobalStatusQuery(_GlobalEnd):
    """Ask how far a transaction is."""

    __slots__ = ()
    TYPE = 15


class GlobalStatusQueryResult(_GlobalEndResult):
    """How far it is."""

    __slots__ = ()
    TYPE = 16


@dataclass(slots=True)
class GlobalReport(Message):
    """Tell how far a transaction is whose state the TM keeps."""

    TYPE = 17
    LAYOUT = (("xid", "s16"), ("extra", "s16"), ("status", "globalStatus"))

    xid: str = ""
    extra: str = ""
    status: int = 0


class GlobalReportResult(_GlobalEndResult):
    """How far it is."""

    __slots__ = ()
    TYPE = 18


# Branches: RM to TC


@dataclass(slots=True)
class BranchRegister(Message):
    """A new branch of a transaction, and the rows that it locks."""

    TYPE = 11
    LAYOUT = (("xid", "s16"), ("branchType", "branchType"), ("resource", "s16"), ("lockKey", "s32"), ("data", "s32"))

    xid: str = ""
    branchType: int = 0
    resource: str = ""
    lockKey: str = ""
    data: str = ""


@dataclass(slots=True)
class BranchRegisterResult(Result):
    """The branch's id."""

    TYPE = 12
    LAYOUT = (("branch", "i64"),)

    branch: int = 0


@dataclass(slots=True)
class BranchReport(Message):
    """How far a branch is."""

    TYPE = 13
    LAYOUT = (
        ("xid", "s16"),
        ("branch", "i64"),
        ("status", "branchStatus"),
        ("resource", "s16"),
        ("data", "s32"),
        ("branchType", "branchType"),
    )

    xid: str = ""
    branch: int = 0
    status: int = 0
    resource: str = ""
    data: str = ""
    branchType: int = 0


class BranchReportResult(Result):
    """It is known."""

    __slots__ = ()
    TYPE = 14


class GlobalLockQuery(BranchRegister):
    """Ask whether rows can be locked."""

    __slots__ = ()
    TYPE = 21


@dataclass(slots=True)
class GlobalLockQueryResult(Result):
    """Whether they can."""

    TYPE = 22
    LAYOUT = (("lockable", "flag16"),)

    lockable: bool = False


# Branches: TC to RM


@dataclass(slots=True)
class _BranchEnd(Message):
    LAYOUT = (("xid", "s16"), ("branch", "i64"), ("branchType", "branchType"), ("resource", "s16"), ("data", "s32"))

    xid: str = ""
    branch: int = 0
    branchType: int = 0
    resource: str = ""
    data: str = ""


@dataclass(slots=True)
class _BranchEndResult(Result):
    LAYOUT = (("xid", "s16"), ("branch", "i64"), ("status", "branchStatus"))

    xid: str = ""
    branch: int = 0
    status: int = 0


class BranchCommit(_BranchEnd):
    """Commit a branch."""

    __slots__ = ()
    TYPE = 3


class BranchCommitResult(_BranchEndResult):
    """How far it is."""

    __slots__ = ()
    TYPE = 4


class BranchRollback(_BranchEnd):
    """Roll a branch back."""

    __slots__ = ()
    TYPE = 5


class BranchRollbackResult(_BranchEndResult):
    """How far it is."""

    __slots__ = ()
    TYPE = 6


@dataclass(slots=True)
class DeleteUndoLog(Message):
    """Forget the undo logs that are older than ``saveDays`` days. It has no result: it is for ``send``."""

    TYPE = 111
    LAYOUT = (("branchType", "branchType"), ("resource", "s16"), ("saveDays", "i16"))

    branchType: int = 0
    resource: str = ""
    saveDays: int = 7


# Who is there: TM or RM to TC


@dataclass(slots=True)
class RegisterTM(Message):
    """A TM is there. ``group`` is the transaction service group, ``version`` that of Seata's protocol."""

    TYPE = 101
    LAYOUT: ClassVar[tuple[tuple[str, str], ...]] = (
        ("version", "s16"),
        ("application", "s16"),
        ("group", "s16"),
        ("extra", "s16"),
    )

    version: str = "2.0.0"
    application: str = ""
    group: str = ""
    extra: str = ""


@dataclass(slots=True)
class RegisterTMResult(Message):
    """Whether the TC takes it. A call whose result says that it does not fails."""

    TYPE = 102
    LAYOUT = (("identified", "flag"), ("version", "s16"))

    identified: bool = True
    version: str = "2.0.0"


@dataclass(slots=True)
class RegisterRM(RegisterTM):
    """An RM is there. ``resources`` are its resources' names, with commas between them."""

    TYPE = 103
    LAYOUT = (*RegisterTM.LAYOUT, ("resources", "s32"))

    resources: str = ""


class RegisterRMResult(RegisterTMResult):
    """Whether the TC takes it."""

    __slots__ = ()
    TYPE = 104


# Several in one


@dataclass(slots=True)
class MergedMessages(Message):
    """Several requests. Newer peers give each a number in ``ids``; without, that is empty."""

    TYPE = 59

    messages: list[Message] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)


@dataclass(slots=True)
class MergedResults(Message):
    """The results of merged requests, in their order."""

    TYPE = 60

    messages: list[Message] = field(default_factory=list)


@dataclass(slots=True)
class BatchResult(Message):
    """Some results of merged requests, by their numbers."""

    TYPE = 121

    messages: list[Message] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)


#: What answers a request; the first is how it is answered here.
RESULTS: dict[type[Message], tuple[type[Message], ...]] = {
    GlobalBegin: (GlobalBeginResult,),
    BranchCommit: (BranchCommitResult,),
    BranchRollback: (BranchRollbackResult,),
    GlobalCommit: (GlobalCommitResult,),
    GlobalRollback: (GlobalRollbackResult,),
    BranchRegister: (BranchRegisterResult,),
    BranchReport: (BranchReportResult,),
    GlobalStatusQuery: (GlobalStatusQueryResult,),
    GlobalReport: (GlobalReportResult,),
    GlobalLockQuery: (GlobalLockQueryResult,),
    RegisterTM: (RegisterTMResult,),
    RegisterRM: (RegisterRMResult,),
    MergedMessages: (MergedResults, BatchResult),
    DeleteUndoLog: (),
}
