"""What the engine of ZooKeeper is told, checked."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from getty_tx.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ClientSettings", "credentialsOf", "rootOf", "tlsContext"]


@dataclass(frozen=True)
class ClientSettings:
    """
    What a client of kazoo is made of.

    :ivar endpoints: hosts and ports.
    :ivar timeout: seconds of the session, as it is asked for.
    :ivar context: for TLS.
    :ivar credentials: ``user:password``, which also own what is created.
    """

    endpoints: Sequence[tuple[str, int]]
    timeout: float
    context: ssl.SSLContext | None = None
    credentials: str | None = field(default=None, repr=False)


def tlsContext(trustRoots: str | None, certificate: str | None, privateKey: str | None) -> ssl.SSLContext:
    """
    For TLS 1.2 and newer; the server's certificate has to be valid for the host as it was named.

    :param trustRoots: a PEM file, or a directory of ``.pem`` files; ``None``: the platform's.
    :raise SettingError: a file cannot be read.
    """
    try:
        if trustRoots is None:
            context = ssl.create_default_context()
        else:
            path = Path(trustRoots)
            files = sorted(path.glob("*.pem")) if path.is_dir() else [path]
            context = ssl.create_default_context(cadata="\n".join(each.read_text() for each in files) or "none")
    except (OSError, ValueError) as error:
        raise SettingError(f"trustRoots={trustRoots!r} cannot be read: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, privateKey)
        except (OSError, ValueError) as error:
            raise SettingError(f"certificate={certificate!r} cannot be read: {error}") from error
    return context


def rootOf(prefix: str | None, layout: str) -> str:
    """The node above all services. :raise SettingError: it cannot be one."""
    root = f"/{layout}" if prefix is None else prefix
    parts = root.split("/")[1:]
    if not root.startswith("/") or not parts or not all(each and each.isprintable() for each in parts):
        raise SettingError(f"prefix={prefix!r} is not a path such as /{layout}")
    if any(each in (".", "..") for each in parts) or parts[0] == "zookeeper":
        raise SettingError(f"prefix={prefix!r} cannot be a path of ZooKeeper: use one such as /{layout}")
    return root


def credentialsOf(user: str | None, passwordFile: str | None) -> str | None:
    """``user:password``. :raise SettingError: one of the two is missing or wrong."""
    if (user is None) != (passwordFile is None):
        raise SettingError("user= and passwordFile= need each other")
    if user is None or passwordFile is None:
        return None
    try:
        lines = Path(passwordFile).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise SettingError(f"passwordFile={passwordFile!r} cannot be read: {error}") from error
    if not lines or not lines[0]:
        raise SettingError(f"passwordFile={passwordFile!r} has no password in its first line")
    if not user or ":" in user:
        raise SettingError(f"user={user!r} is not a name without colons")
    return f"{user}:{lines[0]}"
