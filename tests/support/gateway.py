"""A gateway on a clock, and clients of raw frames in memory."""

from __future__ import annotations

import json
import struct
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from getty_tx import http
from getty_tx.gateway import Gateway, GatewaySettings, Rules
from getty_tx.groups import MemoryEngine, Namespace
from getty_tx.testing import MemoryReactor, connectedHTTP
from tests.support.websocket import frame, parse, request

try:
    import jwt
except ImportError:
    jwt = None  # type: ignore[assignment,unused-ignore]

__all__ = ["CHAT", "KEY", "SECRET", "GatewayCase", "RawClient", "SlowEngine", "signed"]

#: Longer than tokens with HS512 need it, too.
SECRET = "a secret of more than 64 bytes, for tests of tokens with HS256 and with others"
KEY = "a key for tests, long enough"

#: Of channels with all that there is.
CHAT = Rules(
    subscribe="users",
    publish="members",
    history="members",
    presence="members",
    namespace=Namespace(historySize=10, historySeconds=60, presence=True, joinLeave=True, leaveDelay=0),
)


def signed(secret: str = SECRET, algorithm: str = "HS256", headers: Any = None, **claims: Any) -> str:
    """A token."""
    if jwt is None:
        raise SkipTest("there is no PyJWT: pip install 'getty_tx[jwt]'")
    return jwt.encode(claims, secret, algorithm=algorithm, headers=headers)


class RawClient:
    """
    A client that says what the test says.

    :ivar id: what the gateway calls it.
    :ivar closed: code and reason of the Close frame; None: there was none.
    """

    def __init__(
        self, case: GatewayCase, path: str = "/connection/websocket", capacity: int | None = None, **headers: str
    ) -> None:
        self._case = case
        self._number = 0
        self._found: list[Any] = []
        self.id = ""
        self.peer = connectedHTTP(case.router, clock=case.clock, capacity=capacity)
        self.peer.send(request(path, **headers))
        head, _, rest = bytes(self.peer.data).partition(b"\r\n\r\n")
        self.peer.data[:] = rest
        self.status = int(head.split(b" ")[1])
        self.closed: tuple[int, str] | None = None

    def send(self, text: str | bytes) -> None:
        """Send a message, text or binary."""
        first, data = (1, text.encode()) if isinstance(text, str) else (2, text)
        self.peer.send(frame(first, data))

    def wake(self) -> None:
        """Answer pings of WebSocket."""
        self._found = self._take()

    def pong(self) -> list[Any]:
        """What has come; pings are answered."""
        found = self.heard()
        for each in found:
            if each == {}:
                self.send("{}")
        return [each for each in found if each]

    def say(self, **command: Any) -> int:
        """Send one command; its number."""
        self._number += 1
        self.send(json.dumps({"id": self._number, **command}))
        return self._number

    def heard(self) -> list[Any]:
        """What has come since last asked. Pings of WebSocket are answered."""
        self._case.settle()
        return self._take()

    def _take(self) -> list[Any]:
        data = bytes(self.peer.data)
        self.peer.data.clear()
        found, self._found = self._found, []
        for first, payload in parse(data):
            if first == 0x81:
                found += [json.loads(line) for line in payload.decode().split("\n")]
            elif first == 0x89:
                self.peer.send(frame(10, payload))
            elif first == 0x88:
                self.closed = struct.unpack("!H", payload[:2])[0], payload[2:].decode()
        return found

    def ask(self, **command: Any) -> Any:
        """Send one command; its reply, the only one that comes."""
        number = self.say(**command)
        heard = self.heard()
        assert len(heard) == 1, heard
        assert heard[0].pop("id") == number, heard
        return heard[0]

    def code(self, **command: Any) -> int:
        """Send one command that fails; the code of the error."""
        error: int = self.ask(**command)["error"]["code"]
        return error


class SlowEngine(MemoryEngine):
    """
    Answers questions for history when the test says so.

    :ivar isSlow: whether it does that now.
    :ivar isLate: whether the answer is what there is then, and not what there was when it was asked.
    :ivar waiting: what was asked.
    """

    def __init__(self) -> None:
        super().__init__()
        self.isSlow = self.isLate = False
        self.waiting: list[tuple[Deferred[Any], Any]] = []

    def history(self, *arguments: Any) -> Any:
        answer: Any = super().history(*arguments)
        if not self.isSlow:
            return answer
        later: Deferred[Any] = Deferred()
        self.waiting.append((later, arguments if self.isLate else answer.result))
        return later

    def answer(self) -> None:
        """Answer all that was asked."""
        waiting, self.waiting = self.waiting, []
        for later, found in waiting:
            answer: Any = super().history(*found) if isinstance(found, tuple) else found
            later.callback(getattr(answer, "result", answer))


class GatewayCase(SynchronousTestCase):
    """
    Tests of one gateway.

    :ivar gateway: started.
    :ivar router: that it is on.
    """

    def settings(self) -> dict[str, Any]:
        """For a subclass."""
        return {"anonymous": True}

    def namespaces(self) -> dict[str, Rules]:
        """For a subclass."""
        return {"chat": CHAT, "news": Rules(subscribe="anyone")}

    def engine(self) -> Any:
        """For a subclass."""
        return None

    def setUp(self) -> None:
        self.clock = MemoryReactor()
        settings = GatewaySettings(namespaces=self.namespaces(), **self.settings())
        if settings.hasTokens and jwt is None:
            raise SkipTest("there is no PyJWT: pip install 'getty_tx[jwt]'")
        self.gateway = Gateway(settings, self.engine(), reactor=self.clock)
        if settings.hasTokens:
            self.patch(self.gateway.tokensOrFail(), "_now", self.clock.seconds)
        self.router = http.Router()
        self.gateway.addTo(self.router)
        self.gateway.startService()
        self.addCleanup(self.gateway.stopService)
        self.clients: list[RawClient] = []

    def settle(self, seconds: float = 0.0) -> None:
        """Let time pass, and all bytes arrive."""
        while True:
            step = min(seconds, 0.5)
            self.clock.advance(step)
            self.clock.settle()
            for client in self.clients:
                client.peer.pair.flush()
                client.wake()
            seconds -= step
            if seconds <= 0:
                break

    def client(self, capacity: int | None = None, **headers: str) -> RawClient:
        """A client that has not said who it is."""
        client = RawClient(self, capacity=capacity, **headers)
        self.clients.append(client)
        return client

    def connected(self, **connect: Any) -> RawClient:
        """One that has."""
        client = self.client()
        reply = client.ask(connect=connect)
        client.id = reply["connect"]["client"]
        return client

    def user(self, user: str, **claims: Any) -> RawClient:
        """One that has come with a token."""
        return self.connected(token=signed(sub=user, **claims))

    def publish(self, channel: str, pkg: Any) -> None:
        """The application publishes."""
        self.gateway.groups.group(channel).publish(pkg)
