"""The tutorial, followed word for word."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path
from unittest.mock import patch

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.status import service
from getty_tx.tap.serve import Options
from tests.docs.test_guide import read, rowsIn, section
from tests.support.tutorial import follow, steps
from tests.tap.test_twistd import ProcessTestCase


class TutorialTests(ProcessTestCase):
    """With the environment of the tests; the check of the wheel does the same in a clean one."""

    def test_wordForWord(self) -> None:
        """People chat over TCP, WebSocket and UDP, and those who lost the server come back."""
        self.environment["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
        folder = Path(self.folder, "chat")
        folder.mkdir()
        follow(self.environment, folder)

    def test_anotherServer(self) -> None:
        """What twistd says in a folder where one runs, and the server where another has its port, is on the page."""
        wrong = said()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            place = f"127.0.0.1:{taken.getsockname()[1]}"
            process = self.twistd("getty-echo", "--listen", "tcp:{1}:interface={0}".format(*place.split(":")))
            self.assertEqual(1, process.end())
            self.assertIn(wrong[0].replace("127.0.0.1:8090", place), process.output)
        Path(self.folder, "twistd.pid").write_text(str(os.getpid()))
        process = self.twistd("getty-echo", pidfile="twistd.pid")
        self.assertEqual(1, process.end())
        self.assertIn(wrong[1], process.output)


def said() -> list[str]:
    """What the page says that may be read when something is wrong."""
    rows = rowsIn(section(read("tutorial.md"), "When it does not work"))
    return [found for row in rows for found in re.findall(r"^`([^`]+)`", row[0])]


class TroubleTests(SynchronousTestCase):
    """What the commands say to whoever mistypes them."""

    def test_options(self) -> None:
        """It is what stands on the page."""
        folder = Path(self.mktemp())
        folder.mkdir()
        [*_, text] = [text for _, name, text in steps() if name == "chat.py"]
        (folder / "chat.py").write_text(text)
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        self.addCleanup(sys.modules.pop, "chat", None)
        wrong = said()
        found = [self.refuse("--listener", "chat:Chat")]
        os.chdir(folder)
        self.patch(sys, "path", [str(folder.absolute()), *sys.path])
        found += [self.refuse("--listener", "chat:Chatt"), self.refuse("--listener", "chat.Chat")]
        for text, error in zip(wrong[2:5], found, strict=True):
            self.assertIn(text, error)
        with patch.dict(sys.modules, {"prometheus_client": None}):
            status = self.refuse("--listener", "chat:Chat", "--status", service.DEFAULT_STATUS)
        self.assertIn(wrong[6], status)
        self.assertEqual(8, len(wrong))

    def refuse(self, *words: str) -> str:
        """What is said to a command."""
        return str(self.assertRaises(UsageError, Options().parseOptions, words))
