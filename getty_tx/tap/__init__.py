"""
The ``twistd`` commands: ``getty-echo``, ``getty-serve``, ``getty-rpc``, ``getty-http``, ``getty-asgi``,
``getty-grpc``, ``getty-gateway``, ``getty-dial``.

===============  ==========================================================================
``echo``         ``getty-echo``: sends every package back
``serve``        ``getty-serve``: serves a user's codec and listener
``rpc``          ``getty-rpc``: serves calls of a user's services
``http``         ``getty-http``: serves a router of handlers
``asgi``         ``getty-asgi``: serves an ASGI application
``grpc``         ``getty-grpc``: serves servicers of generated code
``gateway``      ``getty-gateway``: serves clients of Centrifuge's protocol
``web``          what ``http``, ``asgi`` and ``gateway`` share
``reloading``    what ``--reload`` watches, and how a command starts anew
``environment``  what ``--env-file`` sets
``listen``       the options of a server, and the services of all but ``dial``
``dial``         ``getty-dial``: its options and its service
``ping``         the stock listener of ``getty-dial``: numbered messages and round-trip times
``options``      the options that all commands have, those of commands with a codec, and their checks
``ending``       how a command ends: the error of a start, the exit status, SIGTERM
``lookup``       finds listeners and services by description, such as ``mypkg.service:Listener``
===============  ==========================================================================
"""
