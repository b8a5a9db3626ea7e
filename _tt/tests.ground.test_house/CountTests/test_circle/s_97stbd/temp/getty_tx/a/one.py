from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from getty_tx.b import two
