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

gettyDial = ServiceMaker(
    "getty_tx client pool",
    "getty_tx.tap.dial",
    "Dial a server with a pool of sessions that reconnect, and log round-trip times.",
    "getty-dial",
)
