"""
Why a session does not read: the bits of ``Inbound.paused``. While any is set, no package is delivered.
"""

__all__ = ["CALLBACK", "CLOSED", "CRON_BARRIER", "HOLDS_QUEUED", "PRESSURE", "QUOTA", "TLS", "USER", "WORKERS"]

#: ``pauseReading()`` was called.
USER = 1
#: More than ``highWater`` bytes wait to be sent.
PRESSURE = 2
#: An ``async def`` callback has not returned yet, or onOpen has not been called.
CALLBACK = 4
#: The worker queue is full.
WORKERS = 8
#: The session is closing: what comes is discarded.
CLOSED = 16
#: startTLS was called: what comes after belongs to TLS.
TLS = 32
#: An onCron waits for the messages before it, which are with the workers.
CRON_BARRIER = 64
#: Of a compressed stream enough was delivered in this turn of the reactor; the next one goes on.
QUOTA = 128

#: The reasons that hold messages which wait for a worker, too.
HOLDS_QUEUED = USER | PRESSURE
