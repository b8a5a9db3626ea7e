"""
Providers in a terminal, for ``python -m getty_tx.registry``.

Errors go to standard error, with exit status 1, or 2 if the command line is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, TimeoutError, ensureDeferred
from twisted.internet.task import LoopingCall, react
from zope.interface import implementer

from getty_tx import settings
from getty_tx.errors import GettyError, SettingError
from getty_tx.registry.interfaces import IFollower
from getty_tx.registry.parse import defaultText, registryFrom
from getty_tx.registry.provider import Provider, checkService

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

__all__ = ["main", "parse", "run"]

#: Seconds to wait for the registry.
TIMEOUT = 10.0

#: Seconds between two looks whether the registry answers.
LOOK_PERIOD = 1.0

_EXAMPLES = """\
REGISTRY is a text such as dir:/run/getty, file:services.toml, dns:, etcd:10.0.0.1:2379 or zookeeper:10.0.0.1:2181.
If it is left out, it is that of the environment variable GETTY_REGISTRY, or the directory of this user.

examples:
  python -m getty_tx.registry
  python -m getty_tx.registry dir:/run/getty echo --follow
  python -m getty_tx.registry 'dns:server=127.0.0.1\\:8600' echo.service.consul --json
"""

_COLUMNS = ("service", "id", "endpoint", "weight", "zone", "state", "version", "meta")

_NAMES = [each.name for each in fields(Provider) if each.name != "more"]


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run the command.

    :param arguments: by default those of the process.
    :raise SystemExit: always; its code is the exit status.
    """
    options = parse(arguments)
    react(lambda reactor: ensureDeferred(_exit(options, reactor)))


async def _exit(options: argparse.Namespace, reactor: Any) -> None:
    status = await run(options, reactor)
    if status:
        raise SystemExit(status)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """
    Read the command line.

    :raise SystemExit: with 2 because it is wrong; the reason is on standard error. With 0 after ``--help``.
    """
    parser = argparse.ArgumentParser(
        "python -m getty_tx.registry",
        description="List the providers that a registry has, or follow those of a service.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("registry", metavar="REGISTRY", nargs="?", help="where providers are registered")
    parser.add_argument("service", metavar="SERVICE", nargs="?", help="by default all, where the registry has a list")
    parser.add_argument(
        "--follow", action="store_true", help="go on with a line for each change of SERVICE, until interrupted"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="a list of objects with the attributes of providers; with --follow an object a line for each change",
    )
    parser.add_argument(
        "--timeout", metavar="SECONDS", default=f"{TIMEOUT:g}", help="time for the first answer (default: %(default)s)"
    )
    # Options may stand between REGISTRY and SERVICE.
    options = parser.parse_intermixed_args(arguments)
    try:
        options.timeout = settings.seconds("timeout", float(options.timeout))
    except ValueError:
        parser.error(f"--timeout {options.timeout}: takes a number of seconds, more than 0, such as 2.5")
    if options.registry is None:
        options.registry = defaultText()
    if options.service is None:
        if options.follow:
            parser.error("--follow: takes a SERVICE after the REGISTRY, such as dir:/run/getty echo")
        return options
    try:
        checkService("SERVICE", options.service)
    except SettingError as error:
        parser.error(str(error))
    return options


async def run(options: argparse.Namespace, reactor: Any) -> int:
    """
    Do what the command line says; providers go to ``sys.stdout``, errors to ``sys.stderr``.

    :param options: of :py:func:`parse`.
    :return: the exit status.
    """
    try:
        registry: Any = registryFrom(options.registry, reactor)
    except SettingError as error:
        return _fail(error)
    registry.startService()
    try:
        if options.follow:
            await _follow(registry, options, reactor)
        else:
            listing: Deferred[list[Provider]] = registry.list(options.service)
            providers = await listing.addTimeout(options.timeout, reactor)
            print(json.dumps([_object(each) for each in providers]) if options.json else _table(providers))
    except TimeoutError:
        why = f": {registry.lastError}" if registry.lastError is not None else ""
        return _fail(f"{options.registry}: no answer within {options.timeout:g} s{why}")
    except GettyError as error:
        return _fail(error)
    finally:
        await registry.stopService()
    return 0


def _fail(error: object) -> int:
    print(error, file=sys.stderr)
    return 1


async def _follow(registry: Any, options: argparse.Namespace, reactor: Any) -> None:
    """Print the first list, and changes until the process ends."""
    printer = _Printer(options.json)
    following = registry.follow(options.service, printer)
    look = LoopingCall(_Look(registry, following))
    look.clock = reactor
    try:
        await printer.known.addTimeout(options.timeout, reactor)
        look.start(LOOK_PERIOD)
        await Deferred()
    finally:
        if look.running:
            look.stop()
        following.stop()


@implementer(IFollower)
class _Printer:
    """Prints what a follower is told."""

    def __init__(self, isJSON: bool) -> None:
        self.known: Deferred[None] = Deferred()
        self._isJSON = isJSON

    def providersChanged(
        self, added: Collection[Provider], removed: Collection[Provider], changed: Collection[Provider]
    ) -> None:
        """Print the table at first, and then the changes."""
        if not self.known.called and not self._isJSON:
            print(_table(added), flush=True)
        else:
            self._print("added", added)
            self._print("changed", changed)
            self._print("removed", removed)
        if not self.known.called:
            self.known.callback(None)

    def _print(self, what: str, providers: Iterable[Provider]) -> None:
        for each in providers:
            if self._isJSON:
                print(json.dumps({"time": time.time(), "event": what, "provider": _object(each)}), flush=True)
            else:
                print(_now(), f"{what:7}", "  ".join(_cells(each)[1:]).rstrip(), flush=True)


class _Look:
    """Says when the registry does not answer any more, or has no record, and when it does again."""

    def __init__(self, registry: Any, following: Any) -> None:
        self._registry = registry
        self._following = following
        self._isConnected = True
        self._isHeld = False

    def __call__(self) -> None:
        isConnected = bool(self._registry.isConnected)
        if isConnected is not self._isConnected:
            self._isConnected = isConnected
            self._say("answers again" if isConnected else f"does not answer: {self._registry.lastError}")
        # Registries of other makers may not tell.
        isHeld = bool(getattr(self._following, "isHeld", False))
        if isHeld is not self._isHeld:
            self._isHeld = isHeld
            self._say("has no record any more: clients keep the last ones" if isHeld else "has records again")

    def _say(self, what: str) -> None:
        print(_now(), "the registry", what, file=sys.stderr, flush=True)


def _now() -> str:
    return time.strftime("%H:%M:%S")


def _object(provider: Provider) -> dict[str, Any]:
    found = {name: getattr(provider, name) for name in _NAMES}
    found["meta"] = dict(provider.meta)
    return found


def _cells(provider: Provider) -> list[str]:
    cells = [str(getattr(provider, name)) or "-" for name in _COLUMNS[:-1]]
    # In ASCII: it may have characters that move the cursor.
    return [*cells, json.dumps(dict(provider.meta), default=str) if provider.meta else ""]


def _table(providers: Collection[Provider]) -> str:
    """A line for each provider, below the names of the columns."""
    if not providers:
        return "no providers"
    rows = [[name.upper() for name in _COLUMNS], *(_cells(each) for each in sorted(providers, key=_order))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _order(provider: Provider) -> tuple[str, str]:
    return provider.service, provider.id
