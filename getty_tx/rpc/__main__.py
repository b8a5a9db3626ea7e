"""``python -m getty_tx.rpc``: calls from a terminal; see :py:mod:`getty_tx.rpc.command`."""

from __future__ import annotations

from getty_tx.rpc.command import main

if __name__ == "__main__":
    main()
