"""Random requests of HTTP/1.1, right and wrong, and random damage to them: what ``fuzz_http`` sends."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


def _either(text: str) -> list[str]:
    return text.split("|")


METHODS = _either("GET|GET|GET|GET|POST|POST|POST|POST|HEAD|HEAD|PUT|DELETE|OPTIONS|PATCH|QUERY|M-SEARCH|TRACE")
WRONG_METHODS = ["A" * 9000, *_either("CONNECT|PRI|get|G@T||GET | GET|\x16\x03\x01|BREW|\r\nGET|\nGET")]
WRONG_TARGETS = ["/" + "a" * 9000, "http://b/", "http://u@a/", "ftp://a/", "http://", "//"]
WRONG_TARGETS += _either("/a#b|/a\\b|*|a|a:80|/\x85|/\x00|/ /||/%zz%|?")
WRONG_VERSIONS = _either("HTTP/2.0|HTTP/1.2|HTTP/0.9|http/1.1|HTTP/1|RTSP/1.0||HTTP/1.1 |HTTP/01.1")
WRONG_HOSTS = ["", "Host: a\r\nHost: a", "Host: a/b", "Host: b"]
FIELDS = _either("A: b|Accept: */*|Cookie: a=b|Cookie: c=d|X-Empty:|Upgrade: h2c|Connection: Upgrade|TE: trailers")
FIELDS += _either("HTTP2-Settings: AAMA|Trailer: T|Connection: keep-alive|A:\t\xe4\xff |X_Y: z|Range: bytes=0-1")
FIELDS += _either("Range: bytes=-9,3-|If-Modified-Since: never|Accept-Encoding: gzip, *;q=0")
FIELDS += _either("Forwarded: for=b|X-Forwarded-For: 1.2.3.4|If-None-Match: *|Connection: x, y|Proxy: a")
WRONG_FIELDS = _either("A : b| A: b|A|: b|A: b\x00|A: b\x85c|A: b\rC: d|A: b\nC: d|Host: b|Host: a b|A(: b|A: \x7f|")
WRONG_FIELDS += _either("Expect: more|Content-Length: 1|Content-Length: +1|Content-Length: 1, 1|Content-Length:")
WRONG_FIELDS += _either("Transfer-Encoding: chunked|Transfer-Encoding: xchunked|Transfer-Encoding : chunked")
WRONG_FIELDS += _either("Transfer-Encoding: gzip, chunked|Transfer-Encoding: identity|Connection: close, \x01")
WRONG_FIELDS += [f"Content-Length: {2**63}", "Content-Length: " + "9" * 50, "A: b\r\n" * 120, "A: " + "b" * 40000]
WEBSOCKET = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
WEBSOCKET += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
EXTENSIONS = ["", "", "", ";a", " ; a=b", ';a="b c"', ";" + "x" * 100]
WRONG_SIZES = ["1" * 17, "1;" + "a" * 5000, *_either("x|| 1|1 |0x1|+1|-1|1_0|1;a\nb|1\n|1\r|\r\n1")]
TRAILERS = ["", "", "T: x\r\n", "Host: b\r\nContent-Length: 7\r\n", "A: b\r\nA: c\r\n"]
WRONG_TRAILERS = ["A\r\n", "A : b\r\n", " A: b\r\n", "A: b\nC: d\r\n", "A: \x00\r\n", "\rX"]
WRONG_TRAILERS += ["A: b\r\n" * 120, "A: " + "b" * 40000 + "\r\n"]

#: What is put into bytes that were right.
TOKENS = b"\r\n|\n|\r|\x00|\x85| |:|;|\xff|0\r\n\r\n|\r\n\r\n|1\r\na\r\n|Content-Length: 5\r\n|Host: a\r\n".split(b"|")
TOKENS += b"Transfer-Encoding: chunked\r\n|Connection: close\r\n|Expect: 100-continue\r\n".split(b"|")

#: What a body may hold: read as a request, it would be one.
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass
class Sent:
    """
    What a client sends on one connection.

    :ivar data: the bytes.
    :ivar bodies: the body of each request by its target, in the order of the requests.
    :ivar isRight: all are well-formed, and nothing was damaged.
    """

    data: bytes = b""
    bodies: dict[bytes, bytes] = field(default_factory=dict)
    isRight: bool = True


class Maker:
    """
    Makes what one client sends.

    :param random: where all of it comes from.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._wrong = random.choice([0.0, 0.0, 0.01, 0.05])
        self._sent = Sent()

    def make(self) -> Sent:
        """Some requests, one behind the other."""
        random, sent = self._random, self._sent
        for number in range(random.choice([1, 1, 2, 3, 5, 20])):
            sent.data += self._request(number)
        if random.random() < 0.4:
            for _ in range(random.choice([1, 1, 2, 4])):
                sent.data = self._damaged(sent.data)
            sent.isRight = False
        return sent

    def _pick(self, right: list[str], wrong: list[str]) -> str:
        """One of the right ones, or now and then one of the others."""
        if self._random.random() < self._wrong:
            self._sent.isRight = False
            return self._random.choice(wrong)
        return self._random.choice(right)

    def _request(self, number: int) -> bytes:
        random = self._random
        method = self._pick(METHODS, WRONG_METHODS)
        path = random.choice(["/", "/s/", "/s/"]) + f"n{number}" + random.choice(["", "", "?a=b&c", "?%20"])
        if random.random() < 0.1:
            path = random.choice(["/f/small", "/f/large", "/f", "/f/none"]) + f"?n{number}"
        self._sent.bodies[path.encode()] = body = self._body()
        target = self._pick([path, path, path, "http://a" + path], WRONG_TARGETS)
        version = self._pick(["HTTP/1.1"] * 9 + ["HTTP/1.0"], WRONG_VERSIONS)
        lines = [f"{method} {target} {version}", self._pick(["Host: a"], WRONG_HOSTS)]
        lines += [self._pick(FIELDS, WRONG_FIELDS) for _ in range(random.choice([0, 1, 2, 5]))]
        if random.random() < 0.05:
            lines.append("Connection: close")
        if random.random() < 0.05:
            lines += WEBSOCKET
        if random.random() < 0.15:
            lines.append("Expect: 100-continue")
        framing, data = self._framed(body, version)
        if framing:
            lines.append(framing)
        else:
            self._sent.bodies[path.encode()] = b""
        if random.random() < 0.3:
            rest = lines[1:]
            random.shuffle(rest)
            lines[1:] = rest
        text = "\r\n".join(line for line in lines if line or random.random() < 0.1) + "\r\n\r\n"
        return self._pick(["", "", "", "\r\n"], ["\r\n\r\n\r\n", "\n"]).encode() + text.encode("latin-1") + data

    def _body(self) -> bytes:
        random = self._random
        size = random.choice([0, 1, 5, 30, 200, 3000, 70_000] if random.random() < 0.97 else [300_000, 1_200_000])
        # Memory is to tell of the server, not of what is sent.
        size = min(size, max(0, 2_000_000 - len(self._sent.data)))
        # In few bytes, as thousands of requests come to light where a head is damaged.
        if size <= 3000 and random.random() < 0.3:
            return (HIDDEN * (size // len(HIDDEN) + 1))[:size]
        return random.randbytes(size)

    def _framed(self, body: bytes, version: str) -> tuple[str, bytes]:
        """The field that says how long the body is, and the body."""
        random = self._random
        kind = random.randrange(5)
        if kind < 2:
            return "", b""
        if kind == 2 or version == "HTTP/1.0":
            size = len(body)
            length = self._pick([str(size)] * 5 + [f"00{size}"], ["-1", str(size + 1), str(2**64), "1e3"])
            return f"Content-Length: {length}", body
        parts = []
        while body:
            size = random.choice([1, 7, 100, 5000, 100_000])
            part, body = body[:size], body[size:]
            line = self._pick([f"{len(part):x}", f"{len(part):X}", f"0{len(part):x}"], WRONG_SIZES)
            if len(parts) < 100:
                line += random.choice(EXTENSIONS)
            parts.append(line.encode() + b"\r\n" + part + self._pick(["\r\n"], ["", "\n", "\r", "xx", "\rX"]).encode())
        parts.append(self._pick(["0", "000", "0;a"], ["", "-0"]).encode() + b"\r\n")
        parts.append((self._pick(TRAILERS, WRONG_TRAILERS) + "\r\n").encode())
        return self._pick(["Transfer-Encoding: chunked", "transfer-encoding:\tCHUNKED "], WRONG_FIELDS), b"".join(parts)

    def _damaged(self, data: bytes) -> bytes:
        random = self._random
        # Heads and lines of chunks matter more than what is in a body.
        at = random.randrange(min(len(data), random.choice([200, 1000, 1 << 30])) + 1)
        size = random.choice([1, 1, 2, 10, 100])
        kind = random.randrange(7)
        if kind == 0:
            return data[:at] + bytes(each ^ (1 << random.randrange(8)) for each in data[at : at + 1]) + data[at + 1 :]
        if kind == 1:
            return data[:at] + random.randbytes(1) + data[at + 1 :]
        if kind == 2:
            return data[:at] + data[at + size :]
        if kind == 3:
            return data[: at + size] + data[at:]
        if kind == 4:
            return data[:at]
        if kind == 5:
            other = random.randrange(len(data) + 1)
            return data[:at] + data[other : other + size] + data[at:]
        return data[:at] + random.choice(TOKENS) + data[at:]

    def pieces(self, data: bytes) -> list[bytes]:
        """The same bytes, cut as they might be sent."""
        random = self._random
        if random.random() < 0.3 or not data:
            return [data]
        if len(data) < 500 and random.random() < 0.2:
            return [bytes([byte]) for byte in data]
        most = random.choice([len(data), min(len(data), 500)])
        cuts = sorted({random.randrange(most + 1) for _ in range(random.choice([1, 3, 10]))} | {0, len(data)})
        return [data[begin:end] for begin, end in pairwise(cuts)]
