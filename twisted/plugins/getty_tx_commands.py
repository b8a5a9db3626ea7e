"""
The ``twistd`` commands of getty_tx.

``twistd`` imports every dropin at each start: this one names modules and imports none of them.
"""

from twisted.application.service import ServiceMaker

gettyEcho = ServiceMaker(
    "getty_tx echo server",
    "getty_tx.tap.echo",
    "Send every package back, on any number of endpoints.",
    "getty-echo",
)

gettyServe = ServiceMaker(
    "getty_tx server",
    "getty_tx.tap.serve",
    "Serve your own codec and listener, on any number of endpoints.",
    "getty-serve",
)

gettyRPC = ServiceMaker(
    "getty_tx server of calls",
    "getty_tx.tap.rpc",
    "Serve calls of your own services, on any number of endpoints.",
    "getty-rpc",
)

gettyHTTP = ServiceMaker(
    "getty_tx server of HTTP",
    "getty_tx.tap.http",
    "Serve a router of handlers over HTTP/1.1.",
    "getty-http",
)

gettyASGI = ServiceMaker(
    "getty_tx server of ASGI applications",
    "getty_tx.tap.asgi",
    "Serve an ASGI application over HTTP/1.1.",
    "getty-asgi",
)

gettyGRPC = ServiceMaker(
    "getty_tx server of gRPC",
    "getty_tx.tap.grpc",
    "Serve servicers of generated code over HTTP/2.",
    "getty-grpc",
)

gettyGateway = ServiceMaker(
    "getty_tx gateway",
    "getty_tx.tap.gateway",
    "Serve WebSocket clients of Centrifuge's protocol, and an HTTP API that publishes.",
    "getty-gateway",
)

gettyDial = ServiceMaker(
    "getty_tx client pool",
    "getty_tx.tap.dial",
    "Dial a server with a pool of sessions that reconnect, and log round-trip times.",
    "getty-dial",
)
