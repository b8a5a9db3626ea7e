"""The architecture: rooms import in one direction, and their state stays theirs. ``tools/house.py`` counts it."""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]


class HouseTests(SynchronousTestCase):
    """Counts of the package as it is."""

    def setUp(self) -> None:
        self.patch(sys, "path", [str(ROOT / "tools"), *sys.path])
        import house

        self.house = house

    def test_noCircleOfRooms(self) -> None:
        """No room reaches itself by way of others, imports for annotations included; one old name is excepted."""
        graph = self.house.layered(self.house.moduleGraph())
        self.assertEqual(self.house.circles(self.house.roomGraph(graph)), [])
        self.assertEqual(self.house.accepted(), [["getty_tx.reactors", "getty_tx.processes.service"]])

    def test_layers(self) -> None:
        """There are at most ten layers, and each room is in one."""
        layers = self.house.layers()
        self.assertLessEqual(len(layers), 10)
        listed = {name.strip(" ()") for layer in layers for name in layer.replace("|", ":").split(":")}
        self.assertEqual(listed, set(self.house.roomGraph(self.house.moduleGraph())))

    def test_private(self) -> None:
        """Private attributes are for their own objects: other uses are few, and none is added unseen."""
        self.assertLess(sum(self.house.privateAccesses().values()), 120)

    def test_root(self) -> None:
        """The root has rooms and ground files, and nothing else."""
        self.assertLessEqual(len(self.house.rootEntries()), 28)

    def test_longFunctions(self) -> None:
        """Functions of more than 60 lines are the exception."""
        self.assertLessEqual(len(self.house.longFunctions()), 4)


class CountTests(SynchronousTestCase):
    """The tool finds what it is there for."""

    def setUp(self) -> None:
        self.patch(sys, "path", [str(ROOT / "tools"), *sys.path])
        import house

        self.house = house
        self.root = Path(self.mktemp())
        self.write("__init__", "from getty_tx.a.one import x\n")
        self.write("a/__init__", "")
        self.write("a/one", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from getty_tx.b import two\n")
        self.write("b/__init__", "")
        self.write("b/two", "def f(session):\n    from getty_tx.c import y\n    return session._x\n")
        self.write("c", "import getty_tx.a.one\nclass C:\n    def g(self):\n        return self._y, super()._z\n")

    def write(self, name: str, text: str) -> None:
        """A module of a package that is only read."""
        path = self.root / "getty_tx" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def test_circle(self) -> None:
        """A circle that goes through an annotation, a function and an import of a whole module."""
        graph = self.house.moduleGraph(self.root)
        self.assertEqual(self.house.circles(self.house.roomGraph(graph)), [["a", "b", "c"]])

    def test_private(self) -> None:
        """An object's own private attributes do not count."""
        self.assertEqual(dict(self.house.privateAccesses(self.root)), {"getty_tx.b.two": 1})
