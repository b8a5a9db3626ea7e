"""
Thrift without TTHeader, as Apache's clients and servers speak it; and the port of a server that takes all of them.

How the other end speaks is in its first bytes, as for Kitex's servers::

    8001 ....            a message by itself: buffered
    length:u32 8001      a message with its length: framed
    length:u32 1000      TTHeader, whose sessions are those of rpc.TTHeader(payload="thrift")
    ffaf ....            the header of a mesh, and a message behind it
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from getty_tx.errors import CodecError, SettingError
from getty_tx.interfaces import IReadWriter
from getty_tx.rpc.interfaces import IWire, IWireCodec
from getty_tx.rpc.wires.thriftframed import BufferedCodec, FramedCodec
from getty_tx.rpc.wires.thriftmesh import MESH, MeshCodec
from getty_tx.rpc.wires.ttheader import MAX_METADATA, TTHeader

if TYPE_CHECKING:
    from getty_tx.rpc.messages import Feature
    from getty_tx.rpc.payloads.thriftpayload import Services

__all__ = ["Thrift", "ThriftCodec"]

_BINARY, _TTHEADER = b"\x80\x01", b"\x10\x00"

#: What else may begin with these bytes, or have them behind a length.
_OTHERS = {b"\x82\x21": "the compact protocol", b"\x82\x81": "the compact protocol", b"\x90\x01": "Kitex's protobuf"}
_THEADER = b"\x0f\xff"

#: How a client writes.
TRANSPORTS = {"framed": FramedCodec, "buffered": BufferedCodec}


@implementer(IWire)
class Thrift:
    """
    Calls as Apache Thrift has them: messages of its binary protocol, strict, over TFramedTransport or
    TBufferedTransport.

    There is no metadata, no deadline, no cancelling, no ping and no notice of going away: time-outs end a call for its
    caller only. A server finds out how each session speaks, and serves sessions in TTHeader frames as
    ``rpc.TTHeader(payload="thrift")`` does.

    :param services: as for :py:class:`~getty_tx.rpc.TTHeader`: those of an IDL.
    :param transport: ``"framed"`` or ``"buffered"``: how a client writes.
    :param inOrder: the methods of a session run one after the other, as at Apache's servers, so that replies come in
        the order of the requests. False: at the same time, for callers that tell replies apart by their numbers.
    :param multiplexed: a client writes names as TMultiplexedProtocol does. A server takes both.
    :param maxMetadata: bytes of a name, and of the metadata in a TTHeader frame.
    :raise SettingError: a parameter has another value, or thriftpy2 is not installed.
    """

    #: Sessions of TTHeader have those of their own codec.
    features: frozenset[Feature] = frozenset()

    def __init__(
        self,
        services: Services,
        transport: str = "framed",
        inOrder: bool = True,
        multiplexed: bool = False,
        maxMetadata: int = MAX_METADATA,
    ) -> None:
        if transport not in TRANSPORTS:
            more = "; a client in TTHeader frames has rpc.TTHeader('thrift', ...)" if transport == "ttheader" else ""
            raise SettingError(f"Thrift(transport={transport!r}) is none of {', '.join(TRANSPORTS)}{more}")
        self.transport = transport
        self.inOrder = inOrder
        self.multiplexed = multiplexed
        self.ttheader = TTHeader("thrift", maxMetadata, services)
        self.maxMetadata = self.ttheader.maxMetadata
        self.payload: Any = self.ttheader.payload

    def __repr__(self) -> str:
        return f"Thrift(transport={self.transport!r})"

    def codec(self) -> ThriftCodec:
        """See :py:class:`~getty_tx.rpc.interfaces.IWire`."""
        return ThriftCodec(self)


@implementer(IReadWriter, IWireCodec)
class ThriftCodec:
    """
    The codec of one session: one of four, from its first bytes on.

    :param wire: what the sessions share.
    """

    __slots__ = ("_codec", "wire")

    def __init__(self, wire: Thrift) -> None:
        self.wire = wire
        self._codec: Any = None

    def __repr__(self) -> str:
        return repr(self.wire if self._codec is None else self._codec)

    @property
    def understood(self) -> frozenset[Feature]:
        """What the peer has said that it understands, where it speaks TTHeader."""
        codec = self._codec
        found: frozenset[Feature] = frozenset() if codec is None else codec.understood
        return found

    @property
    def inOrder(self) -> bool:
        """Whether calls in are to run one after the other."""
        return self.wire.inOrder and isinstance(self._codec, FramedCodec)

    def readMany(self, session: Any, data: bytes, at: int, limit: int) -> list[tuple[Any, int]]:
        """As the codec of the session does; see :py:class:`getty_tx.interfaces.IBatchReader`."""
        codec = self._codec
        if codec is None:
            return []
        found: list[tuple[Any, int]] = codec.readMany(session, data, at, limit)
        return found

    def read(self, session: Any, data: memoryview) -> tuple[Any, int]:
        """
        The message at the front of ``data``.

        :raise CodecError: it is none.
        """
        codec = self._codec
        if codec is None:
            codec = self._codec = self._sniffed(session, data)
            if codec is None:
                return None, 0
        found: tuple[Any, int] = codec.read(session, data)
        return found

    def write(self, session: Any, message: Any) -> bytes:
        """The bytes of a message. Where the peer has said nothing yet, they are those of the wire's ``transport``."""
        codec = self._codec
        if codec is None:
            codec = self._codec = TRANSPORTS[self.wire.transport](self.wire)
        frame: bytes = codec.write(session, message)
        return frame

    def _sniffed(self, session: Any, data: memoryview) -> Any:
        """The codec for what the peer speaks; None: it has not said enough."""
        first, fifth = bytes(data[:2]), bytes(data[4:6])
        if first == _BINARY:
            return BufferedCodec(self.wire)
        if fifth == _BINARY:
            return FramedCodec(self.wire)
        if first == MESH:
            return MeshCodec(self.wire)
        if fifth == _TTHEADER:
            return self.wire.ttheader.codec()
        other = _OTHERS.get(first) or _OTHERS.get(fifth) or ("Apache's THeader" if fifth == _THEADER else None)
        if len(data) < 6 and other is None:
            return None
        if other is not None:
            raise CodecError(f"rpc: the peer speaks {other}; {self.wire} takes the binary protocol alone", session)
        text = f"rpc: a session that begins with {bytes(data[:6]).hex()}: neither Thrift's binary protocol, strict, nor"
        raise CodecError(f"{text} TTHeader", session)
