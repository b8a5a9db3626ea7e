"""
The errors of calls::

    GettyError
    +-- RpcError                    .sent, .retryable, .code
        +-- CallTimeoutError        the time for the call is over
        +-- CallCancelledError      the caller has cancelled it
        +-- CallLostError           the session ended before the reply, or there was none
        +-- CallRefusedError        the peer did not run the method: it has too many calls, or is going away
        +-- NoSuchMethodError       the peer has no such service or method
        +-- PayloadError            arguments or result cannot be encoded, or decoded
        +-- RemoteError             the method failed: code, text, details

A method that raises one of them sends it to its caller. One with which a call of the method's own has failed is no such
answer, unless it is a RemoteError: its caller would take it for the method's, and might call again. It reaches the
caller as any other exception: as a RemoteError with the code ``internal`` and the name of the exception's class. Its
text and its traceback are logged and never leave.
"""

from __future__ import annotations

from typing import Any, ClassVar

from getty_tx.errors import GettyError, SettingError

__all__ = [
    "CallCancelledError",
    "CallLostError",
    "CallRefusedError",
    "CallTimeoutError",
    "NoSuchMethodError",
    "PayloadError",
    "RemoteError",
    "RpcError",
    "errorOf",
]


class RpcError(GettyError):
    """
    A call failed.

    :param text: what happened.
    :param sent: whether the request may have reached the peer. If it is False, the method was surely not run.
    :param details: anything that the wire's payload can carry, for the caller's program.

    :ivar code: the name of the error on the wire. Of a class; a RemoteError may have its own.
    :ivar retryable: the peer has surely not run the method, and may do so at another time, or at another session.
    """

    code: str = "internal"
    #: A call has failed with it, so that it is no answer of a method which lets it pass.
    isOfCall = False
    #: A method was run, and its result cannot be sent because of it.
    isOfResult = False
    #: The classes by the codes that they have on the wire.
    byCode: ClassVar[dict[str, type[RpcError]]] = {}

    def __init__(self, text: str = "", *, sent: bool = True, details: Any = None) -> None:
        super().__init__(text)
        self.sent = sent
        self.details = details

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "code" in vars(cls):
            known = RpcError.byCode.get(cls.code)
            if known is not None and known.__module__ == __name__:
                raise SettingError(f"{cls.__qualname__}: code={cls.code!r} is that of {known.__name__}; use another")
            RpcError.byCode[cls.code] = cls

    @property
    def text(self) -> str:
        """What happened."""
        return str(self)

    @property
    def retryable(self) -> bool:
        """Whether calling again cannot run the method a second time."""
        return not self.sent


class CallTimeoutError(RpcError):
    """The time for the call is over. The method may have run, or may still run."""

    code = "deadline"


class CallCancelledError(RpcError):
    """The call was cancelled by its caller."""

    code = "cancelled"


class CallLostError(RpcError):
    """The session ended before the reply came, or no session is open."""

    code = "lost"


class CallRefusedError(RpcError):
    """The peer has not run the method, because it has too many calls or is going away."""

    code = "refused"

    @property
    def retryable(self) -> bool:
        """It was not run."""
        return True


class NoSuchMethodError(RpcError):
    """The peer has no such service, or no such method."""

    code = "noMethod"


class PayloadError(RpcError):
    """Arguments or a result could not be encoded or decoded, or do not fit the method."""

    code = "payload"

    @property
    def retryable(self) -> bool:
        """It would fail again."""
        return False


class RemoteError(RpcError):
    """
    The method failed. Subclass it with a ``code`` of your own: where both ends know the class, both raise it.

    ::

        class OutOfStock(rpc.RemoteError):
            code = "outOfStock"

    :param code: the code, where it is not that of the class.
    :raise SettingError: a subclass has the code of a class here.
    """

    code = "internal"

    def __init__(self, text: str = "", *, code: str | None = None, sent: bool = True, details: Any = None) -> None:
        super().__init__(text, sent=sent, details=details)
        if code is not None:
            self.code = code


def errorOf(code: str, text: str, details: Any = None) -> RpcError:
    """The error for what a peer has answered."""
    kind = RpcError.byCode.get(code)
    if kind is None:
        return RemoteError(text, code=code, details=details)
    try:
        return kind(text, details=details)
    except Exception:
        # A subclass that is made of something else.
        error = kind.__new__(kind, text)
        RpcError.__init__(error, text, details=details)
        return error
