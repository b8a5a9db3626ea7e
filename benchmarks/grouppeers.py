"""The servers of ``benchmarks.groups``: their command lines, and what each can do. ``peers/groups_*`` has settings."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.grouploads import FLOOR, program
from benchmarks.loads import compiler
from benchmarks.packages import versionOf, whyAbsent
from benchmarks.peers.groups_nchan import MODULE
from benchmarks.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.grouploads import Row

FOLDER = ROOT / "benchmarks" / "peers"

#: What ratios refer to.
BASELINE = "getty"


@dataclass(frozen=True)
class Peer:
    """
    A server.

    :ivar file: in ``peers``; empty: it is the floor in C.
    :ivar modules: what has to be importable, and is named with its version.
    :ivar wire: how ``groupload.c`` speaks with it.
    :ivar words: what stands behind port and wire; ``{window}`` is the row's, ``{folder}`` is one that it may use.
    :ivar isOurs: it runs with this interpreter, whatever ``--python`` says.
    :ivar canDeflate: it has permessage-deflate, and the load can tell what comes.
    :ivar hasWindow: it joins what is published within a row's window.
    """

    file: str
    modules: tuple[str, ...]
    wire: str = "ws"
    words: str = ""
    isOurs: bool = False
    canDeflate: bool = True
    hasWindow: bool = False

    def wireOf(self, row: Row) -> str:
        """Its wire in a row."""
        return f"{self.wire}:deflate" if row.isDeflate else self.wire


def _getty(words: str, wire: str = "ws") -> Peer:
    isGroups = words.startswith("groups")
    module = "getty_tx.groups" if isGroups else "getty_tx"
    return Peer("groups_getty.py", (module,), wire, words, True, wire == "ws", isGroups)


PEERS = {
    BASELINE: _getty("groups {window}"),
    "getty length": _getty("groups {window}", "length"),
    "loop": _getty("loop"),
    "loop length": _getty("loop", "length"),
    "autobahn": Peer("groups_autobahn.py", ("autobahn", "twisted"), isOurs=True),
    "websockets": Peer("groups_websockets.py", ("websockets", "uvloop")),
    # What it sends cannot be told from its own packets once it is compressed.
    "socketio": Peer("groups_socketio.py", ("socketio", "uvicorn"), "socketio", canDeflate=False),
    "nchan": Peer("groups_nchan.py", (), "nchan", "{folder}", isOurs=True),
    "sends": Peer("", (), canDeflate=False),
}

#: What modules are in, where it has another name.
PACKAGES = {"twisted": "Twisted", "socketio": "python-socketio", "getty_tx.groups": "getty_tx"}


def unable(peer: Peer, row: Row) -> str:
    """Why a peer has no such row; empty if it has."""
    return "" if peer.canDeflate or not row.isDeflate else "it has no WebSocket with deflate that can be read here"


def interpreterOf(peer: Peer, python: str) -> str:
    """The interpreter of a peer, where ``--python`` is another."""
    return sys.executable if peer.isOurs else python


def missing(names: Iterable[str], python: str) -> dict[str, str]:
    """Why peers cannot be measured, by name."""
    found = {}
    for name in names:
        peer = PEERS[name]
        if peer.modules:
            interpreter = interpreterOf(peer, python)
            # Without uvloop, asyncio's own loop does.
            reasons = (whyAbsent(module, interpreter) for module in peer.modules if module != "uvloop")
            if why := next(filter(None, reasons), ""):
                found[name] = f"{name} is left out: {interpreter}: {why} (see --python)"
        elif name == "nchan" and not (shutil.which("nginx") and Path(MODULE).exists()):
            found[name] = f"{name} is left out: there is no nginx with {MODULE} (Debian: libnginx-mod-nchan)"
        elif not peer.file and compiler() is None:
            found[name] = f"{name} is left out: there is no C compiler"
    return found


def versions(names: Iterable[str], python: str) -> dict[str, str]:
    """The packages of peers, with their versions."""
    found = {}
    for name in names:
        peer = PEERS[name]
        if name == "nchan":
            done = subprocess.run(["nginx", "-v"], capture_output=True, text=True)
            package = subprocess.run(
                ["dpkg-query", "-W", "-f", "${Package} ${Version}", "libnginx-mod-nchan"],
                capture_output=True,
                text=True,
            )
            found[name] = ", ".join(filter(None, (done.stderr.strip().rpartition(": ")[2], package.stdout)))
        else:
            packages = (PACKAGES.get(module, module) for module in peer.modules)
            # getty_tx may come from a checkout, which only this interpreter knows as installed.
            found[name] = ", ".join(filter(None, (versionOf(each, interpreterOf(peer, python)) for each in packages)))
    return found


def commandOf(name: str, row: Row, python: str) -> str:
    """
    The command of a peer for a row, with ``{port}`` and ``{folder}`` left to fill in.

    :raise LoadError: the floor cannot be built.
    """
    peer = PEERS[name]
    if not peer.file:
        return f"{shlex.quote(program(FLOOR))} {{port}}"
    words = [shlex.quote(interpreterOf(peer, python)), shlex.quote(str(FOLDER / peer.file)), "{port}", peer.wireOf(row)]
    return " ".join([*words, peer.words.replace("{window}", f"{row.window:g}")]).rstrip()
