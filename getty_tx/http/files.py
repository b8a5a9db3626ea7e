"""http.Files: the files of a folder as an application."""

from __future__ import annotations

import errno
import mimetypes
import os
import stat
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

from twisted.logger import Logger
from zope.interface import implementer

from getty_tx import settings
from getty_tx.errors import CodecError, RefuseRequest, SettingError
from getty_tx.http.answers import AnswerFields
from getty_tx.http.conditions import acceptedOf, rangeOf, statusFor
from getty_tx.http.interfaces import IApplication

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.python.failure import Failure

    from getty_tx.http.interfaces import IExchange
    from getty_tx.http.request import Request

__all__ = ["Files"]

log = Logger()

#: Bytes of a file that is read and answered at once; of a larger one the system sends the bytes.
SMALL = 64 * 1024

#: Heads that are kept, at most.
MAX_KNOWN = 1024

#: Names of encodings, by the end of a file's name (IANA's registry of HTTP content codings).
_ENCODINGS = {"br": "br", "gz": "gzip", "zst": "zstd"}

#: What mimetypes of some Python does not know, or calls by an old name (RFC 9239, and IANA's registry).
_TYPES = {
    ".avif": "image/avif",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}

#: Of what is compressed itself: a client is to save it as it is.
_COMPRESSED = {".gz": "application/gzip", ".bz2": "application/x-bzip2", ".xz": "application/x-xz"}

#: Where Linux tells what descriptors lead to, and opens the same again (proc(5)).
_DESCRIPTORS = "/proc/self/fd"

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.EINVAL})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})


@implementer(IApplication)
class Files:
    """
    Serves the files of a folder, by ``GET`` and ``HEAD``.

    ::

        router.mount("/static", http.Files("public", maxAge=3600))

    Answers have ``ETag`` and ``Last-Modified``, and conditional requests and single ranges are served. Folders are not
    listed. What is no regular file inside the folder, after all symbolic links, is answered with 404, as are names that
    begin with a dot.

    :param root: the folder.
    :param index: the name of the file that is served for a folder; None: folders are answered with 404.
    :param dotFiles: whether names that begin with a dot are served.
    :param maxAge: seconds for which a client may keep a file without asking again; None: it is not told.
    :param compressed: ends of names, the preferred one first: ``a.css.br`` is sent for ``a.css`` to a client that takes
        it. ``br``, ``gz`` and ``zst``.
    :raise SettingError: the folder is none, another parameter is wrong, or ``/proc`` is not mounted.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        index: str | None = "index.html",
        dotFiles: bool = False,
        maxAge: int | None = None,
        compressed: Sequence[str] = ("br", "gz"),
    ) -> None:
        self._root = os.path.abspath(root)
        self._realRoot = os.path.realpath(root)
        if not os.path.isdir(self._root):
            raise SettingError(f"{os.fspath(root)!r} is no folder")
        if not os.path.isdir(_DESCRIPTORS):
            raise SettingError(f"http.Files needs {_DESCRIPTORS}: mount proc")
        if index is not None and (not index or "/" in index):
            raise SettingError(f"index={index!r} is no name of a file")
        for end in compressed:
            if end not in _ENCODINGS:
                raise SettingError(f"compressed={end!r} is none of {', '.join(_ENCODINGS)}")
        self._index = index
        self._dotFiles = dotFiles
        self._maxAge = settings.optionalCount("maxAge", maxAge)
        self._ends = {_ENCODINGS[end]: end for end in compressed}
        self._known: dict[tuple[str, str, bool], AnswerFields] = {}

    def serve(self, request: Request, exchange: IExchange) -> None:
        """Answer with a file."""
        if request.method not in ("GET", "HEAD"):
            raise RefuseRequest(405, headers={"Allow": "GET, HEAD"})
        names, isFolder = self._namesOf(request)
        try:
            self._find(request, exchange, "/".join([self._root, *names]), isFolder)
        except OSError as error:
            if error.errno in _ABSENT:
                raise RefuseRequest(404) from None
            if error.errno in _FORBIDDEN:
                raise RefuseRequest(403) from None
            raise

    def _namesOf(self, request: Request) -> tuple[list[str], bool]:
        """The names of the path below the root, and whether it ends with a slash. :raise RefuseRequest: it is none."""
        rest = request.rawPath[len(request.root) :]
        if rest and not rest.startswith(b"/"):
            raise RefuseRequest(404)
        parts = rest.split(b"/")[1:]
        isFolder = bool(parts) and not parts[-1]
        if isFolder:
            parts.pop()
        names = []
        for part in parts:
            name = unquote_to_bytes(part)
            if name in (b"", b".", b"..") or b"/" in name or b"\\" in name or b"\0" in name:
                raise RefuseRequest(404)
            if name.startswith(b".") and not self._dotFiles:
                raise RefuseRequest(404)
            names.append(os.fsdecode(name))
        return names, isFolder

    def _find(self, request: Request, exchange: IExchange, path: str, isFolder: bool) -> None:
        name = os.fsdecode(unquote_to_bytes(request.rawPath.rpartition(b"/")[2]))
        place, path, mode = self._reach(path)
        if stat.S_ISDIR(mode):
            os.close(place)
            if not isFolder:
                self._redirect(request, exchange)
                return
            if self._index is None:
                raise RefuseRequest(404)
            isFolder, name = False, self._index
            place, path, mode = self._reach(f"{path}/{name}")
        # The type is that of the name that was asked for, not of what a symbolic link leads to.
        kind = _typeOf(name)
        encoding, varies = "", False
        try:
            if isFolder or not stat.S_ISREG(mode):
                raise RefuseRequest(404)
            if self._ends:
                encoding, other, varies = self._neighbour(request, path)
                if encoding:
                    os.close(place)
                    place = other
            number = os.open(_placeOf(place), os.O_RDONLY | os.O_NONBLOCK)
        finally:
            os.close(place)
        try:
            self._send(request, exchange, number, kind, encoding, varies)
        finally:
            os.close(number)

    def _reach(self, path: str) -> tuple[int, str, int]:
        """
        Go to what stands at a path, without opening it: to open a device or a FIFO may do something.

        What it leads to is asked of the system afterwards, so that nobody can put a symbolic link in its place between.

        :return: a descriptor that holds the place, its path without symbolic links, and its mode.
        :raise RefuseRequest: it is out of the root. :raise OSError: there is nothing.
        """
        place = os.open(path, os.O_PATH)
        try:
            real = os.readlink(_placeOf(place))
            if not self._isInside(real):
                # A root that is a symbolic link may lead elsewhere by now.
                self._realRoot = os.path.realpath(self._root)
                if not self._isInside(real):
                    raise RefuseRequest(404)
            return place, real, os.fstat(place).st_mode
        except BaseException:
            os.close(place)
            raise

    def _isInside(self, real: str) -> bool:
        return real == self._realRoot or real.startswith(os.path.join(self._realRoot, ""))

    def _redirect(self, request: Request, exchange: IExchange) -> None:
        """To the same path with a slash. It begins with one slash only: empty names were refused before."""
        path, mark, query = request.target.partition(b"?")
        place = quote(request.rootPath).encode() + path + b"/" + mark + query
        exchange.answer(request, 301, AnswerFields([(b"Location", place)]), b"")

    def _neighbour(self, request: Request, path: str) -> tuple[str, int, bool]:
        """The encoding and the place of the compressed form that is to be sent, or none; and whether there is any."""
        there = []
        for encoding, end in self._ends.items():
            try:
                if stat.S_ISREG(os.stat(f"{path}.{end}").st_mode) and os.access(f"{path}.{end}", os.R_OK):
                    there.append(encoding)
            except OSError:
                pass
        if there:
            for encoding in acceptedOf(request.header("Accept-Encoding"), there):
                try:
                    place, _, mode = self._reach(f"{path}.{self._ends[encoding]}")
                except (OSError, RefuseRequest):
                    continue
                if stat.S_ISREG(mode):
                    return encoding, place, True
                os.close(place)
        return "", -1, bool(there)

    def _send(self, request: Request, exchange: IExchange, number: int, kind: str, encoding: str, varies: bool) -> None:
        status = os.fstat(number)
        size = status.st_size
        tag = f'"{status.st_mtime_ns:x}-{size:x}-{status.st_ino:x}"'
        answer = statusFor(request, tag, int(status.st_mtime))
        if answer == 412:
            raise RefuseRequest(412)
        fields = self._fieldsOf(tag, int(status.st_mtime), kind, encoding, varies)
        if answer == 304:
            exchange.answer(request, 304, fields, b"")
            return
        try:
            part = rangeOf(request, tag, size)
        except ValueError:
            raise RefuseRequest(416, headers={"Content-Range": f"bytes */{size}"}) from None
        start, count = (0, size) if part is None else part
        if part is not None:
            answer = 206
            fields = _withRange(fields, start, count, size)
        if request.method == "HEAD":
            exchange.start(request, answer, fields, count)
            exchange.end(request)
        elif count <= SMALL:
            data = os.pread(number, count, start)
            if len(data) != count:
                log.warn("{request}: the file has become shorter while it was read", request=request)
                raise RefuseRequest(500)
            exchange.answer(request, answer, fields, data)
        else:
            exchange.start(request, answer, fields, count)
            with os.fdopen(number, "rb", buffering=0, closefd=False) as file:
                sent = exchange.writeFile(request, file, start, count)
            sent.addCallback(_sent, request, exchange).addErrback(_failed, request, exchange)

    def _fieldsOf(self, tag: str, changed: int, kind: str, encoding: str, varies: bool) -> AnswerFields:
        key = (tag + kind, encoding, varies)
        fields = self._known.get(key)
        if fields is None:
            pairs = [
                ("Content-Type", kind),
                ("ETag", tag),
                ("Last-Modified", formatdate(changed, usegmt=True)),
                ("Accept-Ranges", "bytes"),
                ("X-Content-Type-Options", "nosniff"),
            ]
            if encoding:
                pairs.append(("Content-Encoding", encoding))
            if varies:
                pairs.append(("Vary", "Accept-Encoding"))
            if self._maxAge is not None:
                pairs.append(("Cache-Control", f"max-age={self._maxAge}"))
            fields = AnswerFields([(name.encode(), value.encode()) for name, value in pairs])
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[key] = fields
        return fields


def _withRange(fields: AnswerFields, start: int, count: int, size: int) -> AnswerFields:
    more = AnswerFields([(b"Content-Range", b"bytes %d-%d/%d" % (start, start + count - 1, size))])
    more.lines += fields.lines
    return more


def _placeOf(number: int) -> str:
    """The symbolic link from a descriptor to what it holds."""
    return f"{_DESCRIPTORS}/{number}"


def _typeOf(name: str) -> str:
    """The content type of a file of this name."""
    end = os.path.splitext(name)[1].lower()
    if end in _COMPRESSED:
        return _COMPRESSED[end]
    if not mimetypes.inited:
        mimetypes.init()
    kind = _TYPES.get(end) or mimetypes.types_map.get(end, "application/octet-stream")
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def _sent(_: int, request: Request, exchange: IExchange) -> None:
    if exchange.isServing(request):
        exchange.end(request)


def _failed(failure: Failure, request: Request, exchange: IExchange) -> None:
    """The file has become shorter, or cannot be read any more: the client is to see that the answer is cut off."""
    error = failure.value
    assert error is not None
    if isinstance(error, CodecError | OSError):
        log.warn("{request}: the file cannot be sent to its end: {error}", request=request, error=error)
    if exchange.isServing(request):
        exchange.fail(request, error)
