"""Seata's messages and their bytes: golden ones, random ones, and where a body ends."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from getty_tx import rpc
from getty_tx.rpc import seata
from getty_tx.rpc.seata.body import LONGEST, TYPES
from getty_tx.rpc.seata.messages import RESULTS
from tests.support.long import examples

#: Bodies without their types, where these are the number of the class.
GOLDEN = [
    (seata.GlobalBegin(60.0, "tx"), "0001 0000ea60 0002 7478"),
    (
        seata.GlobalBeginResult("127.0.0.1:8091:1"),
        "0002 01 00 0010 3132372e302e302e313a383039313a31 0000",
    ),
    (
        seata.GlobalBeginResult(succeeded=False, text="no", exception=seata.ExceptionCode.BeginFailed),
        "0002 00 0002 6e6f 01 0000 0000",
    ),
    (
        seata.BranchCommit("x", 5, seata.BranchType.TCC, "r", "d"),
        "0003 0001 78 0000000000000005 01 0001 72 00000001 64",
    ),
    (
        seata.BranchCommitResult("x", -2, seata.BranchStatus.PhaseTwo_Committed),
        "0004 01 00 0001 78 fffffffffffffffe 05",
    ),
    (seata.BranchRollback("x", 5, seata.BranchType.AT, "r"), "0005 0001 78 0000000000000005 00 0001 72 00000000"),
    (
        seata.BranchRollbackResult("x", 5, seata.BranchStatus.PhaseTwo_Rollbacked),
        "0006 01 00 0001 78 0000000000000005 08",
    ),
    (seata.GlobalCommit("x", "e"), "0007 0001 78 0001 65"),
    (seata.GlobalCommitResult(seata.GlobalStatus.Committed), "0008 01 00 09"),
    (seata.GlobalRollback("x"), "0009 0001 78 0000"),
    (seata.GlobalRollbackResult(seata.GlobalStatus.Rollbacked), "000a 01 00 0b"),
    (
        seata.BranchRegister("x", seata.BranchType.XA, "r", "t:1", "d"),
        "000b 0001 78 03 0001 72 00000003 743a31 00000001 64",
    ),
    (seata.BranchRegisterResult(7), "000c 01 00 0000000000000007"),
    (
        seata.BranchReport("x", 5, seata.BranchStatus.PhaseOne_Done, "r", "d", seata.BranchType.SAGA),
        "000d 0001 78 0000000000000005 02 0001 72 00000001 64 02",
    ),
    (seata.BranchReportResult(), "000e 01 00"),
    (seata.GlobalStatusQuery("x"), "000f 0001 78 0000"),
    (seata.GlobalStatusQueryResult(seata.GlobalStatus.Begin), "0010 01 00 01"),
    (seata.GlobalReport("x", "e", seata.GlobalStatus.Finished), "0011 0001 78 0001 65 0f"),
    (seata.GlobalReportResult(seata.GlobalStatus.Finished), "0012 01 00 0f"),
    (seata.GlobalLockQuery("x", 0, "r", "t:1"), "0015 0001 78 00 0001 72 00000003 743a31 00000000"),
    (seata.GlobalLockQueryResult(True), "0016 01 00 0001"),
    (
        seata.MergedMessages([seata.GlobalCommit("x"), seata.GlobalRollback("y")]),
        "003b 00000010 0002 0007 0001 78 0000 0009 0001 79 0000",
    ),
    (
        seata.MergedMessages([seata.GlobalCommit("x")], [9]),
        "003b 0000000d 0001 0007 0001 78 0000 00000009",
    ),
    (seata.MergedResults([seata.GlobalCommitResult(9)]), "003c 00000007 0001 0008 01 00 09"),
    (seata.RegisterTM("2.0.0", "app", "grp"), "0065 0005 322e302e30 0003 617070 0003 677270 0000"),
    (seata.RegisterTMResult(True, "2.0.0"), "0066 01 0005 322e302e30"),
    (
        seata.RegisterRM("2", "app", "grp", "e", "r1,r2"),
        "0067 0001 32 0003 617070 0003 677270 0001 65 00000005 72312c7232",
    ),
    (seata.RegisterRMResult(False, ""), "0068 00 0000"),
    (seata.DeleteUndoLog(seata.BranchType.AT, "r", 7), "006f 00 0001 72 0007"),
    (
        seata.BatchResult([seata.BranchReportResult(), seata.BranchRegisterResult(7)], [3, 4]),
        "0079 0000001a 0002 000e 01 00 000c 01 00 0000000000000007 00000003 00000004",
    ),
]

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_KINDS: dict[str, Any] = {
    "ms": st.integers(-(2**31), 2**31 - 1).map(lambda each: each / 1000),
    "s16": _texts,
    "s32": _texts,
    "i16": st.integers(-(2**15), 2**15 - 1),
    "i64": st.integers(-(2**63), 2**63 - 1),
    "flag": st.booleans(),
    "flag16": st.booleans(),
    **dict.fromkeys(("branchType", "branchStatus", "globalStatus"), st.integers(0, 255)),
}
_ids = st.integers(-(2**31), 2**31 - 1)


def _simple(kind: Any) -> Any:
    """Random messages of a class that has no others in it."""
    fields = {name: _KINDS[how] for name, how in kind.LAYOUT}
    if issubclass(kind, seata.Result):
        fields["exception"] = st.integers(0, 255)
        fails = st.builds(kind, succeeded=st.just(False), text=_texts, **fields)
        return fails | st.builds(kind, **fields)
    return st.builds(kind, **fields)


def _several(kind: Any, parts: Any, ids: bool) -> Any:
    return st.lists(parts, max_size=4).flatmap(
        lambda found: st.builds(
            kind,
            st.just(found),
            *([st.lists(_ids, min_size=len(found), max_size=len(found))] if ids else []),
        )
    )


_SEVERAL = (seata.MergedMessages, seata.MergedResults, seata.BatchResult)
_requests = st.one_of([_simple(kind) for kind in RESULTS if kind not in _SEVERAL])
_results = st.one_of([_simple(kind) for kind in TYPES.values() if kind not in RESULTS and kind not in _SEVERAL])
MESSAGES = st.one_of(
    _requests,
    _results,
    _several(seata.MergedMessages, _requests, True),
    _several(seata.MergedMessages, _requests, False),
    _several(seata.MergedResults, _results, False),
    _several(seata.BatchResult, _results, True),
)


class GoldenTests(SynchronousTestCase):
    """Bytes from messages, and messages from bytes."""

    def test_all(self) -> None:
        """Each message, both ways."""
        self.assertEqual({type(message) for message, _ in GOLDEN}, set(TYPES.values()))
        for message, text in GOLDEN:
            data = bytes.fromhex(text)
            self.assertEqual(seata.encode(message).hex(), data.hex(), message)
            self.assertEqual(seata.decode(data), message)
            self.assertEqual(seata.decode(memoryview(data)), message)

    def test_names(self) -> None:
        """Numbers that have a name are read as that; others, of newer peers, as they are."""
        read: Any = seata.decode(bytes.fromhex("0008 01 00 09"))
        self.assertIs(read.status, seata.GlobalStatus.Committed)
        read = seata.decode(bytes.fromhex("0008 00 0000 c8 c8"))
        self.assertEqual((read.status, read.exception), (200, 200))
        self.assertEqual(max(seata.ExceptionCode), 23)
        self.assertEqual((max(seata.GlobalStatus), max(seata.BranchStatus), max(seata.BranchType)), (20, 15, 3))

    def test_null(self) -> None:
        """Java's null is no text of 65,535 bytes, nor one of 4 GiB."""
        self.assertEqual(seata.decode(bytes.fromhex("0007 ffff ffff")), seata.GlobalCommit())
        read = seata.decode(bytes.fromhex("000b ffff 00 ffff ffffffff ffffffff"))
        self.assertEqual(read, seata.BranchRegister())

    def test_longTexts(self) -> None:
        """What Java would take for a length below zero is not written, but read, as Java writes it."""
        seata.encode(seata.GlobalCommit("x" * LONGEST))
        with self.assertRaisesRegex(rpc.PayloadError, r"GlobalCommit\(xid='xx.*32768 bytes are above the 32767"):
            seata.encode(seata.GlobalCommit("x" * (LONGEST + 1)))
        read: Any = seata.decode(b"\0\7" + b"\xff\xfe" + b"x" * 0xFFFE + b"\0\0")
        self.assertEqual(len(read.xid), 0xFFFE)
        long = seata.BranchRegister(data="x" * 100_000)
        self.assertEqual(seata.decode(seata.encode(long)), long)

    def test_everyAnswer(self) -> None:
        """A request has a result with the next number, but one that has none."""
        for request, results in RESULTS.items():
            if request is not seata.DeleteUndoLog:
                self.assertEqual(results[0].TYPE, request.TYPE + 1)
        self.assertEqual(RESULTS[seata.DeleteUndoLog], ())


class EndTests(SynchronousTestCase):
    """A body ends where its message does."""

    def refused(self, data: bytes, why: str) -> None:
        with self.assertRaisesRegex(rpc.PayloadError, why):
            seata.decode(data)

    def test_cuts(self) -> None:
        """Whatever is missing is an error."""
        for _, text in GOLDEN:
            data = bytes.fromhex(text)
            for end in range(len(data)):
                self.refused(data[:end], "ends within a field|of [0-9]+ bytes where|is the unknown|a message of")

    def test_surplus(self) -> None:
        """What a newer peer has behind the fields is skipped, also in merged messages."""
        for message, text in GOLDEN:
            self.assertEqual(seata.decode(bytes.fromhex(text) + b"more"), message)
        with_ids = bytes.fromhex("003b 0000000e 0001 0007 0000 0000 00000001 ffff")
        self.assertEqual(seata.decode(with_ids), seata.MergedMessages([seata.GlobalCommit()], [1]))
        results = bytes.fromhex("003c 00000009 0001 0008 01 00 09 ffff")
        self.assertEqual(seata.decode(results), seata.MergedResults([seata.GlobalCommitResult(9)]))
        # What is behind the length is no number of a request.
        without = bytes.fromhex("003b 00000008 0001 0007 0000 0000 00000001")
        self.assertEqual(seata.decode(without), seata.MergedMessages([seata.GlobalCommit()]))
        self.refused(bytes.fromhex("003b 0000000a 0001 0007 0000 0000 ffff"), "MergedMessages of 16 bytes ends within")

    def test_lengths(self) -> None:
        """Lengths that reach over the end, or below zero, and counts of what is not there."""
        self.refused(bytes.fromhex("0007 0003 7878 0000"), "GlobalCommit of 8 bytes ends within a field")
        self.refused(bytes.fromhex("0007 7fff 78 0000"), "a text of 32767 bytes where 3 are left")
        self.refused(bytes.fromhex("000b 0000 00 0000 7fffffff 78"), "a text of 2147483647 bytes where 1 are left")
        self.refused(bytes.fromhex("000b 0000 00 0000 fffffffe 78"), "a text of -2 bytes")
        self.refused(bytes.fromhex("003b 00000002 7fff"), "MergedMessages of 8 bytes ends within a field")
        self.refused(bytes.fromhex("003b 00000002 8000"), "-32768 messages, where Java reads 0 to 32767")
        self.refused(bytes.fromhex("003b 7fffffff 0000"), "messages of 2147483647 bytes where 2 are left")
        self.refused(bytes.fromhex("003b ffffffff 0000"), "messages of -1 bytes where 2 are left")
        # The length ends within a message that the body has.
        self.refused(bytes.fromhex("003b 00000007 0001 0007 0000 0000"), "MergedMessages of 13 bytes ends within")

    def test_values(self) -> None:
        """Types that there are not, flags that are none, texts that are no UTF-8."""
        for number in (0, 23, 61, 120, 122, 0xFFFF):
            self.refused(number.to_bytes(2), f"the unknown type {number}, at byte 2")
        self.refused(bytes.fromhex("0008 02 00 09"), "2 where 0 or 1 stands")
        self.refused(bytes.fromhex("0007 0001 ff 0000"), "codec can't decode")

    def test_nesting(self) -> None:
        """Merged messages have no merged ones in them, nor results, and results have no requests."""
        self.refused(bytes.fromhex("003b 0000000a 0001 003b 00000002 0000"), "MergedMessages cannot be in it")
        self.refused(bytes.fromhex("003b 00000006 0001 000e 01 00"), "BranchReportResult cannot be in it")
        self.refused(bytes.fromhex("003c 00000008 0001 0007 0000 0000"), "GlobalCommit cannot be in it")

    def test_writing(self) -> None:
        """Values that cannot be written are errors that name the field, before anything is sent."""
        commit, answer = seata.GlobalCommit(), seata.BranchReportResult()
        bad: list[tuple[Any, str]] = [
            (seata.GlobalBegin(float("nan")), r"GlobalBegin\(timeout=nan\): it is not seconds"),
            (seata.GlobalBegin(float("inf")), r"GlobalBegin\(timeout=inf\): it is not seconds"),
            (seata.GlobalBegin(3e6), r"GlobalBegin\(timeout=3000000.0\): it is not seconds"),
            (seata.GlobalBegin("60"), r"GlobalBegin\(timeout='60'\): it is not seconds"),  # type: ignore[arg-type]
            (seata.GlobalBegin(name=None), r"GlobalBegin\(name=None\): it is not a text"),  # type: ignore[arg-type]
            (seata.GlobalBegin(name=b"x"), r"GlobalBegin\(name=b'x'\): it is not a text"),  # type: ignore[arg-type]
            (seata.GlobalCommit("\ud800"), r"GlobalCommit\(xid='.ud800'\): .* surrogates not allowed"),
            (seata.BranchRegisterResult(2**63), r"BranchRegisterResult\(branch=9.*: it is not a whole number"),
            (seata.BranchRegister("x", "AT"), r"\(branchType='AT'\): it is not a BranchType"),  # type: ignore[arg-type]
            (seata.GlobalCommitResult(256), r"GlobalCommitResult\(status=256\): it is not a GlobalStatus"),
            (seata.GlobalCommitResult(exception=-1), r"GlobalCommitResult\(exception=-1\): it is not an ExceptionCode"),
            (seata.MergedMessages(None), r"MergedMessages\(messages=None\): it is not a list"),  # type: ignore[arg-type]
            (seata.MergedMessages([], 5), r"MergedMessages\(ids=5\): it is not a list"),  # type: ignore[arg-type]
            (seata.MergedMessages([answer]), "MergedMessages: BranchReportResult.* cannot be in it"),
            (seata.MergedMessages([seata.MergedMessages()]), "MergedMessages: MergedMessages.* cannot be in it"),
            (seata.MergedResults([commit]), "MergedResults: GlobalCommit.* cannot be in it"),
            (seata.MergedMessages([commit], [1, 2]), "MergedMessages: 2 ids for 1 messages"),
            (seata.BatchResult([answer]), "BatchResult: 0 ids for 1 messages"),
            (seata.BatchResult([answer], [2**31]), "BatchResult of 1 messages: "),
            (seata.MergedResults([answer] * 32768), "MergedResults of 32768 messages: "),
            ("GlobalCommit", "'GlobalCommit' is no message of Seata"),
            (seata.Result(), "is no message of Seata"),
        ]
        for message, why in bad:
            with self.assertRaisesRegex(rpc.PayloadError, why) as caught:
                seata.encode(message)
            self.assertFalse(caught.exception.sent)


class RandomTests(SynchronousTestCase):
    """What nobody has thought of."""

    @settings(max_examples=examples(100), deadline=None)
    @given(MESSAGES)
    def test_roundTrip(self, message: seata.Message) -> None:
        """A message that was written is read, with more behind it, too; without its last byte it is an error."""
        data = seata.encode(message)
        read: Any = seata.decode(data)
        self.assertEqual(read, message)
        self.assertEqual(dataclasses.asdict(read), dataclasses.asdict(message))  # type: ignore[call-overload]
        self.assertEqual(seata.decode(data + b"\0"), message)
        with self.assertRaises(rpc.PayloadError):
            seata.decode(data[:-1])

    @settings(max_examples=examples(100), deadline=None)
    @given(st.sampled_from(sorted(TYPES)), st.binary(max_size=60), st.data())
    def test_bytes(self, number: int, body: bytes, data: Any) -> None:
        """Any bytes are a message or an error, also where those of a message were changed."""
        found = [number.to_bytes(2) + body]
        damaged = bytearray.fromhex(data.draw(st.sampled_from(GOLDEN))[1])
        for at in data.draw(st.lists(st.integers(2, len(damaged) - 1), max_size=3)):
            damaged[at] = data.draw(st.integers(0, 255))
        found.append(bytes(damaged))
        for each in found:
            try:
                message = seata.decode(each)
            except rpc.PayloadError:
                continue
            # Java's null and longer lengths have another form here, or none.
            self.assertIs(TYPES[message.TYPE], type(message))
