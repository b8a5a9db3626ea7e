"""Tests of ``twistd --uid`` with several processes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from functools import cache

from tests.processes.test_twistd import ManyTestCase
from tests.support import programs
from tests.support.certificates import Authority
from tests.tap.test_twistd import PATIENCE, RUN_TWISTD, Process

#: Whoever has no rights: nobody, on most systems. It need not have a name.
NOBODY = 65534


@cache
def interpreter(environment: tuple[tuple[str, str], ...], folder: str) -> str | None:
    """Find an interpreter of this version that the user nobody may run, with all packages; None without."""
    system = shutil.which(f"python{sys.version_info[0]}.{sys.version_info[1]}", path=os.defpath)
    for path in filter(None, (sys.executable, system)):
        command = [path, "-P", "-c", f"import {programs.__name__}, twisted.scripts.twistd"]
        try:
            run = subprocess.run(command, user=NOBODY, env=dict(environment), cwd=folder, stderr=subprocess.DEVNULL)
        except PermissionError:
            continue
        if not run.returncode:
            return path
    return None


def privilegedPort() -> int | None:
    """Find a free port below 1024; None where this process may not bind one."""
    for port in range(1023, 600, -1):
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            pass
    return None


class UserTests(ManyTestCase):
    """The main process is started as root, and drops its privileges."""

    if os.getuid():
        skip = "only root may change to another user"

    def setUp(self) -> None:
        super().setUp()
        libraries = [path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")]
        self.environment["PYTHONPATH"] = os.pathsep.join([self.folder, *libraries])
        authority = Authority(self.mktemp())
        self.context = ssl.create_default_context(cafile=authority.path)
        self.certificate, self.key = map(os.path.abspath, authority.issue(["localhost"]))
        for path in (self.folder, os.path.dirname(self.key)):
            # trial makes them in folders that nobody else may enter.
            os.chmod(os.path.dirname(path), 0o755)
        self.tls = f"--listen=ssl:0:privateKey={self.key}:certKey={self.certificate}:interface=127.0.0.1"

    def serveAs(self, *more: str, python: str, pidfile: str = "") -> Process:
        """Start ``getty-serve`` as the user nobody."""
        listener = f"--listener={programs.__name__}:Whose"
        rights = [f"--uid={NOBODY}", f"--gid={NOBODY}", f"--pidfile={pidfile}"]
        return self.run_(python, "-P", "-c", RUN_TWISTD, "-n", *rights, "getty-serve", listener, "--processes=2", *more)

    def needed(self) -> str:
        """Return the interpreter to run."""
        found = interpreter(tuple(self.environment.items()), self.folder)
        if found is None:
            self.skipTest(f"user id {NOBODY} may not run {sys.executable}, or not read what it imports")
        assert found is not None
        return found

    def test_served(self) -> None:
        """A low port, TLS and unix sockets are served without privileges, also after a reload; files are removed."""
        python = self.needed()
        port = privilegedPort()
        if port is None:
            self.skipTest("there is no port below 1024 to be had")
        os.mkdir(os.path.join(self.folder, "state"))
        os.chown(os.path.join(self.folder, "state"), NOBODY, NOBODY)
        os.chown(self.key, NOBODY, NOBODY)
        process = self.serveAs(
            f"--listen=tcp:{port}:interface=127.0.0.1",
            self.tls,
            "--listen=unix:state/mine.sock",
            "--listen=unix:roots.sock",
            python=python,
            pidfile="state/pid",
        )
        ports = self.ports(process)
        for isReloaded in (False, True):
            if isReloaded:
                process.send(signal.SIGHUP)
                process.expect("#info] reloaded")
            encrypted = self.context.wrap_socket(self.connect(ports[1]), server_hostname="localhost")
            local = self.connectUnix(os.path.join(self.folder, "state", "mine.sock"))
            for each in (self.connect(ports[0]), encrypted, local):
                each.settimeout(PATIENCE)
                self.assertEqual(f"{NOBODY} {NOBODY}", self.ask(each))
                each.close()
        self.stop(process)
        self.assertEqual([], os.listdir(os.path.join(self.folder, "state")))
        self.assertIn("a port did not close: [Errno 13] Permission denied: b'roots.sock'", process.output)

    def test_key(self) -> None:
        """A private key that only root may read is an error, because each sub-reactor reads it."""
        os.chmod(self.key, 0o600)
        process = self.serveAs(self.tls, python=self.needed())
        self.assertEqual(1, process.end())
        self.assertIn(f"cannot be read by user id {NOBODY}: Permission denied", process.output)
        self.assertNotIn("Traceback", process.output)

    def test_interpreter(self) -> None:
        """An interpreter that only root can reach is an error."""
        locked = os.path.join(self.folder, "locked")
        os.mkdir(locked, 0o700)
        os.symlink(sys.executable, os.path.join(locked, "python"))
        process = self.serveAs("--listen=tcp:0:interface=127.0.0.1", python=os.path.join(locked, "python"))
        self.assertEqual(1, process.end())
        self.assertIn(f"user id {NOBODY} may not run {locked}/python", process.output)
        self.assertNotIn("Traceback", process.output)
