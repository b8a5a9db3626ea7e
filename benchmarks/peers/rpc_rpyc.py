"""rpyc: see ``rpc_load.py`` for the command line. Its objects would go by reference, so JSON goes as bytes.

Settings: rpyc's own, with TCP_NODELAY at the client, which is off otherwise, and cannot be set at the server. That is a
``ThreadedServer``, with a thread for each connection, and its handler is always a plain ``def``. The remote method is
looked up once, and callers of one connection use ``rpyc.async_``: their calls are sent at once, and served one after
the other. rpyc compresses what is longer than 3000 bytes.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import rpc_load
import rpyc


def toJSON(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class Echo(rpyc.Service):  # type: ignore[misc]
    """Gives back what it gets."""

    def exposed_say(self, value: bytes) -> bytes:
        return value

    def exposed_sayJSON(self, value: bytes) -> bytes:
        return toJSON(json.loads(value))


def serve(port: int, content: str, isAsync: bool) -> None:
    rpyc.ThreadedServer(Echo, "127.0.0.1", port=port).start()


def call(load: rpc_load.Load, content: str) -> None:
    isBytes = content == "bytes"

    def connection() -> Any:
        stream = rpyc.SocketStream.connect("127.0.0.1", load.port, nodelay=True)
        root = rpyc.connect_stream(stream).root
        say = rpyc.async_(root.say if isBytes else root.sayJSON)

        def begin(value: Any) -> Any:
            waiting = say(value if isBytes else toJSON(value))
            if load.timeout is not None:
                waiting.set_expiry(load.timeout)
            return waiting

        def finish(waiting: Any) -> Any:
            return waiting.value if isBytes else json.loads(waiting.value)

        return begin, finish

    load.inThreads([connection() for _ in range(load.connections)])


sys.exit(rpc_load.main(serve, call))
