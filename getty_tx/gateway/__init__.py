"""
A gateway: WebSocket clients that speak Centrifuge's JSON protocol become members of groups.

================  ===============================================================================
``gateway``       Gateway: the service, and its place on a router of HTTP
``settings``      who may do what; the file ``gateway.toml``
``listener``      the sessions; what groups tell clients
``client``        one client: its commands
``connecting``    how it becomes connected, with the channels that its token names
``subscription``  one subscription of a client
``queries``       history and presence
``publishing``    the HTTP API
``tokens``        who a client is: JSON Web Tokens
``protocol``      commands, replies, pushes and errors, without I/O
================  ===============================================================================
"""

from getty_tx.gateway.gateway import Gateway
from getty_tx.gateway.settings import GatewaySettings, Rules, readSettings

__all__ = ["Gateway", "GatewaySettings", "Rules", "readSettings"]
