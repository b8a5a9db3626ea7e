"""
Notes over HTTP: ``python examples/http_server.py``, then ``curl -d 'buy tea' localhost:8000/notes/tea``.

``/notes`` has all of them as JSON, ``DELETE`` removes one, and ``/files/`` has the files of this folder, such as
``/files/chat.py``. ``curl -N localhost:8000/clock`` is answered with a line each second. A WebSocket at
``ws://localhost:8000/changes`` is told of each change. Endpoints may be given as arguments.
"""

import json
import sys
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from getty_tx import EventListener, RefuseRequest, SessionError, http
from getty_tx.codecs import RawCodec

ENDPOINTS = ("tcp:8000:interface=127.0.0.1",)


class Changes(EventListener):
    """The WebSockets that are told of changes."""

    def __init__(self):
        self.sessions = set()

    def onOpen(self, session):
        self.sessions.add(session)

    def onClose(self, session):
        self.sessions.discard(session)

    def tell(self, **change):
        text = json.dumps(change)
        for session in list(self.sessions):
            try:
                session.writePkg(text)
            except SessionError as error:
                # It does not read: fail this session only.
                session.close(error)

    def newSession(self, session):
        session.codec = RawCodec()
        session.listener = self


def makeRouter(reactor):
    router, notes, changes = http.Router(), {}, Changes()
    router.mount("/files", http.Files(Path(__file__).parent))
    router.webSocket("/changes", changes.newSession)

    @router.get("/notes")
    def all_(request):
        return notes

    @router.get("/notes/{name}")
    def one(request):
        name = request.path["name"]
        if name not in notes:
            raise RefuseRequest(404, f"there is no note {name}")
        return {"name": name, "text": notes[name]}

    @router.route(["POST", "PUT"], "/notes/{name}", maxBody=10_000)
    def keep(request):
        name = request.path["name"]
        isNew = name not in notes
        notes[name] = request.content.decode("utf-8", "replace")
        changes.tell(name=name, text=notes[name])
        return http.Response(201 if isNew else 200, {"name": name}, headers={"Location": request.rawPath})

    @router.delete("/notes/{name}")
    def remove(request):
        if notes.pop(request.path["name"], None) is not None:
            changes.tell(name=request.path["name"], text=None)

    @router.get("/clock")
    async def clock(request):
        try:
            ticks, every = int(request.query.get("ticks", 3)), float(request.query.get("every", 1))
        except ValueError:
            raise RefuseRequest(400, "ticks and every are numbers") from None
        # It is asked for more only while the client takes it, and closed when the client goes.
        for tick in range(ticks):
            yield f"{tick}\n"
            await deferLater(reactor, every)

    return router


async def main(reactor, *endpoints):
    server = http.Server(makeRouter(reactor), *(endpoints or ENDPOINTS))
    server.startService()
    reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
    print("listening on", await server.whenListening(), flush=True)
    await Deferred()  # until Ctrl-C


if __name__ == "__main__":
    react(main, sys.argv[1:])
