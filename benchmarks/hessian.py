"""Measure Hessian beside python-hessian (module ``pyhessian``), which writes Hessian 1 and reads both.

    python -m benchmarks.hessian
    python -m benchmarks.hessian --row call --rounds 20

Each row is a value. Both write it, each in its own version of the format, and both read the same bytes of Hessian 2;
first of all it is looked at whether they read the same. They take turns, a few milliseconds each, and the best turn of
each counts: on a machine that does other things as well, ratios are near the truth, and times are not.

Columns: bytes of Hessian 2; microseconds to write and to read one, and those of python-hessian as multiples of them.
Without python-hessian (``pip install python-hessian``) there are only the times.
"""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from getty_tx.rpc import hessian

if TYPE_CHECKING:
    from collections.abc import Callable

try:
    from pyhessian import protocol
    from pyhessian.encoder import encode_object
    from pyhessian.parser import Parser
except ImportError:
    protocol = None

#: Seconds of one turn.
TURN = 0.005

CLASS = "com.example.User"


def user(number: int) -> dict[str, Any]:
    """The fields of an object."""
    return {
        "id": hessian.Long(number),
        "name": f"user number {number}",
        "mail": f"user{number}@example.com",
        "age": number % 90,
        "score": number / 4,
        "active": number % 3 > 0,
    }


def valuesByName() -> dict[str, Any]:
    """The rows."""
    attachments = {
        "path": "com.ex.Echo",
        "interface": "com.ex.Echo",
        "version": "1.0",
        "timeout": "3000",
        "dubbo": "2.0.2",
    }
    return {
        "null": None,
        "hello": "hello",
        "call": ["2.0.2", "com.ex.Echo", "1.0", "say", "Ljava/lang/String;", "hello, world", attachments],
        "ints": list(range(-500, 500)),
        "large ints": list(range(2**20, 2**20 + 1000)),
        "longs": [hessian.Long(number) for number in range(2**33, 2**33 + 1000)],
        "doubles": [number / 7 for number in range(1000)],
        "words": [f"word number {number}" for number in range(1000)],
        "text": "all that is ASCII ab " * 500,
        "Chinese": ["\u4f60\u597d\uff0c\u4e16\u754c" for _ in range(100)],
        "Chinese text": "\u4f60\u597d\uff0c\u4e16\u754c" * 40,
        "binary": bytes(range(256)) * 100,
        "dates": [datetime(2024, 1, 1, 0, 0, second, tzinfo=UTC) for second in range(60)],
        "map": {f"key {number}": f"value {number}" for number in range(500)},
        "objects": [hessian.JavaObject(CLASS, user(number)) for number in range(100)],
        "maps": [user(number) for number in range(100)],
        "nested": [[[number, [str(number), {"x": [number]}]] for number in range(10)] for _ in range(10)],
    }


def theirs(value: Any) -> Any:
    """The value for python-hessian."""
    if isinstance(value, hessian.JavaObject):
        fields = {name: theirs(one) for name, one in value.fields.items()}
        made = protocol.object_factory(value.name, list(fields))
        made.__setstate__(fields)
        return made
    if isinstance(value, bytes):
        return protocol.Binary(value)
    if isinstance(value, hessian.Long) or (type(value) is int and not -(2**31) <= value < 2**31):
        from pyhessian.data_types import long

        return long(value)
    if isinstance(value, list):
        return [theirs(one) for one in value]
    if isinstance(value, dict):
        return {key: theirs(one) for key, one in value.items()}
    return value


def readTheirs(data: bytes) -> Any:
    """Read Hessian 2 with python-hessian, as the reply of a call."""
    return Parser().parse_string(b"H\x02\x00R" + data).value


def plain(value: Any) -> Any:
    """What both have read, made comparable: python-hessian has tuples, naive dates, and classes of its own."""
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, hessian.JavaObject):
        return plain(value.fields)
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    if protocol is not None and isinstance(value, protocol.Binary):
        return value.value
    if protocol is not None and isinstance(value, protocol.Object):
        return plain(value.__getstate__())
    return value


def compared(*works: Callable[[], Any], rounds: int) -> list[float]:
    """The microseconds that each takes, at best, in turns."""
    counts, best = [], []
    for work in works:
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < TURN:
            work()
            count += 1
        counts.append(count)
        best.append(float("inf"))
    for _ in range(rounds):
        for at, work in enumerate(works):
            start = time.perf_counter()
            for _ in range(counts[at]):
                work()
            best[at] = min(best[at], (time.perf_counter() - start) / counts[at] * 1e6)
    return best


def row(value: Any, rounds: int) -> str:
    """The columns of a value."""
    data = hessian.encode(value)
    if protocol is None:
        write, read = compared(lambda: hessian.encode(value), lambda: hessian.decode(data), rounds=rounds)
        return f"{len(data):8}{write:10.2f}{read:10.2f}{'-':>9}{'-':>9}"
    other = theirs(value)
    if plain(readTheirs(data)) != plain(hessian.decode(data)[0]):
        return " python-hessian reads another value"
    write, write2, read, read2 = compared(
        lambda: hessian.encode(value),
        lambda: encode_object(other),
        lambda: hessian.decode(data),
        lambda: readTheirs(data),
        rounds=rounds,
    )
    return f"{len(data):8}{write:10.2f}{read:10.2f}{write2 / write:9.1f}{read2 / read:9.1f}"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    values = valuesByName()
    parser.add_argument("--row", action="append", choices=list(values), help="only this one; may be repeated")
    parser.add_argument("--rounds", type=int, default=30, help="turns of each (30)")
    options = parser.parse_args()
    print(f"{'':14}{'bytes':>8}{'write us':>10}{'read us':>10}{'write x':>9}{'read x':>9}")
    for name in options.row or values:
        print(f"{name:14}{row(values[name], options.rounds)}")


if __name__ == "__main__":
    main()
