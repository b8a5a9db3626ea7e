"""
The wire of Dubbo 2, with Hessian 2 (Apache Dubbo in Java, dubbo-go and others).

A package, all big-endian::

    magic:u16 0xdabb  flags:u8  status:u8  id:i64  length:i32  body

``length`` is that of the body. The flags are 0x80 for a request, 0x40 for one that wants a reply, 0x20 for an event,
and the number of the serialization, which is 2. The status is that of a reply. A reply has the id of its request.

An event that wants a reply is a heartbeat. One that does not, with the text ``R``, says that its sender is going away.
Providers answer heartbeats, and so do consumers in Java and Go, but not those in JavaScript. So an end that was dialled
sends them only to a peer that is known to answer. To learn that, it sends one along with its answer to the peer's own.

:py:mod:`getty_tx.rpc.wires.dubbobodies` has the bodies of requests and replies.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from getty_tx import settings
from getty_tx.errors import CodecError, SettingError
from getty_tx.interfaces import IReadWriter
from getty_tx.rpc.errors import PayloadError, RpcError
from getty_tx.rpc.hessian import Limits, encode
from getty_tx.rpc.interfaces import IWire, IWireCodec
from getty_tx.rpc.messages import ErrorReply, Feature, GoingAway, Ping, Pong, Reply, Request
from getty_tx.rpc.services import method
from getty_tx.rpc.wires.dubbobodies import (
    ATTACHED,
    BY_NAME,
    IDS,
    KEPT,
    KEPT_BYTES,
    NO_VERSION,
    OWN,
    PROTOCOL,
    SERIALIZATION,
    TWO_WAY,
    Bodies,
)
from getty_tx.rpc.wires.dubboerrors import CODE, HESSIAN, OK, cut, exceptionOf, statusOf
from getty_tx.rpc.wires.dubbopayload import ECHO, GENERIC, DubboPayload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from getty_tx.rpc.interfaces import IPayload
    from getty_tx.rpc.peer import Peer

__all__ = ["Dubbo", "DubboCodec"]

_HEAD = Struct(">HBBQi")
_unpack = _HEAD.unpack_from
_pack = _HEAD.pack

MAGIC = 0xDABB

#: Bytes of the head.
HEAD = 16

#: Bytes of a body: what Java takes by default (its ``payload``).
LARGEST = 8 * 1024 * 1024

_REQUEST, _EVENT = 0x80, 0x20

#: The flags of requests with and without a reply, of replies, and of heartbeats and of the notice of going away.
_ASKING = _REQUEST | TWO_WAY | HESSIAN
_TELLING = _REQUEST | HESSIAN
_REPLYING = HESSIAN
_HEARTBEAT = _ASKING | _EVENT
_NOTICE = _TELLING | _EVENT

_NULL = b"N"
#: The body of the notice.
_LEAVING = b"\x01R"
#: Bytes of the text of an event, at most, as Java has it; R and W are all the texts that there are. A provider in Java
#: writes them in the serialization that it likes best, such as fastjson2: a length, and then the text.
_MOST_EVENT = 15

#: Names of metadata that say which provider of a service is meant.
_CHOOSING = frozenset(["group", "version"])

#: Above the numbers of calls: those of events.
_EVENTS = 1 << 32

#: Heartbeats of a peer that are remembered until they are answered.
_MOST_ASKED = 64

#: Characters of an error, at most, and if the session takes short packages only.
_MOST_TEXT, _LEAST_TEXT = 10_000, 100

#: The first byte of a reply with a value, with null and with an exception; 3 more with attachments.
_THROWN, _VALUE, _NOTHING = 0x90, 0x91, 0x92
_WITH_ATTACHMENTS = 3
_VALUE_HEAD, _VALUE_ATTACHED_HEAD = b"\x91", b"\x94"

#: Bytes of the attachments of a message, at most. A short text is an object of about 100 bytes, so their number has a
#: limit, too: one name for each 64 bytes, but 64 in any case.
MAX_METADATA = 16 * 1024
_BYTES_OF_NAME = 64
_MIN_NAMES = 64

#: The attachments of a reply without metadata.
_REPLY_TAIL = encode({"dubbo": PROTOCOL})


def _texts(name: str, value: Mapping[str, str] | None) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(type(each) is str for pair in value.items() for each in pair):
        raise SettingError(f"{name}={value!r:.80} is no mapping of services to texts")
    return dict(value)


class _Common:
    """What every service of Dubbo has, beside its own methods (``org.apache.dubbo.rpc.service.EchoService``)."""

    @method(name=ECHO, idempotent=True)
    def echo(self, value: Any) -> Any:
        """The argument: for consumers that look whether the service is there."""
        return value


def _readAll() -> None:
    """The ``refusal`` of a codec without a peer: nothing is refused."""


@implementer(IWire)
class Dubbo:
    """
    Calls as Dubbo 2 has them, with Hessian 2. The name of a service is that of the interface, ``com.ex.Echo``.

    :param versions: of services. A server refuses calls for another one; a client calls this one, in place of that
        which the registry has, unless the metadata of the call names one as ``version``.
    :param groups: of services, likewise; in metadata it is ``group``.
    :param signatures: the types of methods by ``Service/method``: the descriptors of the arguments, such as
        ``"Ljava/lang/String;J"``, or ``"(I)J"`` with that of the result.
    :param application: the name with which a server is in a registry.
    :param maxMetadata: bytes of attachments of one message, at most; there may be a name for 64 of them.
    :param limits: :py:class:`~getty_tx.rpc.hessian.Limits` of what is read.
    :raise SettingError: a parameter has another value.
    """

    features = frozenset([Feature.DEADLINE, Feature.GOAWAY, Feature.METADATA, Feature.PING])

    def __init__(
        self,
        versions: Mapping[str, str] | None = None,
        groups: Mapping[str, str] | None = None,
        signatures: Mapping[str, str] | None = None,
        application: str = "getty_tx",
        maxMetadata: int = MAX_METADATA,
        limits: Limits | None = None,
    ) -> None:
        self.versions = _texts("versions", versions)
        self.groups = _texts("groups", groups)
        if not isinstance(application, str) or not application:
            raise SettingError(f"application={application!r} is no name")
        self.application = application
        self.maxMetadata = settings.size("maxMetadata", maxMetadata)
        self.maxNames = max(_MIN_NAMES, maxMetadata // _BYTES_OF_NAME)
        self.limits = Limits() if limits is None else limits
        self.payload: IPayload = DubboPayload(signatures)
        self.common = _Common()
        self.bodies = Bodies(self.versions, self.groups, self.limits, self.maxMetadata, self.maxNames)
        # What stands before and behind the arguments, packed, by name and time.
        self.blocks: dict[tuple[str, float | None], tuple[bytes, bytes]] = {}

    def __repr__(self) -> str:
        return "Dubbo()"

    def codec(self) -> DubboCodec:
        """See :py:class:`~getty_tx.rpc.interfaces.IWire`."""
        return DubboCodec(self)

    def opened(self, peer: Peer) -> None:
        """
        See :py:class:`~getty_tx.rpc.interfaces.IWire`. An end that has dialled sends heartbeats, even before its first
        call: a provider in Java sends none, and closes a session over which nothing came for three of its intervals.
        """
        if peer.session.connection.kind.endswith("CLIENT"):
            peer.codec.understood = self.features

    def registering(self, options: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
        """See :py:class:`~getty_tx.rpc.interfaces.IWire`: what a provider's URL says, beside what is asked for."""
        service = options["service"]
        pairs = [(each, own) for each, _, own in (name.partition("/") for name in names)]
        methods = sorted(own for each, own in pairs if each == service and own != ECHO)
        version, group = self.versions.get(service, ""), self.groups.get(service, "")
        meta = {
            "application": self.application,
            "dubbo": PROTOCOL,
            "methods": ",".join(methods) or "*",
            # Java writes one, and consumers in Python fail where there is none.
            "revision": version or NO_VERSION,
            "serialization": "hessian2",
            **(options.get("meta") or {}),
        }
        return {"version": version, "group": group, **options, "meta": meta}


@implementer(IReadWriter, IWireCodec)
class DubboCodec:
    """
    The codec of one session.

    :param wire: what the sessions share.
    :ivar understood: all that the wire has; PING if this end has dialled, or if the peer has answered a heartbeat.
    :ivar refusal: see :py:class:`~getty_tx.rpc.interfaces.IWireCodec`.
    """

    __slots__ = ("_asked", "_blocks", "_bodies", "_event", "_provider", "refusal", "understood", "wire")

    def __init__(self, wire: Dubbo) -> None:
        self.wire = wire
        self.understood: frozenset[Feature] = wire.features - {Feature.PING}
        self.refusal: Callable[[], RpcError | None] = _readAll
        self._bodies = wire.bodies
        # Those of the wire, or of this session if its provider is from a registry, and then that provider.
        self._blocks: dict[tuple[str, float | None], tuple[bytes, bytes]] | None = None
        self._provider: Any = None
        # Heartbeats that were not answered yet: the id, the serialization and the body.
        self._asked: list[tuple[int, int, bytes]] = []
        self._event = _EVENTS

    def __repr__(self) -> str:
        return repr(self.wire)

    # Reading

    def readMany(self, session: Any, data: bytes, at: int, limit: int) -> list[tuple[Any, int]]:
        """The messages that are complete; see :py:class:`getty_tx.interfaces.IBatchReader`."""
        found: list[tuple[Any, int]] = []
        have = len(data)
        last = have - HEAD
        while at <= last and len(found) < 64:
            magic, flags, status, number, size = _unpack(data, at)
            body = at + HEAD
            stop = body + size
            if magic != MAGIC or not 0 <= size <= LARGEST or stop > have or HEAD + size > limit:
                break
            found.append((self._message(flags, status, number, data[body:stop]), stop))
            at = stop
        return found

    def read(self, session: Any, data: memoryview) -> tuple[Any, int]:
        """
        The message at the front of ``data``.

        :raise CodecError: the bytes are no package of Dubbo's, or its body is longer than 8 MiB.
        """
        have = len(data)
        begin = data[:2].tobytes()
        if begin != b"\xda\xbb"[: len(begin)]:
            raise CodecError(f"rpc: no package of Dubbo's: it begins with {begin.hex()}, not with dabb", session)
        if have < HEAD:
            return None, 0
        _, flags, status, number, size = _unpack(data)
        if not 0 <= size <= LARGEST:
            raise CodecError(f"rpc: a package with a body of {size} bytes; {LARGEST} can be", session)
        stop = HEAD + size
        if have < stop:
            return None, stop
        return self._message(flags, status, number, data[HEAD:stop].tobytes()), stop

    def _message(self, flags: int, status: int, number: int, body: bytes) -> Any:
        if flags & _EVENT:
            return self._readEvent(flags, number, body)
        if flags & _REQUEST:
            return self._bodies.request(number, flags, body, self.refusal)
        return self._bodies.reply(number, flags, status, body)

    def _readEvent(self, flags: int, number: int, body: bytes) -> Any:
        if flags & _REQUEST:
            # Behind it may be the quote of JSON, and the null that dubbo-go adds to all.
            if len(body) <= _MOST_EVENT and body.rstrip(b'"N').endswith(b"R"):
                return GoingAway()
            if flags & TWO_WAY:
                asked = self._asked
                if len(asked) >= _MOST_ASKED:
                    del asked[0]
                serialization = flags & SERIALIZATION
                # What null is in another one, only the peer knows.
                asked.append((number, serialization, _NULL if serialization == HESSIAN else body[:50]))
                return Ping()
        else:
            self.understood = self.wire.features
        # An answer; or an event of a later version: a sign of life.
        return Pong()

    # Writing

    def write(self, session: Any, message: Any) -> bytes:
        """
        The package of a message.

        :raise PayloadError: its metadata is too long, or no text, or has a name that the wire needs; or the package is
            longer than the session's ``maxMsgLen``, or its body than 8 MiB.
        """
        kind = type(message)
        flags, status = _REPLYING, OK
        if kind is Request:
            number, status = message.id, 0
            flags = _TELLING if message.isOneWay else _ASKING
            blocks = self._blocks
            if blocks is None:
                blocks = self._learn(session)
            ends = blocks.get((message.name, message.timeout)) if message.metadata is None else None
            if ends is None:
                ends = self._pack(blocks, message)
            body = ends[0] + message.payload + ends[1]
        elif kind is Reply:
            number = message.id & IDS
            if message.id < ATTACHED:
                body = b"\x92" if message.payload == _NULL else _VALUE_HEAD + message.payload
            else:
                metadata = message.metadata
                tail = _REPLY_TAIL if metadata is None else self._packAttachments({"dubbo": PROTOCOL}, metadata)
                body = (b"\x95" if message.payload == _NULL else _VALUE_ATTACHED_HEAD + message.payload) + tail
        elif kind is ErrorReply:
            number, status, body = self._packError(session, message)
        else:
            return self._packEvent(kind)
        size = len(body)
        if HEAD + size > session.maxMsgLen or size > LARGEST:
            limit = f"maxMsgLen={session.maxMsgLen}" if HEAD + size > session.maxMsgLen else f"the {LARGEST} of Dubbo"
            raise PayloadError(f"rpc: a package of {HEAD + size} bytes is above {limit}", sent=False)
        frame: bytes = _pack(MAGIC, flags, status, number, size) + body
        return frame

    def _learn(self, session: Any) -> dict[tuple[str, float | None], tuple[bytes, bytes]]:
        """Whether the provider is from a registry, which has path, version and group of it."""
        self._provider = getattr(session, "provider", None)
        self._blocks = self.wire.blocks if self._provider is None else {}
        return self._blocks

    def _pack(
        self, blocks: dict[tuple[str, float | None], tuple[bytes, bytes]], message: Request
    ) -> tuple[bytes, bytes]:
        """What stands before and behind the arguments of a request."""
        service, _, method = message.name.partition("/")
        provider = self._provider
        path, version, group = service, "", ""
        if provider is not None and provider.service == service:
            # A URL without a path, as sofa-rpc-node writes, has that of the interface.
            path, version, group = str(provider.meta.get("path") or service), provider.version, provider.group
        version = self.wire.versions.get(service, version)
        group = self.wire.groups.get(service, group)
        metadata = message.metadata
        if metadata and not _CHOOSING.isdisjoint(metadata):
            version, group = str(metadata.get("version", version)), str(metadata.get("group", group))
            metadata = {name: value for name, value in metadata.items() if name not in _CHOOSING}
        attachments = {"path": path}
        for name, value in (("version", version), ("group", group)):
            if value:
                attachments[name] = value
        if path != service:
            attachments["interface"] = service
        if method in GENERIC:
            attachments["generic"] = "true"
        if message.timeout is not None:
            attachments["timeout"] = str(max(1, round(message.timeout * 1000)))
        # The path is in the attachments only: Java looks for the types of the arguments by what stands here, and knows
        # them by the interface. Which provider is meant, it takes from the attachments.
        front = encode(PROTOCOL, service, version, method)
        ends = front, self._packAttachments(attachments, metadata)
        if message.metadata is None and len(front) + len(ends[1]) <= KEPT_BYTES:
            if len(blocks) >= KEPT:
                blocks.clear()
            blocks[message.name, message.timeout] = ends
        return ends

    def _packAttachments(self, attachments: dict[str, str], metadata: Mapping[str, str] | None) -> bytes:
        """:raise PayloadError: the metadata cannot be sent."""
        if metadata:
            if not all(isinstance(each, str) for pair in metadata.items() for each in pair):
                raise PayloadError(f"rpc: metadata={metadata!r:.80}: names and values are texts", sent=False)
            taken = OWN.intersection(metadata)
            if taken:
                raise PayloadError(f"rpc: the wire itself needs the name {min(taken)!r} of the metadata", sent=False)
            attachments = {**attachments, **metadata}
        most = self.wire.maxMetadata
        if len(attachments) > self.wire.maxNames:
            text = f"{len(attachments)} names of metadata are above the {self.wire.maxNames} of maxMetadata={most}"
            raise PayloadError(f"rpc: {text}", sent=False)
        packed = encode(attachments)
        if len(packed) > most:
            raise PayloadError(f"rpc: {len(packed)} bytes of metadata are above maxMetadata={most}", sent=False)
        return packed

    def _packError(self, session: Any, message: ErrorReply) -> tuple[int, int, bytes]:
        """The id, the status and the body of a reply for a call that has failed."""
        number = message.id & IDS
        # Characters with three bytes at most, twice: in the text, and in details that cannot be cut.
        most = min(_MOST_TEXT, max(_LEAST_TEXT, (session.maxMsgLen - 1024) // 6))
        status = statusOf(message)
        isAttached, isByName = message.id >= ATTACHED, bool(message.id & BY_NAME)
        if status is not None:
            return number, status, encode(cut(message.text, most))
        kind, tail = _THROWN, b""
        if isAttached:
            attachments = {"dubbo": PROTOCOL}
            if "." not in message.code and message.code != "internal":
                attachments[CODE] = cut(message.code, 200)
            kind, tail = _THROWN + _WITH_ATTACHMENTS, self._packAttachments(attachments, message.metadata)
        thrown = exceptionOf(message, most, isByName)
        if HEAD + 1 + len(thrown) + len(tail) > min(session.maxMsgLen, LARGEST):
            thrown = exceptionOf(ErrorReply(number, message.code, message.text), most, isByName)
        return number, OK, bytes((kind,)) + thrown + tail

    def _packEvent(self, kind: type) -> bytes:
        if kind is Pong and self._asked:
            number, serialization, body = self._asked.pop(0)
            answer: bytes = _pack(MAGIC, _EVENT | serialization, OK, number, len(body)) + body
            return answer if Feature.PING in self.understood else answer + self._packEvent(Ping)
        self._event += 1
        if kind is GoingAway:
            return _pack(MAGIC, _NOTICE, 0, self._event, len(_LEAVING)) + _LEAVING
        if kind is Ping or kind is Pong:
            # A sign of life that nobody has asked for is a heartbeat, too.
            return _pack(MAGIC, _HEARTBEAT, 0, self._event, len(_NULL)) + _NULL
        raise SettingError(f"{self.wire} cannot say {kind.__name__}")
