"""
Count what a reader sees of the package's architecture: ``python tools/house.py [--modules]``.

Imports for annotations (``if TYPE_CHECKING:``) and imports within functions count as any other. A *room* is a folder
of ``getty_tx/``, with the folders in it, or one of the files beside them. A *private access* is any ``x._name`` where
``x`` is not ``self``, ``cls`` or ``super()``.
"""

from __future__ import annotations

import argparse
import ast
import configparser
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "getty_tx"

Graph = dict[str, set[str]]


def sources(root: Path = ROOT) -> dict[str, Path]:
    """The package's modules by their dotted names."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def importsOf(name: str, tree: ast.Module, modules: Iterable[str]) -> Iterator[str]:
    """The modules of the package that a module imports, wherever in it."""
    known = set(modules)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            for alias in node.names:
                longer = f"{node.module}.{alias.name}"
                if longer in known:
                    yield longer
                elif node.module in known:
                    yield node.module


@cache
def treeOf(path: Path) -> ast.Module:
    """A file's code, which is parsed once."""
    return ast.parse(path.read_text())


def moduleGraph(root: Path = ROOT) -> Graph:
    """What each module imports."""
    modules = sources(root)
    return {name: set(importsOf(name, treeOf(path), modules)) - {name} for name, path in modules.items()}


def roomOf(module: str) -> str:
    """The room that a module is in: ``session`` for ``getty_tx.session.inbound``."""
    return module.split(".")[1] if "." in module else PACKAGE


def roomGraph(modules: Mapping[str, set[str]]) -> Graph:
    """What each room imports; the package's own ``__init__``, which imports nearly all, is none."""
    rooms: Graph = {}
    for name, imported in modules.items():
        if name != PACKAGE:
            room = rooms.setdefault(roomOf(name), set())
            room.update(roomOf(each) for each in imported if each != PACKAGE)
    for room, imported in rooms.items():
        imported.discard(room)
    return rooms


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups whose members all reach each other (Tarjan's strongly connected components), the largest first."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            members = []
            while True:
                member = stack.pop()
                members.append(member)
                if member == node:
                    break
            if len(members) > 1:
                found.append(sorted(members))

    for node in graph:
        if node not in index:
            visit(node)
    return sorted(found, key=lambda members: (-len(members), members))


def privateAccesses(root: Path = ROOT) -> Counter[str]:
    """How many private accesses each module has."""
    counts: Counter[str] = Counter()
    for name, path in sources(root).items():
        for node in ast.walk(treeOf(path)):
            if not isinstance(node, ast.Attribute) or not node.attr.startswith("_") or node.attr.startswith("__"):
                continue
            owner = node.value
            if isinstance(owner, ast.Name) and owner.id in ("self", "cls"):
                continue
            if isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name) and owner.func.id == "super":
                continue
            counts[name] += 1
    return counts


def rootEntries(root: Path = ROOT) -> list[str]:
    """What stands at the root of the package."""
    return sorted(path.name for path in (root / PACKAGE).iterdir() if path.name != "__pycache__")


def layers(root: Path = ROOT) -> list[str]:
    """The layers of ``.importlinter``, from the top."""
    rules = configparser.ConfigParser()
    rules.read(root / ".importlinter")
    return rules["importlinter:contract:layers"]["layers"].split("\n")[1:]


def accepted(root: Path = ROOT) -> list[list[str]]:
    """The pairs of modules whose import the rule of the layers leaves out."""
    rules = configparser.ConfigParser()
    rules.read(root / ".importlinter")
    lines = rules["importlinter:contract:layers"].get("ignore_imports", "").split("\n")[1:]
    return [line.split(" -> ") for line in lines]


def layered(modules: Graph, root: Path = ROOT) -> Graph:
    """What each module imports, without the accepted exceptions."""
    graph = {name: set(imported) for name, imported in modules.items()}
    for importer, imported in accepted(root):
        graph[importer].remove(imported)
    return graph


def longFunctions(root: Path = ROOT, lines: int = 60) -> list[tuple[int, str]]:
    """The functions of more than so many lines, the longest first."""
    found = []
    for name, path in sources(root).items():
        for node in ast.walk(treeOf(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                length = node.end_lineno - node.lineno + 1
                if length > lines:
                    found.append((length, f"{name}.{node.name}"))
    return sorted(found, reverse=True)


def main() -> int:
    """Print the counts; the exit status is 1 if rooms are in a circle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", action="store_true", help="private accesses and circles by module as well")
    options = parser.parse_args()
    graph = moduleGraph()
    rooms = circles(roomGraph(layered(graph)))
    files = circles({name: imported for name, imported in graph.items() if name != PACKAGE})
    private = privateAccesses()
    print(f"entries at the root of {PACKAGE}/: {len(rootEntries())}")
    print(f"layers in .importlinter: {len(layers())}")
    print(f"circles of rooms: {len(rooms)}", *(", ".join(each) for each in rooms), sep="\n  ")
    print(f"circles of modules: {len(files)}; sizes {[len(each) for each in files]}")
    print(f"private accesses: {sum(private.values())}")
    print("functions of more than 60 lines:", *(f"{count} {name}" for count, name in longFunctions()), sep="\n  ")
    if options.modules:
        print("circles:", *(", ".join(each) for each in files), sep="\n  ")
        print("private accesses:", *(f"{count} {name}" for name, count in private.most_common()), sep="\n  ")
    return 1 if rooms else 0


if __name__ == "__main__":
    sys.exit(main())
