r"""
Codecs by description, for command lines and configuration files.

A description has the form of a Twisted endpoint string, ``name[:option=value...]``::

    length
    length:size=2:order=little
    line:delimiter=\r\n
    mypkg.codecs:MyCodec:size=4

The first part is a registered name; if no codec has that name, it is a module, and the second part is an attribute of
it. A class or a function is called with the options as strings; any other object is the codec, and has no options.

A backslash escapes ``:``, ``=`` and itself: ``\:`` is a colon, ``\=`` an equals sign, ``\\`` a backslash. Only a colon
has to be escaped; after an option's name, ``=`` means the same as ``\=``. In an option of bytes (``delimiter``),
``\n \r \t \0`` and ``\xHH`` mean the same as in Python. Any other backslash is a plain backslash. Escapes are replaced
in a single pass: ``delimiter=\\n`` is a backslash and an ``n``. A shell does not change a description in single quotes.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from getty_tx.codecs.getty import GettyCodec
from getty_tx.codecs.jsonlines import JsonLinesCodec
from getty_tx.codecs.length import LengthCodec
from getty_tx.codecs.line import LineCodec
from getty_tx.codecs.netstring import NetstringCodec
from getty_tx.codecs.raw import RawCodec
from getty_tx.codecs.varint import VarintCodec
from getty_tx.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from getty_tx.interfaces import IReadWriter

__all__ = ["describeAll", "fromDescription", "names", "register"]

# These match a backslash together with the next character, so that an escaped separator does not separate.
_component = re.compile(r"(?:[^:\\]|\\.|\\\Z)*", re.DOTALL)
_option = re.compile(r"((?:[^=\\]|\\.|\\\Z)*)=(.*)", re.DOTALL)
_plainEscape = re.compile(r"\\([:=\\])")
_byteEscape = re.compile(rb"\\(x[0-9A-Fa-f]{2}|.|\Z)", re.DOTALL)
_bytesOf = {
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"0": b"\0",
    b":": b":",
    b"=": b"=",
    b"\\": b"\\",
}


def _asText(codec: str, option: str, raw: str) -> str:
    return _plainEscape.sub(r"\1", raw)


def _asInteger(codec: str, option: str, raw: str) -> int | str:
    # Text that is no number is returned unchanged, so that the codec's check names it and the valid values.
    return int(raw) if re.fullmatch("[0-9]{1,9}", raw) else raw


def _asBytes(codec: str, option: str, raw: str) -> bytes:
    def one(match: re.Match[bytes]) -> bytes:
        escape = match[1]
        if escape in _bytesOf:
            return _bytesOf[escape]
        if len(escape) == 3:
            return bytes.fromhex(escape[1:].decode())
        raise SettingError(
            f"codec {codec!r}: {option}={raw} has an unknown escape; those known are"
            r" \n \r \t \0 \xHH \: \= and \\ for a backslash"
        )

    # Command-line arguments that are not UTF-8 have surrogates, which become the original bytes again.
    try:
        return _byteEscape.sub(one, raw.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError as error:
        raise SettingError(f"codec {codec!r}: {option}={raw!a} cannot be encoded in UTF-8") from error


@dataclass(frozen=True, slots=True)
class _Option:
    """One option of a built-in codec: its help text, and the conversion from text to the argument."""

    values: str
    meaning: str
    convert: Callable[[str, str, str], Any] = _asText


@dataclass(frozen=True, slots=True)
class _Entry:
    """A registered codec; ``options`` is None if only the factory knows its options."""

    factory: Callable[..., Any]
    meaning: str
    options: dict[str, _Option] | None


_VIEWS = _Option("BYTES", "packages of that size and more are not copied (none)", _asInteger)

# The registered codecs by name: for this module and its tests.
entries = {
    "length": _Entry(
        LengthCodec,
        "a length field and a payload",
        {
            "size": _Option("1|2|4|8", "bytes of the length field (4)", _asInteger),
            "order": _Option("big|little", "its byte order (big)"),
            "includes": _Option("payload|frame", "what the number counts (payload)"),
            "views": _VIEWS,
        },
    ),
    "line": _Entry(
        LineCodec,
        "lines, kept as they are but for the delimiter",
        {"delimiter": _Option("TEXT", r"what ends a line, such as \r\n \0 \x1e | or \: (\n)", _asBytes)},
    ),
    "netstring": _Entry(NetstringCodec, "12:hello world!,", {}),
    "varint": _Entry(VarintCodec, "protobuf's varint for the length, and a payload", {"views": _VIEWS}),
    "raw": _Entry(RawCodec, "no framing: every chunk, datagram or WebSocket message as it comes", {}),
    "json-lines": _Entry(JsonLinesCodec, "a JSON document a line, in UTF-8", {}),
    "getty": _Entry(GettyCodec, "the 32-byte header and short text of Getty's echo examples", {}),
}


def names() -> list[str]:
    """The registered names, in the order of registration."""
    return list(entries)


def register(name: str, factory: Callable[..., Any]) -> None:
    """
    Register a codec under a name for descriptions.

    :param name: without ``:``, ``=`` and backslashes.
    :param factory: a class or function; called with the options of each description as strings, returns the codec.
        :py:func:`describeAll` shows the first line of its docstring.
    :raise SettingError: the name is taken or invalid, or the factory is not callable.
    """
    if not name or set(name) & set(":=\\"):
        raise SettingError(f"codec {name!r}: a name is not empty and has no colon, equals sign or backslash")
    if name in entries:
        raise SettingError(f"codec {name!r}: the name is taken; those taken are {', '.join(names())}")
    if not callable(factory):
        raise SettingError(f"codec {name!r}: the factory {factory!r} is not callable")
    meaning = (inspect.getdoc(factory) or "").partition("\n")[0]
    entries[name] = _Entry(factory, meaning, None)


def fromDescription(description: str) -> IReadWriter:
    """
    The codec of a description.

    :return: an object with ``read`` and ``write``; it need not declare the interface.
    :raise SettingError: the description is invalid; the text names the error and the valid values. An exception from an
        import or a factory is the ``__cause__``.
    """
    if not description:
        raise SettingError(f"codec: the description is empty; {_known()}")
    first, *rest = _split(description)
    name = _plainEscape.sub(r"\1", first)
    entry = entries.get(name)
    if entry is not None:
        codec = _call(name, entry.factory, entry.options, _options(name, rest))
    elif not name or not rest or _option.fullmatch(rest[0]):
        raise SettingError(f"codec {name!r} is unknown; {_known()}")
    else:
        attribute = _plainEscape.sub(r"\1", rest[0])
        found = _import(name, attribute)
        name = f"{name}:{attribute}"
        options = _options(name, rest[1:])
        if isinstance(found, type) or (callable(found) and not _isCodec(found)):
            # A built-in class named by its module converts options as under its registered name.
            known = next((one.options for one in entries.values() if one.factory is found), None)
            codec = _call(name, found, known, options)
        elif options:
            raise SettingError(
                f"codec {name!r} is no class and no function, so it takes no options, and"
                f" {', '.join(options)} cannot be given"
            )
        else:
            codec = found
    if not _isCodec(codec):
        raise SettingError(f"codec {name!r} gave {type(codec).__name__}, which has no methods read and write")
    checked: IReadWriter = codec
    return checked


def describeAll() -> str:
    """A table of names and meanings for ``--help``, with the options indented below and defaults in brackets."""
    lines = []
    width = max(map(len, entries))
    for name, entry in entries.items():
        lines.append(f"{name:{width}}  {entry.meaning}".rstrip())
        if entry.options is None:
            parameters = parametersOf(entry.factory)
            if parameters:
                lines.append(f"{'':{width}}    options: {', '.join(parameters)}")
            continue
        for option, about in entry.options.items():
            setting = f"{option}={about.values}"
            lines.append(f"{'':{width}}    {setting:22}  {about.meaning}")
    lines.append("module:attr")
    lines.append(f"{'':{width}}  your own: a class or function, called with option=value..., or an instance")
    return "\n".join(lines) + "\n"


def _known() -> str:
    return f"known are {', '.join(names())}; a codec of your own is module:attr, such as mypkg.codecs:MyCodec"


def _isCodec(thing: object) -> bool:
    return callable(getattr(thing, "read", None)) and callable(getattr(thing, "write", None))


def _split(description: str) -> list[str]:
    """The parts between colons, with their escapes."""
    parts = []
    at = 0
    while True:
        match = _component.match(description, at)
        assert match is not None  # the pattern matches the empty string
        parts.append(match[0])
        at = match.end() + 1
        if at > len(description):
            return parts


def _options(codec: str, parts: list[str]) -> dict[str, str]:
    """The options by name; escapes in the values are not replaced."""
    options: dict[str, str] = {}
    for part in parts:
        match = _option.fullmatch(part)
        if match is None or not match[1]:
            raise SettingError(f"codec {codec!r}: {part!r} is not option=value; a colon within a value is written \\:")
        option = _plainEscape.sub(r"\1", match[1])
        if option in options:
            raise SettingError(
                f"codec {codec!r}: option {option} is given twice, {option}={options[option]} and {option}={match[2]}"
            )
        options[option] = match[2]
    return options


def _import(module: str, attribute: str) -> Any:
    """:raise SettingError: there is no such module or attribute, or the import fails; the cause is chained."""
    try:
        found: Any = import_module(module)
    except ModuleNotFoundError as error:
        # The module itself or its package is missing, not a module that it imports.
        if error.name and f"{module}.".startswith(f"{error.name}."):
            raise SettingError(
                f"codec '{module}:{attribute}': there is no module {error.name!r}; {_known()}"
            ) from error
        raise SettingError(f"codec '{module}:{attribute}': importing {module!r} failed: {error}") from error
    except Exception as error:
        raise SettingError(
            f"codec '{module}:{attribute}': importing {module!r} failed: {type(error).__name__}: {error}"
        ) from error
    try:
        for part in attribute.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        raise SettingError(f"codec '{module}:{attribute}': module {module!r} has no {attribute!r}") from error
    return found


def parametersOf(factory: Callable[..., Any]) -> list[str] | None:
    """The names of the factory's options; None if any name is valid, or they are unknown."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return None
    return [one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]


def _call(codec: str, factory: Callable[..., Any], known: dict[str, _Option] | None, options: dict[str, str]) -> Any:
    """Call the factory with the options, after checking their names and converting them."""
    allowed = parametersOf(factory) if known is None else list(known)
    arguments: dict[str, Any] = {}
    for option, raw in options.items():
        if allowed is not None and option not in allowed:
            some = f"its options are {', '.join(allowed)}" if allowed else "it has no options"
            raise SettingError(f"codec {codec!r}: option {option}={raw} is unknown; {some}")
        convert = known[option].convert if known else _asText
        arguments[option] = convert(codec, option, raw)
    try:
        return factory(**arguments)
    except SettingError:
        raise
    except Exception as error:
        given = ", ".join(f"{option}={raw}" for option, raw in options.items()) or "no options"
        raise SettingError(f"codec {codec!r} with {given}: {type(error).__name__}: {error}") from error
