"""
The life of one session, and what the sessions of one service share.

=============  ==========================================================================================
``session``    ``Session``: what applications hold of a connection; its settings
``lifecycle``  the order of its events
``state``      what the parts of a session share
``states``     the states of a session, and what each event does in them
``inbound``    the way in: bytes to packages to the listener
``batches``    packages in lists: listeners with ``onMessages``, and ``writePkgs``
``gathering``  unread bytes while they wait, and the search for a mark in them
``pausing``    the reasons for which a session does not read
``outbound``   the way out: encoded packages to the transport
``slices``     how the bytes that wait get to the transport
``buffers``    the buffers that wait to be sent
``blocked``    what exists only while bytes wait to be sent: time-outs, producers, relief
``cork``       sending at the end of the reactor's iteration
``parts``      what leaves by itself between the packages: files, what a relay has in a pipe
``files``      ``session.sendFile``
``relay``      ``relay``: two sessions joined byte for byte
``zerocopy``   ``session.zeroCopy``
``splicing``   the bytes of a relay between two plain sockets
``facade``     ``session.transport``
``wrappers``   what lies below a transport: wrappers, TLS, the socket
``addresses``  addresses in words
``compressed`` the ways in and out of a session whose stream is compressed
``limits``     when silence, a close or a life has lasted too long, and whether the peer's end is the session's
``deadlines``  when calls over sessions end, without a timer for each
``cron``       ``onCron`` of many sessions with one timer
``context``    what the sessions of one service share
``threads``    calls from other threads
``observers``  hooks that see every session of a service
``totals``     ``session.stats``; totals of ended sessions, by endpoint and close reason
``refusals``   refused connections, counted by reason
``ratelimit``  ``RateLimit``: how much a peer may ask for in a second
``faults``     which faults are worth a line in the log
=============  ==========================================================================================

``blocked`` and ``cork`` know ``outbound``, which makes and uses them, by its type only: it is imported for annotations.
"""
