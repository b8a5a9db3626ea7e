"""
From a Twisted transport to a session, a folder for each transport that is not a plain stream.

================  =======================================================================================
``base``          what the connections over every transport share
``stream``        TCP, TLS, unix sockets
``factories``     Twisted's factories of sessions
``connector``     an ``IConnector`` over any client endpoint
``reconnecting``  the factory that dials again
``udp/``          datagrams: socket, peers, endpoints, session
``websocket/``    WebSocket: engine, frames, session, handshake, endpoints
================  =======================================================================================
"""
