"""
Processes that ``benchmarks.acceptance.registry`` starts.

- ``provide``: one that provides the service ``calls``.
- ``follow``: a client that follows it and measures; each scenario is a function.
- ``fill``: one that registers thousands of providers and changes them.
- ``stores``: etcd, ZooKeeper and a folder, to be killed, stopped and wiped.
"""
