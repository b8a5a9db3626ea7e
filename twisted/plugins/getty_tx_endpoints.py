"""
``getty-ws:`` and ``getty-wss:`` for ``serverFromString`` and ``clientFromString``, in any Twisted program.

Twisted imports every dropin when it meets a prefix that is not its own: this one imports getty_tx when it is asked.
"""

from twisted.internet.interfaces import (
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer


@implementer(IPlugin, IStreamServerEndpointStringParser, IStreamClientEndpointStringParserWithReactor)
class _Parser:
    def __init__(self, prefix):
        self.prefix = prefix

    def parseStreamServer(self, reactor, *args, **kwargs):
        from getty_tx.endpoints import webSocketServerEndpoint

        return webSocketServerEndpoint(self.prefix, args, kwargs, reactor)

    def parseStreamClient(self, reactor, *args, **kwargs):
        from getty_tx.endpoints import webSocketClientEndpoint

        return webSocketClientEndpoint(self.prefix, args, kwargs, reactor)


gettyWS = _Parser("getty-ws")
gettyWSS = _Parser("getty-wss")
