"""Programs that are other ends of calls: each is started once for all tests of a process, and told by lines."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.internet.threads import deferToThread

__all__ = ["Child", "childOf", "node"]

ROOT = Path(__file__).parents[3]


class Child:
    """
    A program that answers a line of JSON with one; it ends with its input.

    :param words: its command.
    :param environment: what is added to that of this process.
    """

    def __init__(self, words: list[str], environment: dict[str, str] | None = None) -> None:
        searched = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        # grpcio says much about itself otherwise.
        more = {"PYTHONPATH": os.pathsep.join(filter(None, searched)), "GRPC_VERBOSITY": "NONE"}
        self._process: Any = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **more, **(environment or {})},
        )
        atexit.register(self.end)

    def _ask(self, line: str) -> str:
        self._process.stdin.write(line)
        self._process.stdin.flush()
        return str(self._process.stdout.readline())

    async def ask(self, **words: Any) -> Any:
        """What it answers. :raise AssertionError: that something is wrong, or it has ended."""
        line = await deferToThread(self._ask, json.dumps(words) + "\n")
        assert line, f"the program has ended: {self._process.wait(5)}"
        found = json.loads(line)
        assert not found.get("error"), found["error"]
        return found

    def end(self) -> None:
        """End it."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()


@cache
def childOf(module: str, *words: str) -> Child:
    """The process of one of the programs beside this file."""
    return Child([sys.executable, "-m", f"tests.support.grpc.{module}", *words])


@cache
def node(role: str) -> Child:
    """
    npm's gRPC, see ``tests/grpc/interop.js``.

    :param role: ``client`` or ``server``.
    :raise SkipTest: it is not there.
    """
    if shutil.which("node") is None:
        raise SkipTest("there is no node (Debian: apt-get install nodejs)")
    modules = ROOT / "build" / "npm" / "node_modules"
    path = os.pathsep.join([str(modules), os.environ.get("NODE_PATH", "")])
    finds = ["node", "-e", "require.resolve('@grpc/grpc-js'); require.resolve('@grpc/proto-loader')"]
    if subprocess.run(finds, env={**os.environ, "NODE_PATH": path}, capture_output=True).returncode:
        raise SkipTest("there is no gRPC of npm: npm install --prefix build/npm @grpc/grpc-js@1.14 @grpc/proto-loader")
    folder = ROOT / "tests" / "grpc"
    command = ["node", str(folder / "interop.js"), role, str(folder / "protos" / "interop.proto")]
    return Child(command, {"NODE_PATH": path})
