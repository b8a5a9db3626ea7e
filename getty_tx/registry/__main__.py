"""``python -m getty_tx.registry``: providers in a terminal; see :py:mod:`getty_tx.registry.command`."""

from __future__ import annotations

from getty_tx.registry.command import main

if __name__ == "__main__":
    main()
