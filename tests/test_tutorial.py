"""The tutorial, followed word for word."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.test_tap_twistd import ProcessTestCase
from tests.tutorial import follow


class TutorialTests(ProcessTestCase):
    """With the environment of the tests; the check of the wheel does the same in a clean one."""

    def test_wordForWord(self) -> None:
        """People chat over TCP, WebSocket and UDP, and those who lost the server come back."""
        self.environment["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
        folder = Path(self.folder, "chat")
        folder.mkdir()
        follow(self.environment, folder)
