"""What the bytes of strangers may ask for, and the error of bytes and of values that are not Hessian's."""

from __future__ import annotations

from dataclasses import dataclass, fields

from getty_tx.errors import SettingError
from getty_tx.rpc.errors import PayloadError

__all__ = ["DEEPEST", "DEFAULT", "HessianError", "Limits"]

#: The highest ``maxDepth``: deeper values could not be written, compared or shown, for which levels take the stack.
DEEPEST = 128

#: The lowest ``maxLength``: shorter strings and lists are not looked at.
SHORTEST = 32


class HessianError(PayloadError):
    """
    The bytes are not Hessian's or exceed a limit, or a value has no form in Hessian.

    :ivar at: how many bytes come before what is wrong; None if a value could not be written.
    """

    def __init__(self, text: str = "", at: int | None = None) -> None:
        super().__init__(text if at is None else f"at byte {at}: {text}")
        self.at = at


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What the values of one Decoder may have.

    No memory is taken for a length that is only announced, and each byte is read a small number of times, whatever the
    bytes are. What they become takes at most some 32 bytes of memory for each, and some 200 for each list, map and
    object.

    :raise SettingError: a limit is below 1, ``maxLength`` below 32, or ``maxDepth`` above 128.
    """

    #: Levels of lists, maps and objects within one another.
    maxDepth: int = 64
    #: The length of one string (in UTF-16 units), of one binary (in bytes), and of one list, map or object (in values).
    maxLength: int = 8 * 1024 * 1024
    #: Lists, maps and objects, all together: a byte can be one.
    maxReferences: int = 100_000
    #: Definitions of classes, and names of types.
    maxDefinitions: int = 10_000

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not isinstance(value, int) or value < 1:
                raise SettingError(f"{one.name}={value!r}: a whole number, 1 or more")
        if self.maxDepth > DEEPEST:
            raise SettingError(f"maxDepth={self.maxDepth}: at most {DEEPEST}")
        if self.maxLength < SHORTEST:
            raise SettingError(f"maxLength={self.maxLength}: at least {SHORTEST}")


DEFAULT = Limits()
