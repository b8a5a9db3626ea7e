"""grpcio's server with threads: ten, as its own examples have it.

python grpc_threads.py PORT
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc_echo

server = grpc.server(ThreadPoolExecutor(10))
grpc_echo.addTo(server, grpc_echo.Plain())
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
server.wait_for_termination()
