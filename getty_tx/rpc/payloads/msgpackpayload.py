"""msgpack: an array of the arguments, and a value for the result. Bytes stay bytes, and str stays str."""

from __future__ import annotations

from typing import Any, NoReturn

from zope.interface import implementer

from getty_tx.errors import SettingError
from getty_tx.rpc.errors import PayloadError
from getty_tx.rpc.interfaces import IPayload

__all__ = ["MsgpackPayload"]

#: Bytes of a message below which arrays cannot claim much.
_SMALL = 512


def _refuse(code: int, data: bytes) -> NoReturn:
    raise ValueError(f"extension type {code}")


@implementer(IPayload)
class MsgpackPayload:
    """
    Whatever msgpack can carry, without extension types; the keys of maps are str or bytes.

    :raise SettingError: the library is not installed.
    """

    def __init__(self) -> None:
        try:
            import msgpack
        except ImportError:
            raise SettingError("payload='msgpack' needs msgpack: pip install 'getty_tx[msgpack]'") from None
        self._pack = msgpack.packb
        self._unpack = msgpack.unpackb
        self._reader = msgpack.Unpacker
        self._ended = msgpack.OutOfData

    def _encoded(self, name: str, value: Any, what: str) -> bytes:
        try:
            data: bytes = self._pack(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            # ValueError: nested too deeply, or half of a surrogate pair; OverflowError: an int above 64 bits.
            raise PayloadError(f"{name}: {what} is no msgpack: {error}", sent=False) from None
        return data

    def _decoded(self, name: str, data: bytes | memoryview) -> Any:
        # Nothing can have more items, or be longer, than there are bytes. The library itself ends above 1024 levels.
        size = len(data)
        try:
            if size > _SMALL and (0xDC in data or 0xDD in data):
                # Perhaps long arrays. The library makes room for all items of an array before it reads one, in each
                # of so many levels: see first, without making anything, whether they are there.
                reader = self._reader(max_buffer_size=size)
                reader.feed(data)
                reader.skip()
            return self._unpack(
                data,
                ext_hook=_refuse,
                max_str_len=size,
                max_bin_len=size,
                max_array_len=size,
                max_map_len=size,
                max_ext_len=0,
            )
        except (TypeError, ValueError, self._ended) as error:
            # The library's own errors are ValueErrors but for this one; some have no text.
            raise PayloadError(f"{name}: no msgpack: {str(error) or type(error).__name__}") from None

    def encodeArguments(self, name: str, arguments: tuple[Any, ...]) -> bytes:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        return self._encoded(name, arguments, "an argument")

    def decodeArguments(self, name: str, data: bytes | memoryview) -> list[Any]:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        arguments = self._decoded(name, data)
        if type(arguments) is not list:
            raise PayloadError(f"{name}: the arguments are no array")
        return arguments

    def encodeResult(self, name: str, value: Any) -> bytes:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        return self._encoded(name, value, "the result")

    def decodeResult(self, name: str, data: bytes | memoryview) -> Any:
        """See :py:class:`~getty_tx.rpc.interfaces.IPayload`."""
        return self._decoded(name, data)
