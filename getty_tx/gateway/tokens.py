"""
Who a client is: JSON Web Tokens (RFC 7519), as those of Centrifugo, by PyJWT.

A token of a connection has ``sub``, the user, and may have ``exp``, ``info``, which others are told of the user, and
``channels``, which the session is subscribed to at once. A token of a subscription has ``sub`` and ``channel``, and may
have ``exp`` and ``info``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from getty_tx.errors import SettingError
from getty_tx.gateway.protocol import INVALID_TOKEN, CommandError, DisconnectError
from getty_tx.groups.errors import GroupError
from getty_tx.groups.namespaces import checkName

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["MAX_TOKEN", "MIN_SECRET", "Claims", "Tokens"]

#: Characters of the longest token that is looked at.
MAX_TOKEN = 8 * 1024

#: Bytes of the shortest secret: those of the hash (RFC 7518, section 3.2).
MIN_SECRET = 32

#: Seconds by which clocks of those who issue tokens may differ from ours, for ``nbf``.
_LEEWAY = 10.0

#: The error of a token that was valid once.
_TOKEN_EXPIRED = 109


@dataclass(frozen=True, slots=True)
class Claims:
    """
    What a token says.

    :ivar user: who it is; empty: nobody that is known.
    :ivar expires: in seconds since 1970; None: never.
    :ivar info: what others are told.
    :ivar channels: those of a connection.
    :ivar channel: that of a subscription.
    """

    user: str = ""
    expires: float | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    channels: Sequence[str] = ()
    channel: str = ""


class Tokens:
    """
    Reads tokens.

    :param secret: of those with HS256, 32 bytes or more; None: there are none.
    :param publicKey: in PEM, of those with RS256 (an RSA key) or ES256 (an EC key on P-256); None: there are none.
    :param audience: what ``aud`` has to name; None: nothing.
    :param issuer: what ``iss`` has to be; None: anything.
    :param now: seconds since 1970.
    :raise SettingError: a key is none, or PyJWT is not installed.
    """

    def __init__(
        self,
        secret: str | None = None,
        publicKey: str | None = None,
        audience: str | None = None,
        issuer: str | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        try:
            import jwt
        except ImportError as error:
            raise SettingError(f"tokens need PyJWT: pip install 'getty_tx[jwt]' ({error})") from error
        self._jwt = jwt
        self._now = now
        self._audience = audience
        self._issuer = issuer
        # By algorithm: a token cannot have a key taken for one of another kind.
        self._keys: dict[str, Any] = {}
        if secret is not None:
            if len(secret.encode()) < MIN_SECRET:
                raise SettingError(f"secret= has less than {MIN_SECRET} bytes: it could be guessed")
            self._keys["HS256"] = secret
        if publicKey is not None:
            algorithm, key = _keyOf(publicKey)
            self._keys[algorithm] = key

    @property
    def now(self) -> float:
        """Seconds since 1970."""
        return self._now()

    def connection(self, token: str) -> Claims:
        """
        A token of a connection.

        :raise DisconnectError: it is none of ours.
        :raise CommandError: it has expired.
        """
        values = self._read(token)
        channels = values.get("channels", [])
        if not isinstance(channels, list):
            raise DisconnectError(INVALID_TOKEN)
        try:
            for channel in channels:
                checkName(channel)
        except GroupError:
            raise DisconnectError(INVALID_TOKEN) from None
        return self._claims(values, channels=tuple(dict.fromkeys(channels)))

    def subscription(self, token: str, user: str, channel: str) -> Claims:
        """
        A token of a subscription.

        :raise CommandError: it has expired, or is one of another user or channel, or none of ours.
        """
        try:
            values = self._read(token)
            claims = self._claims(values, channel=str(values.get("channel", "")))
        except DisconnectError:
            raise CommandError(103) from None
        if claims.user != user or claims.channel != channel:
            raise CommandError(103)
        return claims

    def _read(self, token: str) -> dict[str, Any]:
        jwt = self._jwt
        if len(token) > MAX_TOKEN:
            raise DisconnectError(INVALID_TOKEN)
        try:
            algorithm = jwt.get_unverified_header(token).get("alg")
            if not isinstance(algorithm, str) or algorithm not in self._keys:
                raise DisconnectError(INVALID_TOKEN)
            values: dict[str, Any] = jwt.decode(
                token,
                self._keys[algorithm],
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                # The times are looked at below, by our own clock.
                options={
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": self._audience is not None,
                },
            )
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise DisconnectError(INVALID_TOKEN) from None
        return values

    def _claims(self, values: Mapping[str, Any], **more: Any) -> Claims:
        user, info = values.get("sub", ""), values.get("info", {})
        expires, begins = values.get("exp"), values.get("nbf", 0)
        if not isinstance(user, str) or not isinstance(info, dict):
            raise DisconnectError(INVALID_TOKEN)
        for moment in (expires, begins):
            if moment is not None and (isinstance(moment, bool) or not isinstance(moment, int | float)):
                raise DisconnectError(INVALID_TOKEN)
        if user:
            try:
                # Sessions of a user are members of the group with this name.
                checkName(f"user:{user}")
            except GroupError:
                raise DisconnectError(INVALID_TOKEN) from None
        now = self._now()
        if begins is not None and begins > now + _LEEWAY:
            raise DisconnectError(INVALID_TOKEN)
        if expires is not None and not expires > now:
            raise CommandError(_TOKEN_EXPIRED)
        return Claims(user, expires, info, **more)


def _keyOf(text: str) -> tuple[str, Any]:
    """The algorithm and the key of a PEM. :raise SettingError: it has none that is known."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, TypeError) as error:
        raise SettingError(f"publicKey= is no public key in PEM: {error}") from None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:
        return "RS256", key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return "ES256", key
    raise SettingError("publicKey= is neither an RSA key of 2048 bits or more nor an EC key on P-256")
