"""docs/guide/grpc-services.md: its code."""

from __future__ import annotations

import re
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from getty_tx.http.grpc.health import Serving
from getty_tx.http.grpc.reflection import SERVICES
from tests.docs.test_guide import read


class PageTests(SynchronousTestCase):
    """The page."""

    def test_code(self) -> None:
        """A server with both services, and what is known of its health."""
        names: dict[str, Any] = {}
        for block in re.findall(r"```python\n(.*?)```", read("guide/grpc-services.md"), re.DOTALL):
            exec(block, names)
        wanted = dict.fromkeys(["", "grpc.health.v1.Health", *SERVICES, "helloworld.Greeter"], Serving.SERVING)
        self.assertEqual(names["health"].all(), wanted)
