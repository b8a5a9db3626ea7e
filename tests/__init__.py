"""The tests of getty_tx: ``trial tests``."""

import os
import sys

# Some hundred processes start in the tests. Each of them would compile what it imports of getty_tx anew, which is more
# than half of its start, where the environment forbids to keep what was compiled; git ignores the caches.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Those processes find listeners here (tests.support.programs). hypothesis would be a quarter of their start.
if "twisted.trial" in sys.modules:
    from hypothesis import HealthCheck, settings

    from tests.support.long import examples

    # That examples are drawn slowly, or take long, says something of the machine, and not of the code.
    settings.register_profile(
        "getty_tx",
        suppress_health_check=[HealthCheck.too_slow],
        deadline=None,
        max_examples=examples(settings().max_examples),
    )
    settings.load_profile("getty_tx")
