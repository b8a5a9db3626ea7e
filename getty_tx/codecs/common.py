"""What the byte codecs share: the rule for large payloads, the check of a payload's type, the check of a setting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from getty_tx.errors import CodecError, SettingError

if TYPE_CHECKING:
    from collections.abc import Iterable


__all__ = ["BATCH", "LARGE", "asBytes", "checkChoice"]

#: Bytes. A longer payload is not joined with its header: ``write`` returns both in a list and copies nothing. A list
#: costs its handling again further down: with 50 connections the copy costs less up to 32 KB, as much at 64 KB, and 5 %
#: more at 128 KB (benchmarks.without).
LARGE = 32 * 1024

#: As many packages as ``readMany`` takes in one call.
BATCH = range(64)


def asBytes(codec: str, session: Any, pkg: Any) -> bytes:
    """
    The payload as ``bytes``. What can change after ``write`` returned (bytearray, memoryview) is copied.

    :param codec: the codec's name, for the error.
    :raise CodecError: it is neither bytes, bytearray nor memoryview.
    """
    if isinstance(pkg, (bytes, bytearray, memoryview)):
        return bytes(pkg)
    raise CodecError(
        f"codec {codec!r}: a package to write is bytes, bytearray or memoryview, not {type(pkg).__name__}", session
    )


def checkChoice(codec: str, option: str, value: object, allowed: Iterable[object]) -> None:
    """
    Check a setting that has few values.

    :raise SettingError: ``value`` is none of ``allowed``; ``True`` and ``4.0`` do not pass for 1 and 4.
    """
    choices = list(allowed)
    if not any(type(value) is type(one) and value == one for one in choices):
        # "size=4 is not one of 1, 2, 4, 8" would puzzle whoever passed "4".
        shown = f"{value!r} ({type(value).__name__})" if str(value) in map(str, choices) else value
        raise SettingError(f"codec {codec!r}: {option}={shown} is not one of {', '.join(map(str, choices))}")
