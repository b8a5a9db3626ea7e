"""``--env-file``."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from getty_tx.errors import SettingError
from getty_tx.tap.environment import addEnvironment

FILE = r"""
# A comment.
PLAIN=a b
EMPTY=
  export EXPORTED = x # not this
HASH=a#b
SINGLE='${A} \n "#'
DOUBLE="it's #1"   # nor this
DOLLAR=pa$$word
BACKSLASH=C:\temp
THERE=from the file
PLAIN=the last one
EQUAL=a=b"c"
"""


class EnvironmentTests(SynchronousTestCase):
    """Files of variables."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.patch(os, "environ", {"THERE": "before"})

    def test_values(self) -> None:
        """What is set already stays."""
        self.path.write_text(FILE)
        addEnvironment(str(self.path))
        self.assertEqual(
            os.environ,
            {
                "THERE": "before",
                "PLAIN": "the last one",
                "EMPTY": "",
                "EXPORTED": "x",
                "HASH": "a#b",
                "SINGLE": '${A} \\n "#',
                "DOUBLE": "it's #1",
                "DOLLAR": "pa$$word",
                "BACKSLASH": r"C:\temp",
                "EQUAL": 'a=b"c"',
            },
        )

    def test_refused(self) -> None:
        """Nothing is set if something is wrong."""
        for line, why in [
            ("NOTHING", "line 2 is not KEY=VALUE"),
            ("1A=b", "line 2 is not KEY=VALUE"),
            ("A='b", "its quotes do not end on it"),
            ('A="b"c', "line 2 is not KEY=VALUE"),
            ("A=b\0", "line 2 is not KEY=VALUE"),
            ("A=${HOME}/b", "line 2: variables are not expanded; write A='...'"),
            ('A="${HOME}"', "line 2: variables are not expanded"),
            (r'A="a\n"', "line 2: a backslash in double quotes"),
        ]:
            self.path.write_text(f"B=c\n{line}\n")
            self.assertIn(why, str(self.assertRaises(SettingError, addEnvironment, str(self.path))))
        self.path.write_bytes(b"A=\xff")
        self.assertIn("UTF-8", str(self.assertRaises(SettingError, addEnvironment, str(self.path))))
        error = self.assertRaises(SettingError, addEnvironment, "/no/such/file")
        self.assertEqual("No such file or directory; choose another file", str(error))
        self.assertEqual(os.environ, {"THERE": "before"})
