"""
Many requests on one session, each with its own time-out: ``python examples/request_reply.py``.

Each request has a number, and its reply the same one; replies may come in any order, late or never. getty_tx.rpc keeps
these numbers. Without arguments server and client run in one process; with an endpoint as argument, only the client
runs, and connects to it.
"""

import sys

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater, react

from getty_tx import rpc


class Shouter:
    """The server: replies after a tenth of a second for each character of the question; never to "?"."""

    def __init__(self, reactor):
        self.reactor = reactor

    @rpc.method
    async def shout(self, question: str) -> str:
        if question == "?":
            await Deferred()
        # The other requests of the session are served meanwhile.
        await deferLater(self.reactor, len(question) / 10)
        return question.upper()


async def main(reactor, endpoint=None):
    server = rpc.Server("tcp:0:interface=127.0.0.1", {"Shouter": Shouter(reactor)})
    if endpoint is None:
        server.startService()
        [address] = await server.whenListening()
        endpoint = f"tcp:127.0.0.1:{address.port}"
    client = rpc.Client(endpoint, timeout=1.0)
    client.startService()
    await client.whenReady(timeout=5)
    shouter = client.service("Shouter")

    async def ask(question):
        try:
            print(await shouter.shout(question))
        except rpc.RpcError as error:
            print(type(error).__name__, error)

    await gatherResults([Deferred.fromCoroutine(ask(question)) for question in ("slower", "slow", "?", "go")])
    await client.stopService()
    await server.stopService()


if __name__ == "__main__":
    react(main, sys.argv[1:])
