"""The tests of getty_tx: ``trial tests``."""

import os
import sys

# Some hundred processes start in the tests. Each of them would compile what it imports of getty_tx anew, which is more
# than half of its start, where the environment forbids to keep what was compiled; git ignores the caches.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
