"""What the documentation says: its code, its links, its tables of settings and options."""

from __future__ import annotations

import ast
import re
import socket
from ast import literal_eval
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.application.reactors import IReactorInstaller
from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase

import getty_tx
import getty_tx.errors
from benchmarks.acceptance.__main__ import MODULES
from getty_tx import rpc
from getty_tx.codecs import LineCodec
from getty_tx.endpoints import clientEndpoint, serverEndpoint
from getty_tx.errors import SettingError
from getty_tx.groups.stats import GroupStats
from getty_tx.listener import EventListener
from getty_tx.session.refusals import REASONS
from getty_tx.session.session import Session
from getty_tx.session.totals import CLOSE_REASONS
from getty_tx.settings import Setting
from getty_tx.status.calls import CallTotals
from getty_tx.status.groups import NamespaceSnapshot
from getty_tx.status.histogram import Histogram
from getty_tx.status.metrics import families
from getty_tx.status.providers import ProvidersSnapshot
from getty_tx.status.registries import RegistrySnapshot
from getty_tx.status.requests import SIDE, RequestTotals
from getty_tx.status.snapshot import EndpointSnapshot, ServiceSnapshot, Snapshot
from getty_tx.tap import dial, echo, serve
from getty_tx.tap import rpc as calls
from getty_tx.tap.listen import DEFAULT_LISTEN
from getty_tx.testing import MemoryReactor, Network, connectedPeer, feedSplit
from getty_tx.transports.websocket.session import MessageSession
from tests.docs.blocks import BLOCKS
from tests.support.memory import configure
from tests.support.tutorial import steps
from tests.tap.test_twistd import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

#: Where a file that is named without its folder may be.
FOLDERS = ("", "getty_tx", "docs", "benchmarks", "examples")

#: The pages that list others.
CONTENTS = ("index.md", "guide.md", "inside/index.md", "inside/decisions/index.md")

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FILE = re.compile(
    r"(?<![\w./:-])([\w.-]+/)*[\w-]+\.(?:py|md|tac|c)\b(?!\()|`((?:[\w.-]+/)+)`|`(\.importlinter|Makefile)`"
)
_DESCRIPTION = re.compile(r"(?:^|[`'\" ])((?:udp|ws|wss):(?!//`|HOST)[^`'\"\s]*[^`'\"\s:])", re.MULTILINE)
_MODULE = re.compile(r"\bgetty_tx(?:\.\w+)+")


def read(name: str) -> str:
    """A page of docs/."""
    return (ROOT / "docs" / name).read_text()


def codeIn(page: Path) -> Iterator[tuple[str, ast.Module]]:
    """The place of each block of Python, and its code, whose lines count as the page's do."""
    text = page.read_text()
    for match in _BLOCK.finditer(text):
        if match[1] == "python":
            line = text.count("\n", 0, match.start(2))
            place = f"{page.name}:{line + 1}"
            yield place, ast.parse("\n" * line + match[2], place)


def madeIn(page: Path) -> set[str]:
    """The files that the page has its reader make: those of a tutorial."""
    return {name for _, name, _ in steps(page)} if page.name.startswith("tutorial") else set()


def rowsIn(text: str) -> Iterator[list[str]]:
    """The cells of each line of a table."""
    for line in text.splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next one."""
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def anchorsIn(page: Path) -> set[str]:
    """The names by which the headings of a page can be linked to, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", _BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def find(name: str) -> Any:
    """What a dotted name means: a module, or an attribute of one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"there is no {name}")


class Listening(MemoryReactorClock):
    """
    A reactor that only notes what is asked of it.

    :ivar udp: the ports that datagrams are to come to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.udp: list[int] = []

    def listenUDP(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192) -> None:
        """Note the port."""
        self.udp.append(port)


class CodeTests(SynchronousTestCase):
    """Blocks of Python."""

    def test_compiles(self) -> None:
        """Every block compiles, and what it imports is there."""
        blocks = [(madeIn(page), *block) for page in PAGES for block in codeIn(page)]
        self.assertGreater(len(blocks), 10)
        for made, place, tree in blocks:
            compile(tree, place, "exec")
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and f"{node.module}.py" not in made:
                    for alias in node.names:
                        # The reactor is left alone: looking for it would install it. OpenTelemetry may be missing.
                        if alias.name != "reactor" and node.module != "opentelemetry":
                            find(f"{node.module}.{alias.name}")

    def test_all(self) -> None:
        """Each block is run somewhere, or there is a reason for which it is not."""
        found: dict[str, set[str]] = {}
        for page in PAGES:
            text = page.read_text()
            kinds = {match[1] for match in _BLOCK.finditer(text)}
            if re.search(r"^\n {4,}\S", _BLOCK.sub("", text), re.MULTILINE):
                kinds.add("indented")
            if kinds:
                found[str(page.relative_to(ROOT)).removeprefix("docs/")] = kinds
        self.assertEqual(found, {page: set(kinds) for page, kinds in BLOCKS.items()})
        for kinds in BLOCKS.values():
            for where in kinds.values():
                for module in re.findall(r"^test_\w+", where):
                    self.assertTrue((ROOT / "tests" / "docs" / f"{module}.py").exists(), module)

    def guide(self, page: str) -> dict[str, Any]:
        """What a page of the guide defines, from top to bottom; the reader has a ``newSession``."""
        names: dict[str, Any] = {"__name__": page, "newSession": configure(EventListener(), LineCodec())}
        for place, tree in codeIn(ROOT / "docs" / "guide" / f"{page}.md"):
            exec(compile(tree, place, "exec"), names)
        return names

    def test_guide(self) -> None:
        """Every page of the guide runs on its own."""
        pages = sorted((ROOT / "docs" / "guide").glob("*.md"))
        self.assertGreater(len(pages), 5)
        for page in pages:
            # Those need generated code: test_grpc_page.
            if not page.stem.startswith("grpc"):
                self.guide(page.stem)

    def test_guideCodec(self) -> None:
        """The guide's codec keeps the contract."""
        codec = self.guide("codecs")["TagCodec"]()
        packages = [(1, b"one"), (255, b""), (7, bytes(70))]
        data = b"".join(codec.write(None, pkg) for pkg in packages)
        for size in range(1, len(data)):
            self.assertEqual((packages, b""), feedSplit(codec, data, [size]))

    def test_guideStatsd(self) -> None:
        """The guide's observer tells statsd what became of a session."""
        names = self.guide("status")
        with socket.socket(type=socket.SOCK_DGRAM) as statsd:
            statsd.settimeout(PATIENCE)
            statsd.bind(("127.0.0.1", 0))
            observer = names["Statsd"](*statsd.getsockname())
            self.addCleanup(observer.socket.close)
            network = Network()
            factory = network.serverFactory(configure(EventListener(), LineCodec()), maxSessions=1)
            factory.addObserver(observer)
            pair = network.connect(factory, network.clientFactory(configure(EventListener(), LineCodec())))
            pair.client.writePkg(b"hello")
            pair.client.close()
            pair.flush()
            self.assertEqual(b"echo.opened:1|c", statsd.recv(1000))
            self.assertEqual(b"echo.closed.peer:1|c\necho.packages:1|c\necho.bytes:6|c", statsd.recv(1000))

    def test_guideTimers(self) -> None:
        """The guide's requests are lost after five seconds without progress, unless they are answered."""
        clock, lost = Clock(), []
        requests = self.guide("timers")["Requests"](clock, lost.append)
        for number in range(3):
            requests.sent(number)
        clock.advance(4)
        requests.progress(1)
        requests.answered(2)
        clock.pump([0.1] * 12)
        self.assertEqual([0], lost)
        clock.pump([0.1] * 40)
        self.assertEqual([0, 1], lost)

    def test_guideFactories(self) -> None:
        """The guide's listening calls are such as reactors know."""
        reactor = Listening()
        self.guide("services")["start"](reactor, configure(EventListener(), LineCodec()))
        self.assertEqual([8090, 8091], [port for port, *_ in reactor.tcpServers])
        self.assertEqual([8090], reactor.udp)
        [(host, port, client, *_)] = reactor.tcpClients
        self.assertEqual(("localhost", 8090), (host, port))
        client.stopTrying()


class ReferenceTests(SynchronousTestCase):
    """What is named exists."""

    def test_links(self) -> None:
        """Every relative link leads to a file of the project, and to a heading in it."""
        for page in PAGES:
            for target in _LINK.findall(_BLOCK.sub("", page.read_text())):
                if "://" in target:
                    continue
                path, _, anchor = target.partition("#")
                linked = (page.parent / path).resolve() if path else page
                self.assertTrue(linked.is_relative_to(ROOT) and linked.exists(), f"{page.name}: {target}")
                if anchor:
                    self.assertIn(anchor, anchorsIn(linked), page.name)

    def test_pages(self) -> None:
        """The README leads to the documentation, and its pages that list others lead to every page."""
        self.assertIn("docs/index.md", _LINK.findall((ROOT / "README.md").read_text()))
        docs = ROOT / "docs"
        linked = {
            (docs / name).parent.joinpath(target.partition("#")[0]).resolve()
            for name in CONTENTS
            for target in _LINK.findall(read(name))
        }
        there = {page for page in PAGES if page.is_relative_to(docs)}
        self.assertEqual(set(), there - {docs / "index.md"} - linked)

    def test_files(self) -> None:
        """Every file and folder that is named is there."""
        seen = 0
        for page in PAGES[2:]:
            made = madeIn(page)
            for match in _FILE.finditer(_LINK.sub("", _BLOCK.sub("", page.read_text()))):
                name = match[0].strip("`")
                seen += 1
                there = name in made or any((ROOT / folder / name).exists() for folder in FOLDERS)
                self.assertTrue(there, f"{page.name}: {name}")
        self.assertGreater(seen, 5)

    def test_names(self) -> None:
        """Every name of the package, as ``getty_tx.tls``, means something."""
        for page in PAGES:
            for name in set(_MODULE.findall(page.read_text())):
                find(name)

    def test_session(self) -> None:
        """So does every attribute of a session, server or client."""
        servers, clients = (getty_tx.Server, rpc.Server), (getty_tx.Client, rpc.Client)
        known = {"session": (MessageSession,), "server": servers, "client": clients}
        for page in PAGES:
            for kind, name in set(re.findall(r"`(session|server|client)\.(?!py`)(\w+)", page.read_text())):
                there = any(hasattr(each, name) for each in known[kind]) or name in ("context", "id", "transport")
                self.assertTrue(there, f"{page.name}: {kind}.{name}")

    def test_descriptions(self) -> None:
        """Every description of datagrams and of WebSocket can be listened on or dialed, if the files are there."""
        found = {name for page in PAGES for name in _DESCRIPTION.findall(page.read_text()) if "{" not in name}
        self.assertGreater(len(found), 10)
        for description in sorted(found):
            accepted = [self.accepts(parse, description) for parse in (serverEndpoint, clientEndpoint)]
            self.assertIn(True, accepted, description)

    def accepts(self, parse: Any, description: str) -> bool:
        """Whether the description is one for a server, or for a client."""
        try:
            parse(description, MemoryReactor())
        except SettingError as error:
            return "cannot be read" in str(error)
        return True

    def test_reference(self) -> None:
        """The reference has every public name, and names of errors by their module."""
        text = read("reference.rst")
        errors = set(getty_tx.errors.__all__)
        found = set(re.findall(r"auto(?:class|function):: getty_tx\.(\w+)$|``(I\w+)``", text, re.MULTILINE))
        self.assertEqual(set(getty_tx.__all__) - errors, {one or other for one, other in found})

    def test_referenceModules(self) -> None:
        """It has every module besides that pages and examples import from or name, and all that these export."""
        modules = set(re.findall(r"automodule:: (getty_tx\.[\w.]+)$", read("reference.rst"), re.MULTILINE))
        used = re.compile(r"^ *from (getty_tx\.[\w.]+) import|--logger[ =](getty_tx\.\w+)", re.MULTILINE)
        for page in (*PAGES, *(ROOT / "examples").glob("*.*")):
            for imported, logger in used.findall(page.read_text()):
                self.assertIn(imported or logger, modules, page.name)
        for name in modules:
            module = import_module(name)
            for each in module.__all__:
                # Sphinx leaves out what has no docstring; constants have comments for that.
                thing = getattr(module, each)
                self.assertTrue(thing.__doc__ if callable(thing) else each.isupper(), f"{name}.{each}")

    def test_measurements(self) -> None:
        """Every acceptance module is in the table, and nothing else."""
        rows = rowsIn(section(read("inside/measured.md"), "What is measured"))
        self.assertEqual({f"`{name}`" for name in MODULES}, {row[0] for row in rows} - {"name", "---"})


class SettingsTests(SynchronousTestCase):
    """The guide's table of the settings of a session."""

    def test_table(self) -> None:
        """It has every setting and no other, with its default."""
        documented: dict[str, str] = {}
        for row in rowsIn(section(read("guide/sessions.md"), "Settings")):
            documented |= dict.fromkeys(re.findall(r"`(\w+)`", row[0]), row[1])
        settings = {name: value.default for name, value in vars(Session).items() if isinstance(value, Setting)}
        self.assertEqual(set(settings), set(documented))
        # The one setting whose default is not the same for every session.
        self.assertEqual("by transport", documented.pop("name"))
        for name, default in documented.items():
            self.assertEqual(settings[name], literal_eval(default), name)

    def test_name(self) -> None:
        """The names of sessions by their transport are told."""

        def newSession(session: Session) -> None:
            names.append(session.name)
            raise ValueError("seen")

        names: list[str] = []
        connectedPeer(newSession)
        self.assertIn(f"`{names[0]}`", section(read("guide/sessions.md"), "Settings"))


class RefusalsTests(SynchronousTestCase):
    """The guide's table of the reasons for which connections are refused."""

    def test_table(self) -> None:
        """It has every reason and no other."""
        rows = rowsIn(section(read("guide/services.md"), "Server"))
        documented = [name for row in rows for name in re.findall(r"`(\w+)`", row[0])]
        self.assertEqual(list(REASONS), documented)


class OptionsTests(SynchronousTestCase):
    """The tables of the options of the commands."""

    COMMANDS = (echo.Options, serve.Options, calls.Options, dial.Options)

    def table(self) -> dict[str, set[str]]:
        """The documented options, and the defaults that stand beside them."""
        found: dict[str, set[str]] = {}
        text = section(read("commands.md"), "Options") + section(read("commands-registry.md"), "Options")
        for row in rowsIn(text):
            for name in re.findall(r"`--([\w-]+)`", row[0]):
                found.setdefault(name, set()).add(row[1].strip("`"))
        return found

    def test_all(self) -> None:
        """Every option of every command is in a table, and no other."""
        options = {name.rstrip("=") for command in self.COMMANDS for name in command().longOpt}
        self.assertEqual(options, set(self.table()))

    def test_short(self) -> None:
        """So is every option of one letter."""
        text = section(read("commands.md"), "Options")
        for command in self.COMMANDS:
            for letter in command().shortOpt.replace(":", ""):
                self.assertIn(f"`-{letter}`", text)

    def test_defaults(self) -> None:
        """The defaults are those of the commands."""
        table = self.table()
        expected = {
            "listen": {DEFAULT_LISTEN},
            **{name: {f"{value:g}"} for name, value in dial.PING_DEFAULTS.items() if value},
        }
        for command in self.COMMANDS:
            for base in command.__mro__:
                for name, _, default, *_ in vars(base).get("optParameters", ()):
                    if default is not None:
                        expected.setdefault(name, set()).add(str(default))
        for name, defaults in expected.items():
            self.assertEqual(defaults, table[name], name)

    def test_plugins(self) -> None:
        """What else the package adds to any twistd is there: a reactor, and prefixes of descriptions."""
        text = read("commands.md")
        reactors = [each for each in getPlugins(IReactorInstaller) if each.moduleName.startswith("getty_tx.")]
        self.assertTrue(reactors)
        for plugin in reactors:
            self.assertIn(f"`twistd --reactor={plugin.shortName} ", text)
        prefixes = {plugin.prefix for plugin in getPlugins(IStreamServerEndpointStringParser)}
        own = {prefix for prefix in prefixes if prefix.startswith("getty-")}
        self.assertTrue(own)
        for prefix in own:
            self.assertIn(f"`{prefix}:`", text)

    def test_commands(self) -> None:
        """The commands themselves are there."""
        for command in self.COMMANDS:
            self.assertIn(f"twistd -n {command.command}", read("commands.md"))

    def test_examples(self) -> None:
        """The options in the examples are options of the command that they stand behind, or of twistd."""
        for page in PAGES:
            text = page.read_text()
            for command, rest in re.findall(r"twistd [^\n]*?(getty-(?:echo|serve|rpc|dial))((?:\\\n|[^\n])*)", text):
                known = next(each for each in self.COMMANDS if each.command == command)
                options = {option.rstrip("=") for option in known().longOpt}
                self.assertEqual(set(), set(re.findall(r"--([\w-]+)", rest)) - options, rest)


class MetricsTests(SynchronousTestCase):
    """The guide's table of metrics."""

    def test_table(self) -> None:
        """It has every metric and no other, with its labels; and the reasons for which sessions end."""
        calls = {("server", ""): CallTotals(), (SIDE, ""): RequestTotals()}
        server = ServiceSnapshot("", True, False, {"": EndpointSnapshot()}, workers=1, calls=calls)
        histogram = Histogram()
        snapshot = Snapshot("", [server], histogram, histogram, histogram, {"": histogram})
        snapshot.main = snapshot
        snapshot.registries = [RegistrySnapshot("")]
        server.providers = ProvidersSnapshot()
        server.health = {"": {}}
        snapshot.groups.namespaces[""] = NamespaceSnapshot(GroupStats())
        snapshot.groups.hubDropped = 0
        found = {
            family.name + ("_total" if family.type == "counter" else ""): set(family._labelnames)
            for family in families(snapshot)
        }
        text = section(read("guide/status.md"), "Metrics")
        documented = {
            name: set(re.findall(r"\w+", row[1]))
            for row in rowsIn(text)
            for name in re.findall(r"`(getty_\w+)`", row[0])
        }
        self.assertEqual(found, documented)
        for reason in CLOSE_REASONS:
            self.assertIn(f"`{reason}`", text)
