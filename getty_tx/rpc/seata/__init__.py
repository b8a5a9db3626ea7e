"""
The messages of Seata's coordinator and its clients, and their bytes; no transactions.

- ``messages``: what they say: requests, results, and the numbers in them by name.
- ``body``: bytes from messages, messages from bytes.
- ``packing``: the compressors of the frames that carry them.

:py:class:`getty_tx.rpc.Seata` is the wire. The names of its calls are ``seata/`` and the name of the request's class.
"""

from __future__ import annotations

from getty_tx.rpc.seata.body import decode, encode
from getty_tx.rpc.seata.messages import (
    BatchResult,
    BranchCommit,
    BranchCommitResult,
    BranchRegister,
    BranchRegisterResult,
    BranchReport,
    BranchReportResult,
    BranchRollback,
    BranchRollbackResult,
    BranchStatus,
    BranchType,
    DeleteUndoLog,
    ExceptionCode,
    GlobalBegin,
    GlobalBeginResult,
    GlobalCommit,
    GlobalCommitResult,
    GlobalLockQuery,
    GlobalLockQueryResult,
    GlobalReport,
    GlobalReportResult,
    GlobalRollback,
    GlobalRollbackResult,
    GlobalStatus,
    GlobalStatusQuery,
    GlobalStatusQueryResult,
    MergedMessages,
    MergedResults,
    Message,
    RegisterRM,
    RegisterRMResult,
    RegisterTM,
    RegisterTMResult,
    Result,
)

__all__ = [
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
    "decode",
    "encode",
]
