"""
Python programs that start in a twentieth of the time: forks of a process that has imported Twisted and getty_tx.

Most of what a short command does is to import what each one imports. Tests start some hundred of them. What differs
from a cold start is only who has imported those modules: arguments, environment, folder, descriptors and the exit
status are the program's own, and it is a process of its own. What it starts itself, such as sub-reactors, starts cold.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import IO, Any, cast

__all__ = ["WarmProcess", "canBeWarm", "serve"]

#: What each command imports in any case. None of it installs a reactor, or reads the environment of the program but for
#: systemd's variables, with which a program starts cold.
IMPORTS = ("twisted.scripts.twistd", "twisted.internet.epollreactor", "twisted.internet.endpoints", "getty_tx.tap.echo")

#: Environment that Python reads when it starts, and that is set anew for a fork.
RENEWED = {"PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONSAFEPATH"}

#: Bytes that a request may have: the environment, mostly.
MAX_REQUEST = 1 << 20

_STATUS = struct.Struct("<i")


def _settings(environment: dict[str, str]) -> dict[str, str]:
    """What Python reads of an environment when it starts, and is not set anew."""
    return {name: value for name, value in environment.items() if name.startswith("PYTHON") and name not in RENEWED}


def canBeWarm(command: list[str], environment: dict[str, str]) -> bool:
    """Whether a command runs this Python as this process runs it; not where coverage or systemd's sockets come in."""
    if command[0] != sys.executable or (command[1].startswith("-") and command[1] not in ("-c", "-m")):
        return False
    if "PYTHONUNBUFFERED" not in environment or any(name.startswith(("COVERAGE", "LISTEN_")) for name in environment):
        return False
    return _settings(environment) == _settings(dict(os.environ))


class WarmProcess:
    """
    A fork with the part of Popen's interface that tests use; its output is text.

    :param command: this Python with ``-c``, ``-m`` or a script.
    :param environment: see :func:`canBeWarm`.
    :param folder: where it is.
    :param stdin: PIPE or DEVNULL, of subprocess.
    """

    def __init__(self, command: list[str], environment: dict[str, str], folder: str, stdin: int) -> None:
        self.returncode: int | None = None
        self.stdin: IO[str] | None = None
        if stdin == subprocess.PIPE:
            theirIn, ours = os.pipe()
            self.stdin = os.fdopen(ours, "w")
        else:
            theirIn = os.open(os.devnull, os.O_RDONLY)
        outs = [os.pipe(), os.pipe()]
        self.stdout, self.stderr = (os.fdopen(readable, "r") for readable, _ in outs)
        self._status, theirs = socket.socketpair()
        request = json.dumps([command, environment, folder]).encode()
        given = [theirIn, outs[0][1], outs[1][1], theirs.fileno()]
        socket.send_fds(_server(), [request], given)
        for each in given[:3]:
            os.close(each)
        theirs.close()
        self.pid: int = _STATUS.unpack(self._status.recv(_STATUS.size))[0]

    def poll(self) -> int | None:
        """The exit status, as Popen has it; None while it runs."""
        with suppress(TimeoutError, BlockingIOError):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait for its end, at most so many seconds; the exit status."""
        if self.returncode is None:
            self._status.settimeout(timeout)
            self.returncode = _STATUS.unpack(self._status.recv(_STATUS.size))[0]
            self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, if it still runs."""
        self.send_signal(signal.SIGKILL)


@cache
def _server() -> socket.socket:
    """Start the process that forks; the channel to it, with whose end it ends."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_REQUEST)
    root = str(Path(__file__).resolve().parents[2])
    # Not by PYTHONPATH: what the environment has of the package, installed as editable, would be left out then.
    start = f"import sys; sys.path.insert(0, {root!r})"
    program = f"{start}; from {__name__} import serve; serve({theirs.fileno()}, {root!r})"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PYTHONUNBUFFERED"] = "1"
    process = subprocess.Popen([sys.executable, "-c", program], env=environment, pass_fds=[theirs.fileno()])
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def serve(descriptor: int, root: str) -> None:
    """
    Fork for each request, and tell how the forks end. It returns in a fork, when the fork's program has ended.

    :param descriptor: of the channel.
    :param root: the first entry of the path, which no program has asked for.
    """
    for name in IMPORTS:
        importlib.import_module(name)
    assert "twisted.internet.reactor" not in sys.modules
    sys.path.remove(root)
    sys.path[:] = [entry for entry in sys.path if entry]
    gc.collect()
    gc.freeze()
    # Ctrl-C is for the tests; the forks are ended by them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = socket.socket(fileno=descriptor)
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno())
    ends: dict[int, socket.socket] = {}
    while True:
        ready = select.select([channel, woken], [], [])[0]
        if woken in ready:
            woken.recv(1000)
            _reap(ends)
        if channel in ready:
            request, descriptors, _, _ = socket.recv_fds(channel, MAX_REQUEST, 4)
            if not request:
                return
            if not (pid := os.fork()):
                signal.set_wakeup_fd(-1)
                for each in (channel, woken, waker, *ends.values()):
                    each.close()
                os.close(descriptors[3])
                _become(request, descriptors[:3])
                return
            for each in descriptors[:3]:
                os.close(each)
            ends[pid] = socket.socket(fileno=descriptors[3])
            ends[pid].sendall(_STATUS.pack(pid))


def _reap(ends: dict[int, socket.socket]) -> None:
    """Tell of forks that have ended."""
    while ends:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with ends.pop(pid) as end, suppress(OSError):
            end.sendall(_STATUS.pack(os.waitstatus_to_exitcode(status)))


def _become(request: bytes, descriptors: list[int]) -> None:
    """Be the program that was asked for, until it ends."""
    command, environment, folder = cast("tuple[list[str], dict[str, str], str]", json.loads(request))
    for number, each in enumerate(descriptors):
        os.dup2(each, number)
        os.close(each)
    for number in (signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.orig_argv[:] = command
    path = environment.get("PYTHONPATH", "")
    sys.path[:0] = path.split(os.pathsep) if path else []
    sys.path_importer_cache.clear()
    # A module of its own: what the program defines is found there by name.
    main: Any = ModuleType("__main__")
    program, *words = command[1:]
    first = ""
    if program == "-c":
        code = compile(words.pop(0), "<string>", "exec")
        sys.argv[:] = ["-c", *words]
    elif program == "-m":
        first = folder
        sys.argv[:] = words
    else:
        code = compile(Path(program).read_bytes(), program, "exec")
        main.__file__ = program
        first = os.path.dirname(os.path.abspath(program))
        sys.argv[:] = [program, *words]
    if not environment.get("PYTHONSAFEPATH"):
        sys.path.insert(0, first)
    if program == "-m":
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    else:
        sys.modules["__main__"] = main
        exec(code, main.__dict__)
