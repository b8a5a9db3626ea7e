"""
The servers of ``benchmarks.http``: their command lines, and with which settings they run.

All have a backlog of 4096, so that connections that come at once are not dropped, keep idle connections for
:data:`KEEP_ALIVE` seconds where that can be set, and write no access log. What else differs from a server's defaults
stands beside it. ASGI servers have one worker on uvloop, and all run the applications of ``peers/http_asgi.py`` (and
of ``http_starlette.py`` and ``http_fastapi.py``).
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.loads import LoadError, built
from benchmarks.packages import versionOf, whyAbsent
from benchmarks.servers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.httploads import Row

FOLDER = ROOT / "benchmarks" / "peers"

#: Go's libraries as Debian has them, and the one for HTTP/2 in clear.
LIBRARIES = Path("/usr/share/gocode")
H2C = LIBRARIES / "src" / "golang.org" / "x" / "net" / "http2" / "h2c"

#: What ratios refer to.
BASELINE = "uvicorn"

KEEP_ALIVE = 75

_APP = "benchmarks.peers.{module}:{shape}"

#: Where the applications are that need a framework.
_FRAMEWORKS = {"json": "http_starlette", "fastapi": "http_fastapi"}

_TCP, _SSL = "tcp:{port}:interface=127.0.0.1", "ssl:{port}:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
_SSL_FILES = "--ssl-keyfile {key} --ssl-certfile {certificate}"
_FILES = "--keyfile {key} --certfile {certificate}"
_UVICORN = (
    f"{{python}} -m uvicorn {_APP} --port {{port}} --loop uvloop --no-access-log --log-level warning --backlog 4096"
    f" --timeout-keep-alive {KEEP_ALIVE}"
)


@dataclass(frozen=True)
class Peer:
    """
    A server.

    :ivar modules: what has to be importable; none: it is a program.
    :ivar command: ``{python}`` and ``{twistd}`` are those of ``--python``, ``{program}`` is built from a source.
    :ivar plain: what stands behind it without TLS.
    :ivar tls: what does with TLS; ``{key}`` and ``{certificate}`` are files.
    :ivar two: what is added for two processes; None: it has no such option.
    :ivar isASGI: it runs ASGI applications.
    :ivar hasH2c: it speaks HTTP/2 in clear, by prior knowledge, and over TLS.
    :ivar hasHTTP2: it does over TLS, and in clear where :data:`H2C` is.
    """

    modules: tuple[str, ...]
    command: str
    plain: str = ""
    tls: str = ""
    two: str | None = None
    isASGI: bool = True
    hasH2c: bool = False
    hasHTTP2: bool = False


#: What modules are in, where it has another name.
_PACKAGES = {"twisted": "Twisted", "getty_tx.http": "getty_tx", "getty_tx.http.asgi": "getty_tx"}


def _getty(command: str, application: str, module: str) -> Peer:
    """getty_tx as its users start it."""
    return Peer(
        (module,),
        f"{{twistd}} -n --pidfile= --reactor getty {command} {application} --timeout-keep-alive {KEEP_ALIVE} --listen",
        plain=_TCP,
        tls=_SSL,
        two="--processes 2",
        isASGI=command == "getty-asgi",
        hasH2c=True,
    )


PEERS = {
    "getty": _getty("getty-http", "benchmarks.peers.http_getty:router", "getty_tx.http"),
    "getty-asgi": _getty("getty-asgi", _APP, "getty_tx.http.asgi"),
    BASELINE: Peer(
        ("uvicorn", "httptools", "uvloop"), f"{_UVICORN} --http httptools", tls=_SSL_FILES, two="--workers 2"
    ),
    # An alpha, and not uvicorn's default.
    "uvicorn zttp": Peer(("uvicorn", "zttp", "uvloop"), f"{_UVICORN} --http zttp", tls=_SSL_FILES, two="--workers 2"),
    # Its threads (one for the event loop, one for input and output, and so on) share the server's core. Its limit of
    # connections would be the backlog; TLS 1.3 only.
    "granian": Peer(
        ("granian", "uvloop"),
        f"{{python}} -m granian {_APP} --interface asgi --port {{port}} --loop uvloop --log-level warning"
        " --backlog 4096 --backpressure 20000",
        tls="--ssl-keyfile {key} --ssl-certificate {certificate}",
        two="--workers 2",
        hasH2c=True,
    ),
    # With its parser in C, and more than its 1000 connections at once.
    "gunicorn": Peer(
        ("gunicorn", "gunicorn_h1c", "uvloop"),
        f"{{python}} -m gunicorn {_APP} -k asgi --asgi-loop uvloop --http-parser fast --log-level warning"
        f" --bind 127.0.0.1:{{port}} --backlog 4096 --keep-alive {KEEP_ALIVE} --worker-connections 20000",
        tls=_FILES,
        two="--workers 2",
    ),
    # On Twisted's asyncio reactor, without uvloop, and one process only.
    "daphne": Peer(
        ("daphne",),
        f"{{python}} -m daphne {_APP} -v 0 -e",
        plain=f"{_TCP}:backlog=4096",
        tls=f"{_SSL}:backlog=4096",
    ),
    "hypercorn": Peer(
        ("hypercorn", "uvloop"),
        f"{{python}} -m hypercorn {_APP} -k uvloop --log-level warning --bind 127.0.0.1:{{port}} --backlog 4096"
        f" --keep-alive {KEEP_ALIVE}",
        tls=_FILES,
        two="--workers 2",
        hasH2c=True,
    ),
    # In Rust, with two threads of its own, which share the server's core.
    "h2corn": Peer(
        ("h2corn", "uvloop"),
        f"{{python}} -m h2corn {_APP} --bind 127.0.0.1:{{port}} --loop uvloop --no-access-log --backlog 4096"
        f" --timeout-keep-alive {KEEP_ALIVE}",
        tls=_FILES,
        two="--workers 2",
        hasH2c=True,
    ),
    "twisted.web": Peer(
        ("twisted",),
        f"{{python}} {shlex.quote(str(FOLDER / 'http_twisted.py'))} {{port}} {{shape}}",
        tls="{key} {certificate}",
        isASGI=False,
    ),
    "net/http": Peer(
        (),
        "env GOMAXPROCS={processes} {program} {port}",
        tls="{key} {certificate}",
        two="",
        isASGI=False,
        hasHTTP2=True,
    ),
}


def unable(peer: Peer, row: Row) -> str:
    """Why a peer has no such row; empty if it has."""
    if row.isTwo and peer.two is None:
        return "it has one process"
    if row.isHTTP2 and not (peer.hasH2c or (peer.hasHTTP2 and (row.isTLS or H2C.exists()))):
        return "it speaks no HTTP/2" + (" in clear without Debian's golang-golang-x-net-dev" if peer.hasHTTP2 else "")
    if row.shape == "fastapi" and not peer.isASGI:
        return "it runs no ASGI application"
    return ""


def missing(names: Iterable[str], python: str) -> dict[str, str]:
    """Why peers cannot be measured, by name."""
    found = {}
    for name in names:
        if PEERS[name].modules:
            reasons = (whyAbsent(module, python) for module in PEERS[name].modules)
            if why := next(filter(None, reasons), ""):
                found[name] = f"{name} is left out: {python}: {why} (see --python)"
        elif shutil.which("go") is None:
            found[name] = f"{name} is left out: there is no go"
    return found


def versions(names: Iterable[str], python: str) -> dict[str, str]:
    """The packages of peers, with their versions."""
    found = {}
    for name in names:
        peer = PEERS[name]
        if not peer.modules:
            done = subprocess.run(["go", "version"], capture_output=True, text=True)
            found[name] = " ".join(done.stdout.split()[2:3])
        else:
            packages = [_PACKAGES.get(module, module) for module in peer.modules]
            # getty_tx may come from a checkout, which only this interpreter knows as installed.
            found[name] = ", ".join(versionOf(each, python) or versionOf(each, sys.executable) for each in packages)
    return found


def _builtGo(isH2c: bool) -> str:
    if not isH2c:
        return built(["go", "build"], FOLDER / "http_net.go")
    # Debian's libraries are those of the time before modules.
    command = ["env", "GO111MODULE=off", f"GOPATH={LIBRARIES}", "go", "build"]
    return built(command, FOLDER / "http_h2c.go", others=[FOLDER / "http_net.go"])


def commandOf(name: str, row: Row, python: str) -> str:
    """
    The command of a peer for a row, with ``{port}``, and ``{key}`` and ``{certificate}`` for TLS, left to fill in.

    :raise LoadError: Go cannot build its server.
    """
    peer = PEERS[name]
    words = [peer.command, peer.tls if row.isTLS else peer.plain, (peer.two or "") if row.isTwo else ""]
    given = {
        "module": _FRAMEWORKS.get(row.shape, "http_asgi"),
        "shape": row.shape,
        "python": python,
        "twistd": str(Path(python).parent / "twistd"),
        "processes": "2" if row.isTwo else "1",
    }
    command = " ".join(filter(None, words))
    if "{program}" in command:
        try:
            given["program"] = _builtGo(row.isHTTP2 and not row.isTLS)
        except (OSError, subprocess.CalledProcessError) as error:
            raise LoadError(f"go build: {error}") from error
    for field, value in given.items():
        command = command.replace("{" + field + "}", shlex.quote(value))
    return command
