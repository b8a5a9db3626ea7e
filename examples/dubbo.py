"""
Serve and call a service of Apache Dubbo: ``python examples/dubbo.py``.

Without arguments server and client run in one process. With an endpoint only the client runs, and calls the provider
there, whatever language it is in; and ``python examples/dubbo.py serve tcp:20880`` only serves.
"""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from getty_tx import rpc
from getty_tx.rpc import hessian

SERVICE = "com.ex.Cars"


class SoldOut(rpc.RemoteError):
    """The code of an error is the class of Java's exception."""

    code = "com.ex.SoldOutException"


class Cars:
    @rpc.method
    def paint(self, color: str, number: int) -> hessian.JavaObject:
        if color == "pink":
            raise SoldOut("no pink is left")
        return hessian.JavaObject("com.ex.Car", {"color": color, "number": number})


async def main(reactor, *words):
    wire = rpc.Dubbo(
        versions={SERVICE: "1.0"},
        signatures={f"{SERVICE}/paint": "Ljava/lang/String;I"},
    )
    endpoint = words[0] if words else None
    server = rpc.Server(words[1] if endpoint == "serve" else "tcp:0:interface=127.0.0.1", {SERVICE: Cars()}, wire=wire)
    if endpoint in (None, "serve"):
        server.startService()
        [address] = await server.whenListening()
        if endpoint == "serve":
            print(f"listening on {address}", flush=True)
            await Deferred()
        endpoint = f"tcp:127.0.0.1:{address.port}"
    client = rpc.Client(endpoint, wire=wire)
    client.startService()
    await client.whenReady(timeout=5)
    cars = client.service(SERVICE)
    car = await cars.paint("red", 7)
    print(car.name, car.fields)
    # By name: neither end needs the interface.
    print(await client.call(SERVICE, "$invoke", "paint", ["java.lang.String", "int"], ["blue", 8]))
    try:
        await cars.paint("pink", 9)
    except SoldOut as error:
        print(type(error).__name__, error)
    await client.stopService()
    await server.stopService()


if __name__ == "__main__":
    react(main, sys.argv[1:])
