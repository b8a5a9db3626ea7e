"""
Three servers that come and go, and a client that finds them: ``python examples/providers.py``.

Each server is a process of its own, ``python examples/providers.py serve NAME REGISTRY``, on a port that the system
chooses. It registers in a folder of this machine; an etcd works as well: give its text, ``etcd:127.0.0.1:2379``, as
argument. The client asks one server after the other. Meanwhile one is killed, a new one starts, and one is stopped in
order: no question stays without an answer.
"""

import os
import sys
import tempfile

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater, react

from getty_tx import rpc


class Namer:
    """A server: tells its name."""

    def __init__(self, name):
        self.name = name

    @rpc.method
    def answer(self, question: str) -> str:
        return f"{question} {self.name}"


async def serve(reactor, name, registry):
    server = rpc.Server("tcp:0:interface=127.0.0.1", {"Namer": Namer(name)}, service="namer", registry=registry)
    server.startService()
    reactor.addSystemEventTrigger("before", "shutdown", server.stopService)
    await Deferred()


class Server(ProcessProtocol):
    """The process of a server."""

    def __init__(self, name, registry):
        self.ended = Deferred()
        arguments = [sys.executable, __file__, "serve", name, registry]
        reactor.spawnProcess(self, sys.executable, arguments, env=os.environ, childFDs={0: "w", 1: 1, 2: 2})

    def processEnded(self, reason):
        self.ended.callback(None)


async def main(reactor, registry=None):
    if registry is None:
        registry = f"dir:{tempfile.mkdtemp()}"
    servers = {name: Server(name, registry) for name in ("Anna", "Bob", "Clara")}
    client = rpc.Client("service:namer", registry=registry, timeout=2)
    client.startService()
    await client.whenReady(3, timeout=20)

    async def ask(times):
        for _ in range(times):
            print(await client.call("Namer", "answer", "Who is there?"), flush=True)
            await deferLater(reactor, 0.1)

    await ask(4)
    print("Bob is killed", flush=True)
    servers["Bob"].transport.signalProcess("KILL")
    await servers["Bob"].ended
    await ask(4)
    print("Dora comes", flush=True)
    servers["Dora"] = Server("Dora", registry)
    await client.whenReady(3, timeout=20)
    await ask(4)
    print("Anna leaves", flush=True)
    servers["Anna"].transport.signalProcess("TERM")
    await ask(8)
    await servers["Anna"].ended
    await client.stopService()
    for name in ("Clara", "Dora"):
        servers[name].transport.signalProcess("TERM")
        await servers[name].ended


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        react(serve, sys.argv[2:])
    else:
        react(main, sys.argv[1:])
