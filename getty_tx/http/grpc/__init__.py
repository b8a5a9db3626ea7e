"""
gRPC over HTTP/2: servers and channels for generated code.

- ``server``, ``context``: the service, and what its calls share; ``methods``: what generated code registers.
- ``servercall``: a call that is served; ``servicercontext``: what its handler gets.
- ``messages``, ``status``, ``timeouts``: the wire; ``errors``: what calls fail with.
"""
