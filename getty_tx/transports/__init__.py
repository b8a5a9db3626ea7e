"""
Connections: from a Twisted transport to a session. UDP and WebSocket have a folder each.

================  =======================================================================================
``base``          the base of the connections over every transport
``opening``         what exists only while an ``async def newSession`` runs
``stream``        the Twisted protocol over TCP, TLS and unix sockets
``factories``     Twisted factories of sessions
``connector``     an ``IConnector`` over any client endpoint
``reconnecting``  the client factory that replaces a lost session
``udp/``          UDP: session, peers, socket, endpoints
``websocket/``    WebSocket: frames, session, engine, endpoints
================  =======================================================================================
"""
