"""
TLS on a socket with Go's ``crypto/tls`` at the other end, which runs as a process (``peers/peer.go``).

Skipped where there is no Go. It is built once for each run of the tests, without network, from Go's own library alone.
"""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import DeferredQueue
from twisted.internet.error import ConnectionLost
from twisted.python.filepath import FilePath
from twisted.trial.unittest import SkipTest

from getty_tx.tls import clientPolicy
from tests.support.foreign import LOCAL, Command, ForeignCase
from tests.support.tlsocket import isResumed

if TYPE_CHECKING:
    from getty_tx.session.session import Session

PEERS = Path(__file__).with_name("peers")
VERSIONS = TLS12, TLS13 = int(ssl.TLSVersion.TLSv1_2), int(ssl.TLSVersion.TLSv1_3)

#: Bytes of the messages that Go sends: ``sizes`` in peer.go.
SIZES = [1, 2, 100, 16384, 16385, 70001, 1 << 20]

#: The path of what was built, when it was.
built: list[str] = []

#: No network, and no C compiler.
ENVIRONMENT = {"GOPROXY": "off", "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"}


def echo(session: Session, package: Any) -> None:
    session.writePkg(package)


class GoCase(ForeignCase):
    async def go(self, *arguments: Any) -> Command:
        """Start the peer."""
        if not built:
            path = FilePath(self.mktemp()).path
            output = await self.command("go", "build", "-o", path, PEERS / "peer.go", **ENVIRONMENT).ended
            if not Path(path).exists():
                raise SkipTest(f"go cannot build here: {output!r}")
            built.append(path)
        return self.command(built[0], *arguments)

    async def outcomes(self, command: Command) -> list[dict[str, Any]]:
        """What the peer tells of each connection, when it has ended."""
        lines = (await command.ended).splitlines()
        return [json.loads(line) for line in lines if line.startswith(b"{")]

    def assertOutcome(self, outcome: dict[str, Any], **expected: Any) -> None:
        self.assertEqual({name: outcome[name] for name in expected}, expected, outcome)


class ServerTests(GoCase):
    """A client of Go's, and our server."""

    async def dial(self, port: int, *flags: Any) -> list[dict[str, Any]]:
        address = f"{LOCAL}:{port}"
        return await self.outcomes(
            await self.go("dial", "-address", address, "-authority", self.authority.path, *flags)
        )

    async def test_echo(self) -> None:
        """Messages of 1 byte to 1 MB in records of odd sizes; then, with all sent at once and a half-close behind."""
        for version in VERSIONS:
            for does in "echo", "halfClose":
                port = await self.serve({"message": echo}, maxMsgLen=2 << 20)
                [outcome] = await self.dial(port, "-version", version, "-does", does)
                total = {"Messages": len(SIZES), "Bytes": sum(SIZES)}
                self.assertOutcome(outcome, Version=version, Error="", Resumed=False, **total)
                self.assertEqual(([len(each) for each in self.heard.packages], self.heard.errors), (SIZES, []))

    async def test_resumed(self) -> None:
        """Go is recognized by its ticket when it comes again."""
        for version in VERSIONS:
            port = await self.serve({"message": echo}, maxMsgLen=2 << 20)
            outcomes = await self.dial(port, "-version", version, "-count", 3)
            self.assertEqual([each["Resumed"] for each in outcomes], [False, True, True])
            self.assertEqual({(each["Messages"], each["Error"]) for each in outcomes}, {(len(SIZES), "")})

    async def test_mutual(self) -> None:
        """Our server has the name of Go's certificate; without one, Go hears why it is refused."""
        certificate, key = self.authority.issue(["me"], client=True)
        names: list[str] = []

        def opened(session: Session) -> None:
            names.append(session.transport.getPeerCertificate().get_subject().CN)

        for version in VERSIONS:
            on = {"open": opened, "message": echo}
            port = await self.serve(on, trustRoot=self.authority.path, maxMsgLen=2 << 20)
            own = ("-certificate", certificate, "-key", key)
            [outcome] = await self.dial(port, "-version", version, *own)
            self.assertOutcome(outcome, Error="", Messages=len(SIZES))
            self.heard.events.clear()
            [outcome] = await self.dial(port, "-version", version)
            self.assertIn(("handshake failure", "certificate required")[version == TLS13], outcome["Error"])
            self.assertEqual(self.heard.events, [])
        self.assertEqual(names, ["me", "me"])

    async def test_abrupt(self) -> None:
        """Go goes without a close_notify: its message is there, and the connection is lost, not done."""
        for version in VERSIONS:
            closed: DeferredQueue[None] = DeferredQueue()
            port = await self.serve({"message": echo, "close": lambda session, to=closed: to.put(None)})
            await self.dial(port, "-version", version, "-does", "abrupt")
            await closed.get()
            self.assertEqual([len(each) for each in self.heard.packages], [1])
            [error] = self.heard.errors
            self.assertIsInstance(error, ConnectionLost)
            self.assertIn("lost in a non-clean fashion", str(error))

    async def test_refused(self) -> None:
        """Go refuses our certificate, which is for another host: nothing is delivered."""
        for version in VERSIONS:
            port = await self.serve({"message": echo})
            [outcome] = await self.dial(port, "-version", version, "-name", "b.example")
            self.assertIn("x509: certificate is not valid", outcome["Error"])


class TracesTests(GoCase):
    async def test_madeAgain(self) -> None:
        """The traces are what their source makes, where the same Go is."""
        command = self.command("go", "run", PEERS / "traces.go", **ENVIRONMENT)
        output = await command.ended
        try:
            made = json.loads(output)
        except ValueError:
            raise SkipTest(f"go cannot make them here: {output[:500]!r}") from None
        kept = json.loads((PEERS / "traces.json").read_text())
        if made["made by"] != kept["made by"]:
            raise SkipTest(f"made by {kept['made by']}, and here is {made['made by']}")
        self.assertTrue(made == kept)


class ClientTests(GoCase):
    """A server of Go's, and our client."""

    async def listen(self, *flags: Any) -> tuple[int, Command]:
        own = ("-certificate", self.files[0], "-key", self.files[1], "-authority", self.authority.path)
        command = await self.go("serve", *own, *flags)
        return int((await command.printed(b"\n")).split()[0]), command

    async def test_echo(self) -> None:
        """Messages of 1 byte to 1 MB, which come back in records of odd sizes."""
        for version in VERSIONS:
            port, command = await self.listen("-version", version)
            packages: DeferredQueue[bytes] = DeferredQueue()
            on = {"message": lambda session, pkg, to=packages: to.put(pkg)}
            client = self.pool(port, on, maxMsgLen=2 << 20)
            [session] = await client.whenReady()
            messages = [bytes(range(256)) * (size // 256) + b"x" * (size % 256) for size in SIZES]
            for each in messages:
                session.writePkg(each)
            for each in messages:
                self.assertTrue(await packages.get() == each)
            session.close()
            [outcome] = await self.outcomes(command)
            self.assertOutcome(outcome, Version=version, Messages=len(SIZES), Bytes=sum(SIZES), Error="")
            self.assertEqual(self.dialled.errors, [])
            await client.close()

    async def test_halfClose(self) -> None:
        """Go ends its side first: all that our session has written still arrives, and then our end."""

        def opened(session: Session) -> None:
            for _ in range(100):
                session.writePkg(b"x" * 50_000)

        for version in VERSIONS:
            port, command = await self.listen("-version", version, "-does", "halfClose")
            client = self.pool(port, {"open": opened})
            [outcome] = await self.outcomes(command)
            self.assertOutcome(outcome, Version=version, Messages=100, Bytes=5_000_000, Error="")
            self.assertEqual(self.dialled.errors, [])
            await client.close()

    async def test_resumed(self) -> None:
        """A pool is recognized by its ticket when it dials again."""
        for version in VERSIONS:
            port, command = await self.listen("-version", version, "-count", 3, "-does", "once")
            resumed: list[bool] = []

            def opened(session: Session, resumed: list[bool] = resumed) -> None:
                resumed.append(isResumed(session.transport.getHandle()))
                session.writePkg(b"hello")

            client = self.pool(port, {"open": opened})
            outcomes = await self.outcomes(command)
            await client.close()
            self.assertEqual([each["Resumed"] for each in outcomes], [False, True, True])
            self.assertEqual(resumed[:3], [False, True, True])

    async def test_mutual(self) -> None:
        """Go has the name of our certificate, and refuses a client that has none."""
        certificate, key = self.authority.issue(["me"], client=True)
        mutual = clientPolicy(LOCAL, trustRoot=self.authority.path, certificate=certificate, privateKey=key)
        for version in VERSIONS:
            port, command = await self.listen("-version", version, "-clients")
            client = self.pool(port, {"open": lambda session: session.close()}, policy=mutual)
            [outcome] = await self.outcomes(command)
            self.assertOutcome(outcome, Peer="me", Error="")
            await client.close()

            port, command = await self.listen("-version", version, "-clients")
            client = self.pool(port, {})
            [outcome] = await self.outcomes(command)
            self.assertIn("client didn't provide a certificate", outcome["Error"])
            await client.close()

    async def test_abrupt(self) -> None:
        """Go goes without a close_notify: the connection is lost, not done."""
        for version in VERSIONS:
            port, _ = await self.listen("-version", version, "-does", "abrupt")
            closed: DeferredQueue[None] = DeferredQueue()
            on = {"open": lambda session: session.writePkg(b"x"), "close": lambda session, to=closed: to.put(None)}
            client = self.pool(port, on)
            await closed.get()
            [error] = self.dialled.errors
            self.assertIsInstance(error, ConnectionLost)
            await client.close()

    async def test_refused(self) -> None:
        """
        We refuse Go's certificate, which is for another host. In TLS 1.3 OpenSSL sends its alert in clear, as its keys
        come later, and Go takes it for a broken record.
        """
        for version in VERSIONS:
            port, command = await self.listen("-version", version)
            client = self.pool(port, {}, policy=clientPolicy("b.example", trustRoot=self.authority.path))
            [outcome] = await self.outcomes(command)
            text = "bad record MAC" if version == TLS13 else "remote error: tls: internal error"
            self.assertIn(text, outcome["Error"])
            self.assertEqual(self.dialled.events, [])
            await client.close()
