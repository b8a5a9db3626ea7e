"""
Compression formats for byte streams, without I/O; :py:mod:`getty_tx.session.compressed` applies them to a session.

- ``base``: the interfaces ``Compressor`` and ``Decompressor``, and the error for bad data.
- ``deflate``: raw deflate, with Python's zlib.
- ``snappy``: Snappy's framing format; its library is an extra.
- ``zstd``: Zstandard; before Python 3.14 its library is an extra.
- ``formats``: find a format by its description, such as ``deflate:level=6``; check a setting.
"""

from __future__ import annotations

from getty_tx.compression.formats import findFormat

__all__ = ["findFormat"]
