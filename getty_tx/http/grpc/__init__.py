"""
gRPC over HTTP/2: servers and channels for generated code.

- ``server``, ``context``: the service, and what its calls share; ``methods``: what generated code registers.
- ``serverconnection``: a connection, its pings and its age; ``servercall``: a call that is served; ``requests``: what
  it was sent; ``servicercontext``: what its handler gets; ``bridging``: Deferreds in tasks of asyncio; ``threads``:
  handlers that block.
- ``messages``, ``metadata``, ``status``, ``timeouts``: the wire; ``errors``: what calls fail with.
"""
