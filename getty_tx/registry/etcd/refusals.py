"""What etcd's refusals mean, and what to do about them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError

from getty_tx.registry.errors import RegistryError

if TYPE_CHECKING:
    from getty_tx.registry.etcd.connections import Endpoint

__all__ = [
    "COMPACTED",
    "NOT_FOUND",
    "NO_AUTHENTICATION",
    "RefusedError",
    "UnreachableError",
    "judge",
    "permissionText",
    "reasonOf",
    "unanswered",
    "wasCancelled",
]

# Codes of gRPC (google/rpc/code.proto) in etcd's answers.
INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, NO_AUTHENTICATION, COMPACTED, UNAUTHENTICATED = 3, 5, 7, 9, 11, 16


class UnreachableError(RegistryError):
    """An endpoint does not answer, or cannot do what it is there for: another one may."""


class RefusedError(RegistryError):
    """
    etcd answers, and says no.

    :ivar code: gRPC's; 0: there was none.
    :ivar wantsToken: a new token may help.
    :ivar isGeneral: it would refuse anything else as well.
    """

    def __init__(self, text: str, code: int = 0, *, wantsToken: bool = False, isGeneral: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.wantsToken = wantsToken
        self.isGeneral = isGeneral


def judge(endpoint: Endpoint, path: str, status: int, data: bytes, user: str | None, prefix: str) -> dict[str, Any]:
    """
    What an endpoint has answered.

    :raise RefusedError: it says no.
    :raise UnreachableError: something is wrong with it.
    """
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        answer = None
    if type(answer) is not dict:
        raise _noAnswer(endpoint, path, status, data)
    error = answer.get("error")
    if status == 200 and error is None:
        return answer
    code = answer.get("code")
    message = answer.get("message") or error
    if isinstance(error, dict):  # of a call that is a stream
        code = error.get("grpc_code", error.get("code"))
        message = error.get("message")
    code = code if type(code) is int else 0
    message = str(message)[:300]
    if status >= 500 or code == 14:
        raise UnreachableError(f"etcd at {endpoint.address} cannot answer /v3/{path}: {message}")
    raise refusal(endpoint, path, code, message, user, prefix)


def refusal(endpoint: Endpoint, path: str, code: int, message: str, user: str | None, prefix: str) -> RefusedError:
    """The error of a refusal."""
    where = f"etcd at {endpoint.address}"
    if path == "auth/authenticate" and code == INVALID_ARGUMENT:
        text = f"{where} does not know user={user!r} with this password: see to it, and to passwordFile="
        return RefusedError(text, code, isGeneral=True)
    # Without a token, or with one of before a change of users or roles, the code is that of a wrong argument.
    stale = code == INVALID_ARGUMENT and ("user name is empty" in message or "revision of auth store" in message)
    if code == UNAUTHENTICATED or stale:
        if user is None:
            text = f"{where} wants to know who asks: set user= and passwordFile="
        else:
            text = f"{where} does not accept the token that it gave user={user!r}: {message}"
        return RefusedError(text, code, wantsToken=True, isGeneral=True)
    if code == PERMISSION_DENIED:
        return RefusedError(permissionText(where, path, user, prefix), code)
    return RefusedError(f"{where} refused /v3/{path}: {message} (code {code})", code)


def permissionText(where: str, path: str, user: str | None, prefix: str) -> str:
    """What to do where etcd denies something."""
    what = "read" if path in ("kv/range", "watch") else "readwrite"
    grant = f"etcdctl role grant-permission ROLE {what} {prefix}/ --prefix=true"
    return f"{where} does not let user={user!r} do /v3/{path} below prefix={prefix!r}: give it a role, by '{grant}'"


def _noAnswer(endpoint: Endpoint, path: str, status: int, data: bytes) -> RegistryError:
    """The error of a response that is not the gateway's."""
    where = f"etcd at {endpoint.address}"
    if status == 404:
        text = (
            f"{where} has no /v3/{path}: its JSON gateway is switched off (start it with --enable-grpc-gateway), "
            "or it is older than 3.4"
        )
        return RefusedError(text, isGeneral=True)
    if status == 400 and b"HTTPS server" in data:
        text = f"{where} wants TLS: set tls=yes, or trustRoots= to the certificates of its authority"
        return RefusedError(text, isGeneral=True)
    return UnreachableError(f"{where} answered /v3/{path} with status {status}: {data[:200]!r}")


def wasCancelled(error: BaseException) -> bool:
    """Whether a request has failed because it was cancelled."""
    return isinstance(error, CancelledError) or any(wasCancelled(each.value) for each in getattr(error, "reasons", ()))


def unanswered(endpoint: Endpoint, error: BaseException, isFirst: bool) -> str:
    """
    Why a request has no answer.

    :param isFirst: no request has ever had one: the settings may be wrong.
    """
    reason = reasonOf(error)
    hint = ""
    if not isFirst:
        pass
    elif endpoint.policy is None and "closed cleanly" in reason:
        hint = " (if it wants TLS, set tls=yes, or trustRoots= to the certificates of its authority)"
    elif endpoint.policy is not None and "closed before the TLS handshake" in reason:
        hint = " (if it does not speak TLS, set tls=no, and no trustRoots=, certificate= or privateKey=)"
    return f"etcd at {endpoint.address} cannot be asked: {reason}{hint}"


def reasonOf(error: BaseException) -> str:
    """What has gone wrong with a request: twisted.web wraps it."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        return reasonOf(reasons[0].value)
    return f"{error}" or type(error).__name__
