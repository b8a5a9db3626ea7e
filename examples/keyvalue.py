"""
A codec and a listener for ``getty-serve``: a store of texts by name.

::

    cd examples
    twistd -n getty-serve --codec keyvalue:Codec --listener keyvalue:Listener
    printf 'set colour deep blue\nget colour\nget size\n' | nc localhost 8090

The codec decodes each line into a ``Request``, so that the listener does not handle bytes.
"""

from dataclasses import dataclass

from getty_tx import CodecError, EventListener
from getty_tx.codecs import LineCodec


@dataclass(frozen=True)
class Request:
    """A request: ``get NAME``, ``set NAME TEXT`` or ``delete NAME``."""

    verb: str
    name: str
    text: str = ""


class Codec:
    """
    Decodes lines into requests, and encodes replies as lines.

    :param encoding: of the texts; as an option, ``--codec keyvalue:Codec:encoding=latin-1``.
    """

    def __init__(self, encoding="utf-8"):
        # Fails for an unknown encoding, before any port listens.
        "".encode(encoding)
        self.encoding = encoding
        self.lines = LineCodec()

    def read(self, session, data):
        line, length = self.lines.read(session, data)
        if line is None:
            # The line is incomplete; session.maxMsgLen limits its length.
            return None, length
        # Split at two blanks at most: the text may contain more.
        words = line.decode(self.encoding).rstrip("\r").split(" ", 2)
        if len(words) != {"get": 2, "set": 3, "delete": 2}.get(words[0]):
            raise CodecError(f"{line!r} is no request", session)
        return Request(*words), length

    def write(self, session, pkg):
        return f"{pkg}\n".encode(self.encoding)


class Listener(EventListener):
    """Answers requests. One listener serves all sessions, so that they share one store."""

    def __init__(self):
        self.texts = {}

    def onOpen(self, session):
        session.attributes["requests"] = 0

    def onMessage(self, session, pkg):
        session.attributes["requests"] += 1
        if pkg.verb == "get":
            session.writePkg(self.texts.get(pkg.name, "(nothing)"))
        elif pkg.verb == "set":
            self.texts[pkg.name] = pkg.text
            session.writePkg("ok")
        else:
            session.writePkg("ok" if self.texts.pop(pkg.name, None) is not None else "(nothing)")

    def onError(self, session, error):
        print(f"{session}: {error}", flush=True)

    def onClose(self, session):
        print(f"{session}: {session.attributes['requests']} requests", flush=True)
