"""asyncio echo: ``asyncio_echo.py PORT [uvloop]``. Frames are a 4-byte little-endian length and the payload.

It is the fast form of an asyncio server: a ``Protocol`` instead of streams, every frame decoded and encoded on its
own, and one ``writelines`` for all that a read brought. With ``uvloop`` it runs on that event loop.
"""

import asyncio
import struct
import sys

HEADER = struct.Struct("<I")


class FrameEcho(asyncio.Protocol):
    """Send every frame back as it was."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.unread = b""

    def data_received(self, data: bytes) -> None:
        data = self.unread + data if self.unread else data
        position, end = 0, len(data)
        replies: list[bytes] = []
        while end - position >= HEADER.size:
            (size,) = HEADER.unpack_from(data, position)
            bodyEnd = position + HEADER.size + size
            if bodyEnd > end:
                break
            payload = data[position + HEADER.size : bodyEnd]
            replies += (HEADER.pack(len(payload)), payload)
            position = bodyEnd
        self.unread = data[position:]
        if replies:
            self.transport.writelines(replies)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(FrameEcho, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if sys.argv[2:] == ["uvloop"]:
    import uvloop

    uvloop.run(serve(int(sys.argv[1])))
else:
    asyncio.run(serve(int(sys.argv[1])))
