"""Shared by the codecs: limits for joining and for views, and checks of payloads and settings."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from getty_tx.errors import CodecError, SettingError

if TYPE_CHECKING:
    from collections.abc import Iterable


__all__ = ["BATCH", "SEPARATE_ABOVE", "asBytes", "asPayload", "checkChoice", "checkViews"]

#: Bytes. A longer payload is not joined with its header: ``write`` returns both in a list, without a copy. Sending a
#: list has a cost, too: with 50 connections the copy costs less up to 32 KB, as much at 64 KB, and 5 % more at 128 KB
#: (benchmarks.without).
SEPARATE_ABOVE = 32 * 1024

#: One iteration for each package that ``readMany`` takes in one call, at most.
BATCH = range(64)


def asBytes(codec: str, session: Any, pkg: Any) -> bytes:
    """
    The payload as ``bytes``. A bytearray or memoryview is copied, because it may change after ``write`` returned.

    :param codec: the codec's name, for the error.
    :raise CodecError: it is neither bytes, bytearray nor memoryview.
    """
    if isinstance(pkg, (bytes, bytearray, memoryview)):
        return bytes(pkg)
    raise CodecError(
        f"codec {codec!r}: a package to write is bytes, bytearray or memoryview, not {type(pkg).__name__}", session
    )


def asPayload(codec: str, session: Any, pkg: Any) -> bytes | memoryview:
    """
    As :py:func:`asBytes`, but a view of ``bytes`` is not copied, because nobody can change it.

    :raise CodecError: it is neither bytes, bytearray nor memoryview.
    """
    if type(pkg) is memoryview and type(pkg.obj) is bytes and pkg.c_contiguous and pkg.itemsize == pkg.ndim == 1:
        return pkg
    return asBytes(codec, session, pkg)


def checkViews(codec: str, views: object) -> int:
    """
    Check the setting ``views``: None, or the least size of a package that is a view.

    :return: the largest size of a package that is copied.
    :raise SettingError: it is neither None nor a number of bytes from 1 on.
    """
    if views is None:
        return sys.maxsize
    if type(views) is not int or views < 1:
        raise SettingError(f"codec {codec!r}: views={views!r} is no number of bytes from 1 on; leave it out for copies")
    return views - 1


def checkChoice(codec: str, option: str, value: object, allowed: Iterable[object]) -> None:
    """
    Check a setting with few valid values.

    :raise SettingError: ``value`` is none of ``allowed``; ``True`` and ``4.0`` are not accepted for 1 and 4.
    """
    choices = list(allowed)
    if not any(type(value) is type(one) and value == one for one in choices):
        # Without the type, the text for "4" would be "size=4 is not one of 1, 2, 4, 8".
        shown = f"{value!r} ({type(value).__name__})" if str(value) in map(str, choices) else value
        raise SettingError(f"codec {codec!r}: {option}={shown} is not one of {', '.join(map(str, choices))}")
