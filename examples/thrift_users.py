"""
A server of Thrift, and three clients at its one port: ``python examples/thrift_users.py``.

The IDL is in ``users.thrift``, and is read when the program starts. One client speaks TTHeader, as Kitex does, and one
framed Thrift; both are getty_tx. The third is thriftpy2 itself, in a thread, and buffered. It comes with the extra
``getty_tx[thrift]``.
"""

from pathlib import Path

import thriftpy2
from thriftpy2.rpc import client_context
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from getty_tx import rpc

IDL = str(Path(__file__).with_name("users.thrift"))
users = thriftpy2.load(IDL)

AGES = {"ann": 7, "bob": 8}


class Users:
    @rpc.method
    def find(self, name: str) -> users.User:
        if name not in AGES:
            raise users.NoSuchUser(name=name)
        return users.User(name=name, age=AGES[name])

    @rpc.method
    def seen(self, name: str) -> None:
        print(f"{name} was seen")


async def ask(wire, port, name):
    client = rpc.Client(f"tcp:127.0.0.1:{port}", wire=wire)
    client.startService()
    try:
        user = await client.service("Users").find(name)
        client.send("Users", "seen", name)
        return f"{user.name} is {user.age}"
    except users.NoSuchUser as error:
        return f"there is no {error.name}"
    finally:
        await client.stopService()


def askOfThriftpy2(port, name):
    with client_context(users.Users, "127.0.0.1", port) as client:
        return f"{name} is {client.find(name).age}"


async def main(reactor):
    server = rpc.Server("tcp:0:interface=127.0.0.1", {"Users": Users()}, wire=rpc.Thrift(IDL))
    server.startService()
    [address] = await server.whenListening()
    print("TTHeader:", await ask(rpc.TTHeader("thrift", services=IDL), address.port, "ann"))
    print("framed:", await ask(rpc.Thrift(IDL), address.port, "cleo"))
    print("thriftpy2:", await deferToThread(askOfThriftpy2, address.port, "bob"))
    await server.stopService()


if __name__ == "__main__":
    react(main)
