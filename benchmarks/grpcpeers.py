"""The servers of ``benchmarks.grpc``, and their command lines. The head of each ``peers/grpc_*`` has the settings."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.packages import versionOf, whyAbsent
from benchmarks.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = ROOT / "benchmarks" / "peers"

#: What ratios refer to.
BASELINE = "grpc.aio"

#: The one of getty_tx that bars are for.
OWN = "getty def"


@dataclass(frozen=True)
class Peer:
    """
    A server.

    :ivar file: in ``peers``.
    :ivar words: behind the port.
    :ivar modules: what has to be importable, the first one's package being named with its version.
    :ivar isOurs: it runs with this interpreter, whatever ``--python`` says.
    :ivar kinds: of calls that are its own; it hands others to another server.
    """

    file: str
    words: str
    modules: tuple[str, ...]
    isOurs: bool = False
    kinds: tuple[str, ...] = ("unary", "server", "client", "bidi")


PEERS = {
    OWN: Peer("grpc_getty.py", "def", ("getty_tx.http.grpc.server", "grpc", "google.protobuf"), True),
    "getty async": Peer("grpc_getty.py", "async", ("getty_tx.http.grpc.server", "grpc", "google.protobuf"), True),
    BASELINE: Peer("grpc_aio.py", "grpc", ("grpc.aio",)),
    "grpc threads": Peer("grpc_threads.py", "", ("grpc",)),
    "grpclib": Peer("grpc_grpclib.py", "", ("grpclib", "google.protobuf")),
    "pygrpc-native": Peer("grpc_aio.py", "pygrpc_native", ("pygrpc_native", "grpc"), kinds=("unary", "server")),
}

#: What modules are in, where it has another name.
PACKAGES = {
    "getty_tx.http.grpc.server": "getty_tx",
    "grpc": "grpcio",
    "grpc.aio": "grpcio",
    "pygrpc_native": "pygrpc-native",
}


def interpreterOf(peer: Peer, python: str) -> str:
    """The interpreter of a peer, where ``--python`` is another."""
    return sys.executable if peer.isOurs else python


def missing(names: Iterable[str], python: str) -> dict[str, str]:
    """Why peers cannot be measured, by name."""
    found = {}
    for name in names:
        interpreter = interpreterOf(PEERS[name], python)
        reasons = (whyAbsent(module, interpreter) for module in PEERS[name].modules)
        if why := next(filter(None, reasons), ""):
            found[name] = f"{name} is left out: {interpreter}: {why} (see --python)"
    return found


def versions(names: Iterable[str], python: str) -> dict[str, str]:
    """The package of each peer, with its version."""
    packages = {name: PACKAGES.get(PEERS[name].modules[0], PEERS[name].modules[0]) for name in names}
    return {name: versionOf(package, interpreterOf(PEERS[name], python)) for name, package in packages.items()}


def unable(peer: Peer, kind: str) -> str:
    """Why a peer has no such calls; empty if it has."""
    return "" if kind in peer.kinds else "it hands such calls to grpcio's server"


def commandOf(name: str, python: str) -> str:
    """The command of a peer, with ``{port}`` left to fill in."""
    peer = PEERS[name]
    words = [shlex.quote(interpreterOf(peer, python)), shlex.quote(str(FOLDER / peer.file)), "{port}", peer.words]
    return " ".join(words).rstrip()
