"""The options of a command that registers itself in a registry."""

from __future__ import annotations

from inspect import cleandoc
from typing import TYPE_CHECKING, Any, cast

from twisted.python import usage

from getty_tx.errors import SettingError
from getty_tx.server import announcementOf

if TYPE_CHECKING:
    from getty_tx.registry.interfaces import IRegistry
    from getty_tx.server import Registering
    from getty_tx.tap.options import SessionOptions as _Base
else:
    # Twisted would collect the options of a base that is reached on two ways twice.
    _Base = object

__all__ = ["RegisterOptions", "ServiceOptions", "registryOf"]

#: Weights of a record; see getty_tx.registry.provider, which is not imported for commands that are in no registry.
MAX_WEIGHT = 1000

#: Options by the setting that an error begins with.
_OPTIONS = {"group": "service-group", "version": "service-version"}


def weight(value: str) -> int:
    """The coercion of ``--weight``."""
    if not (value.isascii() and value.isdigit() and int(value) <= MAX_WEIGHT):
        raise usage.UsageError(f"--weight {value}: takes a whole number from 0 to {MAX_WEIGHT}")
    return int(value)


def registryOf(text: str | None) -> IRegistry:
    """
    The registry of ``--registry``, or the default one.

    :raise usage.UsageError: the text, or the environment variable GETTY_REGISTRY, is wrong.
    """
    # Imported here, because most commands are in no registry.
    from getty_tx.registry.parse import defaultRegistry, registryFrom

    try:
        return defaultRegistry() if text is None else registryFrom(text)
    except SettingError as error:
        where = "without --registry, GETTY_REGISTRY or the user's folder" if text is None else f"--registry {text}"
        raise usage.UsageError(f"{where}: {error}") from error


class RegisterOptions(_Base):
    """
    What a server says of itself in a registry. It comes before :py:class:`SessionOptions` in a class's bases.

    :cvar serviceOption: the option with the name of the service.
    """

    serviceOption = "service"

    optParameters = [
        ["registry", None, None,
         "Where it is registered: dir:PATH, etcd:HOST:PORT, zookeeper:HOST:PORT and others [default: GETTY_REGISTRY,"  # noqa: ISC004
         " or a folder of this user]."],
        ["weight", None, None, "Its share of the picks of clients, 0 to 1000 [default: 100].", weight],
        ["zone", None, None, "Where it is; clients prefer those in their own zone."],
        ["service-group", None, None, "The group in which clients look for it."],
        ["service-version", None, None, "The version that clients ask for."],
    ]  # fmt: skip

    endpoints: list[str]

    def __init__(self) -> None:
        super().__init__()
        self._advertised: list[str] = []
        self._meta: dict[str, str] = {}
        self._registry: IRegistry | None = None

    def opt_advertise(self, place: str) -> None:
        """
        What clients dial: a host, or a tcp:, tls:, unix:, udp:, ws: or wss: description for each --listen; may be given
        several times.
        [default: the bound interface, or this machine's address on the way to the registry]
        """
        self._advertised.append(place)

    def opt_meta(self, pair: str) -> None:
        """
        NAME=VALUE, what else clients are told; may be given several times.
        """
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise usage.UsageError(f"--meta {pair}: is not NAME=VALUE, such as rack=b7")
        self._meta[name] = value

    # Python does this itself from 3.13 on; before, the indentation would be in the help.
    opt_advertise.__doc__ = cleandoc(opt_advertise.__doc__ or "")
    opt_meta.__doc__ = cleandoc(opt_meta.__doc__ or "")

    def registering(self) -> Registering:
        """What the command's Server or Processes takes; nothing if it is in no registry, or in a sub-reactor."""
        if self[self.serviceOption] is None or self.isSub:
            return {}
        advertised = self._advertised
        values: Any = {
            "service": self[self.serviceOption],
            "registry": self._registry,
            "advertise": advertised[0] if len(advertised) == 1 else advertised or None,
            "weight": self["weight"],
            "zone": self["zone"],
            "meta": self._meta,
            "group": self["service-group"],
            "version": self["service-version"],
        }
        return cast("Registering", {name: value for name, value in values.items() if value is not None})

    def checkRegistering(self) -> None:
        """:raise usage.UsageError: the options cannot be registered, or have no meaning without a service."""
        values: dict[str, Any] = {
            name: self[name] for name in ("registry", "weight", "zone", "service-group", "service-version")
        }
        values |= {"advertise": (*self._advertised, None)[0], "meta": (*self._meta, None)[0]}
        if self[self.serviceOption] is None:
            for name, value in values.items():
                if value is not None:
                    raise usage.UsageError(f"--{name} {value}: has no meaning without --{self.serviceOption}")
            return
        if self.isSub:
            # The main process registers them all together.
            return
        self._registry = registryOf(self["registry"])
        try:
            announcementOf(self.endpoints, self.registering(), None)
        except SettingError as error:
            setting = str(error).partition("=")[0]
            option = _OPTIONS.get(setting, setting)
            if values.get(option) is None:
                option = self.serviceOption
            given = self[option] if option in self else values[option]
            text = str(error).replace("advertise=,", "--advertise,")
            raise usage.UsageError(f"--{option} {given}: {text}") from error


class ServiceOptions(_Base):
    """The name of the service, for commands whose ``--service`` is not something else."""

    optParameters = [
        ["service", None, None, "Name under which clients find it in a registry; see --registry."],
    ]  # fmt: skip
