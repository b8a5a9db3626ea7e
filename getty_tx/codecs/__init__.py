"""
Codecs, and their descriptions as text: ``length``, ``line:delimiter=\\r\\n``, ``mypkg.codecs:MyCodec``.

The codecs keep no state of a session, so one instance may serve any number of sessions, in any thread. They read a
memoryview of unsigned bytes (format ``B``, as ``memoryview(b"...")`` has) over any object, and deliver ``bytes``.
Invalid bytes and packages are a :py:class:`getty_tx.errors.CodecError`, invalid settings of a codec a
:py:class:`getty_tx.errors.SettingError`. The codecs do not limit the length of a package beyond the limit of its
format: the session's ``maxMsgLen`` does.

- ``length``: a length field and a payload; ``varint``: the same with protobuf's varint; ``netstring``: netstrings.
- ``line``: lines with a delimiter; ``jsonlines``: a JSON document a line; ``raw``: no framing.
- ``getty``: the package of Getty's echo examples.
- ``common``: what these share; ``registry``: codecs by description.
"""

from getty_tx.codecs.getty import EchoPackage, GettyCodec
from getty_tx.codecs.jsonlines import JsonLinesCodec
from getty_tx.codecs.length import LengthCodec
from getty_tx.codecs.line import LineCodec
from getty_tx.codecs.netstring import NetstringCodec
from getty_tx.codecs.raw import RawCodec
from getty_tx.codecs.registry import describeAll, fromDescription, names, register
from getty_tx.codecs.varint import VarintCodec

__all__ = [
    "EchoPackage",
    "GettyCodec",
    "JsonLinesCodec",
    "LengthCodec",
    "LineCodec",
    "NetstringCodec",
    "RawCodec",
    "VarintCodec",
    "describeAll",
    "fromDescription",
    "names",
    "register",
]
