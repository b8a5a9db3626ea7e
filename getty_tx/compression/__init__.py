"""
Compression of byte streams: what ``session.compression`` means.

``formats`` has what a description such as ``deflate:level=6`` stands for, ``snappy`` and ``zstd`` the two formats whose
libraries are extras, and ``ways`` the inbound and the outbound that a session has when its stream is compressed. A
session whose stream is not has nothing of it.
"""

from __future__ import annotations

from getty_tx.compression.formats import findFormat

__all__ = ["findFormat"]
