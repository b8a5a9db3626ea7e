"""
Why a session does not read: the bits of ``Inbound.paused``. While any is set, no package is delivered.
"""

__all__ = [
    "CALLBACK",
    "CALLS",
    "CLOSED",
    "CRON_BARRIER",
    "HOLDS_QUEUED",
    "PRESSURE",
    "QUOTA",
    "RATE",
    "RELAY",
    "TLS",
    "UPGRADE",
    "USER",
    "WORKERS",
]

#: ``pauseReading()`` was called.
USER = 1
#: More than ``highWater`` bytes wait to be sent.
PRESSURE = 2
#: An ``async def`` callback has not returned, or onOpen was not called yet.
CALLBACK = 4
#: The worker queue is full.
WORKERS = 8
#: The session is closing: what comes is discarded.
CLOSED = 16
#: startTLS was called: what comes after belongs to TLS.
TLS = 32
#: An onCron waits for the packages before it, which workers have.
CRON_BARRIER = 64
#: The quota of a compressed stream for this iteration of the reactor is used up; the next iteration goes on.
QUOTA = 128
#: A relay waits for the other side, or has its end.
RELAY = 256
#: What comes may belong to another protocol, which is not agreed upon yet. A peer that ends its side is let go.
UPGRADE = 512
#: The peer has sent more than a RateLimit lets through.
RATE = 1024
#: As many calls of the peer are being served as may be, or long replies to them wait.
CALLS = 2048

#: The reasons that also hold packages which wait for a worker.
HOLDS_QUEUED = USER | PRESSURE | RATE | CALLS
