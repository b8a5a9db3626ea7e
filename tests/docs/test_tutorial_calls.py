"""The tutorial of calls, followed word for word."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.support.tutorial import steps
from tests.tap.test_twistd import ROOT, Process, ProcessTestCase, commandOf

PAGE = ROOT / "docs" / "tutorial-calls.md"


class TutorialTests(ProcessTestCase):
    """With the environment of the tests, and a free port."""

    def setUp(self) -> None:
        super().setUp()
        path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
        self.environment.update(PATH=path, PYTHONUNBUFFERED="1")
        self.place = Path(self.folder, "shop")
        self.place.mkdir()
        self.port = ""
        self.server: Process | None = None
        self.steps = steps(PAGE)

    def run_(self, command: str) -> Process:
        """Run a command of the page; it is gone in the end."""
        process = Process(commandOf(self.here(command), self.environment), self.environment, str(self.place))
        self.addCleanup(process.kill)
        return process

    def here(self, text: str) -> str:
        """A text of the page, with the port of the server in it."""
        return text.replace("localhost:8090", f"localhost:{self.port}")

    def stop(self) -> None:
        """Stop the server, which says nothing of a failure."""
        if self.server is not None:
            self.server.send(signal.SIGTERM)
            self.assertEqual(0, self.server.end())
            self.assertNotIn("Traceback", self.server.output)

    def serve(self, command: str) -> None:
        """Serve on a free port in place of the one of the page, and of what was served before."""
        self.stop()
        self.server = self.run_(command.rstrip() + " --listen tcp:0:interface=127.0.0.1")
        self.port = self.server.expect(r"listening on 127\.0\.0\.1:(\d+)")[1]

    def test_wordForWord(self) -> None:
        """Each command says what stands below it."""
        language, _, text = self.steps.pop(0)
        self.assertEqual(("sh", "pip install ../getty_tx"), (language, text.splitlines()[-1]))
        last: Process | None = None
        watching: Process | None = None
        served: list[str] = []
        files: dict[str, str] = {}
        for language, name, text in self.steps:
            if language == "python":
                files[name] = text
                (self.place / name).write_text(text)
            elif language == "sh" and text.startswith("twistd"):
                served.append(text)
                self.serve(text)
            elif language == "sh":
                for each, content in files.items():
                    (self.place / each).write_text(self.here(content))
                last = self.run_(text)
                if "watch.py" in text:
                    watching, last = last, None
                    watching.expect("tea")
                elif watching is not None and "buy.py" in text:
                    self.assertEqual(0, last.end())
                    last = watching
            else:
                assert last is not None
                last.end()
                shown = text.splitlines()
                self.assertEqual(shown, last.output.splitlines()[-len(shown) :])
        self.assertEqual(2, len(served))
        self.stop()
