"""
HTTP/2: frames, streams and connections, of servers and of clients.

- ``interfaces``: the engine, which knows frames, header compression and the states of streams, and what it tells;
  ``ngh2engine``, ``h2engine``: those there are; ``engines`` chooses.
- ``connection``: a session, an engine and streams; ``server``, ``client``: its two sides; ``codec``: of the session.
- ``watch``: the times of a connection.
- ``stream``: one stream, which classes of other rooms extend.
- ``guard``: what a peer may waste; ``numbers``: streams that a client has opened and ended; ``limits``: what it may do.
- ``errors``: how streams and connections end.
"""
