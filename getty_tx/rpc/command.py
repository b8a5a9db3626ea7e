"""
Calls from a terminal, for ``python -m getty_tx.rpc``.

Arguments and results are JSON. Errors go to standard error, with exit status 1, or 2 if the command line is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react

from getty_tx import settings
from getty_tx.errors import NotReadyError, SettingError
from getty_tx.rpc.client import Client
from getty_tx.rpc.context import TIMEOUT
from getty_tx.rpc.errors import CallLostError, RpcError
from getty_tx.rpc.hessian import JavaObject
from getty_tx.rpc.messages import Feature
from getty_tx.rpc.payloads import BytesPayload, ProtobufPayload, ThriftPayload
from getty_tx.rpc.payloads.thriftjson import isStruct, toJSON
from getty_tx.rpc.wires.descriptions import DEFAULT_WIRE, SERVED, WIRES, wireFromDescription

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main", "parse", "run"]

_WIRES = ", ".join(
    f"{name}:{payload}" for name, (_, payloads) in WIRES.items() for payload in payloads if name not in SERVED
)

#: What each exception of Java has: its message is the error's text; the others are for developers of the server.
_THROWABLE = frozenset(["detailMessage", "cause", "stackTrace", "suppressedExceptions"])

_EXAMPLES = """\
ENDPOINT is a description as for a Client: tcp:localhost:8090, tls:example.com:8443, unix:/run/echo.sock,
ws://localhost:8091/. The command tries to connect once.

examples:
  python -m getty_tx.rpc describe tcp:localhost:8090
  python -m getty_tx.rpc call tcp:localhost:8090 Echo.say '"hi"'
  python -m getty_tx.rpc call tcp:localhost:8090 Shop.order '{"item": "tea"}' 2 --timeout 10 --metadata user=1
"""


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
        "python -m getty_tx.rpc",
        description="Call methods of a server, or list them. Arguments and results are JSON.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="call|describe")
    call = commands.add_parser(
        "call", help="call a method, and print its result; what JSON lacks is a text as of Python", allow_abbrev=False
    )
    describe = commands.add_parser("describe", help="list the methods", allow_abbrev=False)
    for each in (call, describe):
        each.add_argument("endpoint", metavar="ENDPOINT", help="where the server is, such as tcp:localhost:8090")
    call.add_argument(
        "method",
        metavar="SERVICE.METHOD",
        help="such as Echo.say, or Echo/say; one that is oneway in an IDL is sent, and has no result",
    )
    call.add_argument(
        "arguments",
        metavar="JSON",
        nargs="*",
        help="an argument, such as '\"hi\"', 3 or '[1, 2]'; before one that begins with a minus, write --. With the"
        " payloads bytes and protobuf it is one text, whose UTF-8 is sent, and the result is written as it is",
    )
    call.add_argument(
        "--metadata", metavar="NAME=VALUE", action="append", default=[], help="goes along; may be given several times"
    )
    for each in (call, describe):
        each.add_argument(
            "--timeout",
            metavar="SECONDS",
            default=f"{TIMEOUT:g}",
            help="time for connecting and the call, or none for no limit (default: %(default)s)",
        )
        each.add_argument(
            "--wire",
            default=DEFAULT_WIRE,
            help=f"how calls look on the network, as the server has it: {_WIRES} (default: %(default)s)",
        )
    options = parser.parse_args(arguments)
    _check(options, call if options.command == "call" else describe)
    return options


def _check(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Replace texts by what they mean."""
    text = options.timeout
    try:
        options.timeout = None if text == "none" else settings.seconds("timeout", float(text))
    except ValueError:
        parser.error(f"--timeout {text}: takes a number of seconds, more than 0, such as 2.5, or none for no limit")
    try:
        wire = wireFromDescription(options.wire)
        # Only for its errors: a wire may be for servers.
        wire.codec()
    except SettingError as error:
        parser.error(f"--wire {options.wire}: {error}")
    options.wire = wire
    try:
        # Only for its errors: nothing connects.
        Client(options.endpoint)
    except SettingError as error:
        parser.error(f"ENDPOINT {options.endpoint}: {error}; an example is tcp:localhost:8090")
    options.isBytes = isinstance(options.wire.payload, (BytesPayload, ProtobufPayload))
    if options.command == "describe":
        if isinstance(options.wire.payload, ThriftPayload):
            parser.error("--wire: a Thrift server does not tell its methods; they are those of the IDL")
        if options.isBytes:
            parser.error("--wire: the list of methods cannot travel as bytes; it needs a server with another payload")
        return
    # Errors name it with a slash.
    service, _, method = options.method.rpartition("/" if "/" in options.method else ".")
    if not service or not method:
        parser.error(f"SERVICE.METHOD {options.method}: takes a service and a method, such as Echo.say")
    options.service, options.method = service, method
    if options.isBytes:
        options.arguments = [argument.encode() for argument in options.arguments]
    else:
        options.arguments = [_value(argument, parser) for argument in options.arguments]
    if isinstance(options.wire.payload, ThriftPayload):
        try:
            options.arguments = options.wire.payload.argumentsFromJSON(f"{service}/{method}", options.arguments)
        except RpcError as error:
            parser.error(f"SERVICE.METHOD {service}.{method}: {error}")
    pairs = [entry.partition("=") for entry in options.metadata]
    for name, equals, value in pairs:
        if not name or not equals:
            parser.error(f"--metadata {name}{equals}{value}: takes NAME=VALUE, such as user=1")
    options.metadata = {name: value for name, _, value in pairs} or None
    if pairs and Feature.METADATA not in options.wire.features:
        parser.error(f"--metadata {options.metadata}: {options.wire} has none; take --wire ttheader")


def _value(text: str, parser: argparse.ArgumentParser) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        parser.error(f"JSON {text}: {error}; a text has quotes that the shell leaves there: '{json.dumps(text)}'")


async def run(options: argparse.Namespace, reactor: Any) -> int:
    """
    Do what the command line says; results go to ``sys.stdout``, errors to ``sys.stderr``.

    :param options: of :py:func:`parse`.
    :return: the exit status.
    """
    client = Client(options.endpoint, wire=options.wire, reconnectAttempts=1, reactor=reactor)
    client.startService()
    began = reactor.seconds()
    try:
        # A call would wait for a session although none will come any more.
        await client.whenReady(timeout=options.timeout)
        left = None if options.timeout is None else options.timeout - (reactor.seconds() - began)
        if options.command == "describe":
            print(_table(await client.call("rpc", "describe", timeout=left)))
        else:
            name, arguments, metadata = (options.service, options.method), options.arguments, options.metadata
            payload = options.wire.payload
            if isinstance(payload, ThriftPayload) and payload.isOneWay("/".join(name)):
                # There is no reply to show.
                client.send(*name, *arguments, metadata=metadata)
            else:
                _show(await client.call(*name, *arguments, timeout=left, metadata=metadata), options.isBytes)
    except NotReadyError as error:
        print(f"{CallLostError.code}: {error}", file=sys.stderr)
        return 1
    except RpcError as error:
        print(_explain(error), file=sys.stderr)
        return 1
    except Exception as error:
        if not isStruct(error):
            raise
        # That the IDL declares.
        print(f"{type(error).__name__}: {_json(error)}", file=sys.stderr)
        return 1
    finally:
        await client.stopService()
    return 0


def _show(result: Any, isBytes: bool) -> None:
    if isBytes:
        sys.stdout.flush()
        sys.stdout.buffer.write(result)
        return
    print(_json(result))


def _json(value: Any) -> str:
    """
    A line of JSON for what a wire carries. Structs of Thrift are objects; so are objects of Java, with their class as
    in a call of ``$invoke``. What JSON lacks, such as bytes and times, is a text as of Python; so is all of it if
    it is in itself, or has keys that are no texts.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, default=_toJSON)
    except (TypeError, ValueError, RecursionError):
        text = json.dumps(repr(value), ensure_ascii=False)
    # Surrogates that are alone cannot be printed.
    return text.encode("utf-8", "backslashreplace").decode()


def _toJSON(value: Any) -> Any:
    return {"class": value.name, **value.fields} if isinstance(value, JavaObject) else toJSON(value)


def _explain(error: RpcError) -> str:
    details = error.details
    if isinstance(details, JavaObject):
        details = {name: value for name, value in details.fields.items() if name not in _THROWABLE} or None
        return f"{error.code}: {error}" + ("" if details is None else f" {_json(details)}")
    return f"{error.code}: {error}" + ("" if details is None else f" {details!r}")


def _table(methods: list[dict[str, Any]]) -> str:
    """A line for each method: name, signature, text."""
    rows = [(each["name"].replace("/", "."), each["signature"], _text(each)) for each in methods]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    return "\n".join(f"{name:{widths[0]}}  {signature:{widths[1]}}  {text}".rstrip() for name, signature, text in rows)


def _text(method: dict[str, Any]) -> str:
    return f"{method['text']} (a stream)".lstrip() if method.get("stream") else method["text"]
