"""
A transaction with seata-python 0.1, and what its serializer makes of messages; run by test_seata_peers.

``calls``: a TM and an RM do what there is to do; prints a JSON object. ``bodies``: reads bodies in hex, one a line,
and prints each as the serializer writes what it has read.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from typing import Any


def named(module: str) -> Any:
    """The class that has the name of its module."""
    return getattr(import_module(f"seata.{module}"), module.rpartition(".")[2])


def whenOpen(client: Any) -> Any:
    """It connects in a thread of its own, and tells nobody."""
    until = time.monotonic() + 10
    while not client.channel_manager.channels and time.monotonic() < until:
        time.sleep(0.01)
    return client


def calls() -> dict[str, Any]:
    tm = whenOpen(named("core.rpc.v1.TmRemotingClient").get_client("app", "grp", named("tm.TMHandler")()))
    tm.reg_tm()
    transactions = named("tm.DefaultTransactionManager")()
    rm = whenOpen(named("core.rpc.v1.RmRemotingClient").get_client("app", "grp", named("rm.RMHandlerAT")()))
    rm.register_resource("g", "db")
    resources = named("rm.datasource.DataSourceResourceManager").get()
    kind, status = named("core.model.BranchType").AT, list(named("core.model.BranchStatus"))[2]
    xid = transactions.begin("app", "grp", "order", 60000)
    branch = resources.branch_register(kind, "db", None, xid, "data", "t:1")
    resources.branch_report(kind, xid, branch, status, "data")
    found = {"xid": xid, "branch": branch, "committed": transactions.commit(xid).name}
    found["status"] = transactions.get_status(xid).name
    try:
        resources.branch_register(kind, "db", None, xid, "data", "t:1")
    except Exception as error:
        found["late"] = type(error).__name__
    return found


def bodies() -> list[str]:
    serializer = named("core.serializer.seata.SeataSerializer")()
    return [bytes(serializer.serialize(serializer.deserialize(bytearray.fromhex(line)))).hex() for line in sys.stdin]


if __name__ == "__main__":
    logger = import_module("loguru").logger
    logger.remove()
    result = json.dumps({"calls": calls, "bodies": bodies}[sys.argv[1]]())
    print(result, flush=True)
    # Its threads never end.
    os._exit(0)
