"""
Ready-made codecs, and the descriptions that name them: ``length``, ``line:delimiter=\\r\\n``, ``mypkg.codecs:MyCodec``.

All of them keep nothing per session, so that one instance may serve any number of sessions, in any thread. They read
a memoryview of unsigned bytes (format ``B``, as ``memoryview(b"...")`` is) over whatever object, and deliver ``bytes``.
What cannot be is a :py:class:`getty_tx.errors.CodecError` when it is met in the bytes or in a package, and a
:py:class:`getty_tx.errors.SettingError` when it is met in the settings of a codec. None of them limits the length of a
package, beyond what its format does: the session's ``maxMsgLen`` does.
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
