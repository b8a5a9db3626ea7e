"""An etcd in memory, for engines: requests are answered at once, or when the test says so, as it says."""

from __future__ import annotations

import json
from base64 import b64decode
from io import BytesIO
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed

from getty_tx.registry.etcd import EtcdEngine
from tests.support.etcd import text64

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Asked", "FakeEtcd", "RecordingSink", "RecordingUser", "engineWith", "put"]


class Asked:
    """
    A request.

    :ivar at: the host and port.
    :ivar path: below ``/v3/``.
    """

    def __init__(self, url: bytes, headers: Any, body: Any) -> None:
        host, _, self.path = url.decode().partition("//")[2].partition("/v3/")
        self.at = host
        written = BytesIO()
        body.startProducing(written)
        self.body: dict[str, Any] = json.loads(written.getvalue())
        assert body.length == len(written.getvalue())
        self.token = (headers.getRawHeaders(b"Authorization") or [None])[0]
        self.response: Deferred[Any] = Deferred(lambda _: self.cancelled())
        self.wasCancelled = False
        self.protocol: Any = None
        self.closed = self.isPaused = False
        self.code = 200
        self._rest = b""
        self._over = False

    def cancelled(self) -> None:
        """Nobody waits for it any more."""
        self.wasCancelled = True

    # The response

    def answer(self, data: bytes, status: int = 200, over: bool = True) -> None:
        """Answer it."""
        self.code = status
        self._rest, self._over = data, over
        self.response.callback(self)

    def deliverBody(self, protocol: Any) -> None:
        """As a response of twisted.web."""
        self.protocol = protocol
        protocol.makeConnection(self)
        if self._rest:
            protocol.dataReceived(self._rest)
        if self._over:
            protocol.connectionLost(Failure(ResponseDone()))

    def loseConnection(self) -> None:
        """As the transport of a body."""
        self.closed = True

    def pauseProducing(self) -> None:
        """As the transport of a body."""
        self.isPaused = True

    def resumeProducing(self) -> None:
        """As the transport of a body."""
        self.isPaused = False

    # The response of a watch

    def send(self, data: bytes, size: int = 0) -> None:
        """Send bytes, in segments of a size."""
        size = size or len(data)
        for start in range(0, len(data), size):
            self.protocol.dataReceived(data[start : start + size])

    def cut(self) -> None:
        """The connection breaks."""
        self.protocol.connectionLost(Failure(ResponseFailed([Failure(ConnectionResetError("reset"))])))


class FakeEtcd:
    """
    What all engines of a test connect to.

    :ivar asked: all requests.
    :ivar held: paths whose requests are not answered.
    :ivar away: hosts that cannot be connected to.
    :ivar special: functions by path: they answer a request, or return False.
    :ivar records: by key.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = Clock() if clock is None else clock
        self.asked: list[Asked] = []
        self.held: set[str] = set()
        self.away: set[str] = set()
        self.special: dict[str, Callable[[Asked], Any]] = {}
        self.records: dict[str, bytes] = {}
        self.dropped: list[str] = []
        self.closed = 0
        self.cluster, self.term, self.revision = "77", 2, 4
        self.leases: dict[str, int] = {}
        self.granted = 0

    # Connections, as the engine makes them

    def connections(self, reactor: Any, endpoints: Any, timeout: float) -> FakeEtcd:
        """What makes connections, as an engine wants it."""
        return self

    def request(self, method: bytes, url: bytes, headers: Any, body: Any) -> Deferred[Any]:
        """Ask it."""
        asked = Asked(url, headers, body)
        self.asked.append(asked)
        if asked.at in self.away:
            asked.response.errback(ConnectionRefusedError("refused"))
        elif asked.path not in self.held and not (
            asked.path in self.special and self.special[asked.path](asked) is not False
        ):
            self.reply(asked)
        return asked.response

    def drop(self, endpoint: Any) -> None:
        """All connections to an endpoint are to end."""
        self.dropped.append(endpoint.address)

    def close(self) -> Deferred[None]:
        """The engine is stopped."""
        self.closed += 1
        return succeed(None)

    # Answers

    def header(self, revision: int | None = None) -> dict[str, str]:
        """The header of an answer."""
        revision = self.revision if revision is None else revision
        return {"cluster_id": self.cluster, "revision": str(revision), "raft_term": str(self.term)}

    def reply(self, asked: Asked) -> None:
        """Answer a request as etcd would."""
        handler = getattr(self, "_" + asked.path.replace("/", "_"))
        value = handler(asked.body)
        if asked.path == "watch":
            asked.answer(line(value), over=False)
        else:
            asked.answer(json.dumps({"header": self.header(), **value}).encode())

    def refuse(self, status: int, code: int, message: str) -> Callable[[Asked], None]:
        """For ``special``: a refusal."""
        data = json.dumps({"error": message, "message": message, "code": code}).encode()
        return lambda asked: asked.answer(data, status)

    def _maintenance_status(self, body: Any) -> dict[str, Any]:
        return {"leader": "5", "version": "3.4.23"}

    def _lease_grant(self, body: Any) -> dict[str, Any]:
        self.granted += 1
        id = str(7000 + self.granted)
        self.leases[id] = body["TTL"]
        return {"ID": id, "TTL": str(body["TTL"])}

    def _lease_keepalive(self, body: Any) -> dict[str, Any]:
        ttl = self.leases.get(body["ID"])
        return {"result": {"ID": body["ID"], **({} if ttl is None else {"TTL": str(ttl)})}}

    def _lease_revoke(self, body: Any) -> dict[str, Any]:
        self.leases.pop(body["ID"], None)
        return {}

    def _lease_timetolive(self, body: Any) -> dict[str, Any]:
        if body["ID"] not in self.leases:
            return {"ID": body["ID"], "TTL": "-1"}
        return {"ID": body["ID"], "TTL": "10", "keys": [text64(key) for key in self.records]}

    def _kv_put(self, body: Any) -> dict[str, Any]:
        self.revision += 1
        self.records[b64decode(body["key"]).decode()] = b64decode(body["value"])
        return {}

    def _kv_txn(self, body: Any) -> dict[str, Any]:
        return {"succeeded": True}

    def _kv_range(self, body: Any) -> dict[str, Any]:
        first, end = b64decode(body["key"]).decode(), b64decode(body["range_end"]).decode()
        keys = sorted(key for key in self.records if first <= key < end)
        page = keys[: body["limit"]]
        kvs = [{"key": text64(key), "value": text64(self.records[key].decode())} for key in page]
        return {"kvs": kvs, **({"more": True} if len(keys) > len(page) else {}), "count": str(len(keys))}

    def _watch(self, body: Any) -> dict[str, Any]:
        return {"created": True, "header": self.header()}

    def _auth_authenticate(self, body: Any) -> dict[str, Any]:
        return {"token": f"token{len(self.of('auth/authenticate'))}"}

    # What tests look at

    def of(self, path: str) -> list[Asked]:
        """The requests for a path."""
        return [each for each in self.asked if each.path == path]

    @property
    def watch(self) -> Asked:
        """The last watch."""
        return self.of("watch")[-1]

    def event(self, *events: dict[str, Any]) -> bytes:
        """A response with events."""
        return line({"header": self.header(int(events[-1]["kv"]["mod_revision"])), "events": list(events)})


def line(result: dict[str, Any]) -> bytes:
    """A line of a watch."""
    return json.dumps({"result": result}).encode() + b"\n"


def put(key: str, value: str, revision: int) -> dict[str, Any]:
    """An event. Without a value it is a deletion."""
    kv = {"key": text64(key), "mod_revision": str(revision)}
    if value:
        return {"kv": {**kv, "value": text64(value)}}
    return {"type": "DELETE", "kv": kv}


class RecordingUser:
    """Keeps what an engine tells of itself."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def engineConnected(self) -> None:
        """It answers."""
        self.told.append("connected")

    def engineDisconnected(self, error: BaseException) -> None:
        """It does not."""
        self.told.append(f"disconnected: {error}")

    def recordsLost(self) -> None:
        """Write them again."""
        self.told.append("lost")


class RecordingSink:
    """Keeps what an engine tells of records. ``told`` has only the kinds of calls."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.records: dict[str, Any] = {}
        self.changes: list[tuple[dict[str, Any], list[str]]] = []
        self.errors: list[str] = []
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def recordsAre(self, records: Any) -> None:
        """All of them."""
        self.records = dict(records)
        self._told("are")

    def recordsChanged(self, written: Any, gone: Any) -> None:
        """Some of them."""
        assert not set(written) & set(gone)
        self.changes.append((dict(written), list(gone)))
        self.records.update(written)
        for key in gone:
            self.records.pop(key, None)
        self._told("changed")

    def interrupted(self, error: BaseException) -> None:
        """Changes may be missed."""
        self.errors.append(str(error))
        self._told("interrupted")

    def resumed(self) -> None:
        """None was."""
        self._told("resumed")

    def when(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Fires when it is true, looked at after each call."""
        if condition():
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append((condition, waiting))
        return waiting

    def _told(self, kind: str) -> None:
        self.told.append(kind)
        for each in list(self._waiting):
            if each[0]():
                self._waiting.remove(each)
                each[1].callback(None)


def engineWith(
    etcd: FakeEtcd, endpoints: Sequence[tuple[str, int]] = (("a", 2379),), seed: int = 1, **settings: Any
) -> tuple[EtcdEngine, RecordingUser]:
    """An engine that is started, and its user."""
    engine = EtcdEngine(endpoints, connections=etcd.connections, random=Random(seed), **settings)
    user = RecordingUser()
    engine.start(etcd.clock, user)
    return engine, user
