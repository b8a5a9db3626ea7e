"""Commands, replies and pushes as texts."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.gateway.protocol import (
    CommandError,
    DisconnectError,
    clientOf,
    encodePublication,
    errorOf,
    errorReply,
    infoOf,
    parse,
    publicationText,
    push,
    reply,
)
from getty_tx.groups import (
    EngineDownError,
    EngineTimeoutError,
    GroupError,
    Member,
    NotAllowedError,
    Position,
    Publication,
    PublicationTooLongError,
)
from tests.support.long import examples

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


class ProtocolTests(SynchronousTestCase):
    def test_commands(self) -> None:
        """Of several methods in a command the first counts, in the protocol's order."""
        message = (
            '{"id":1,"connect":{"token":"x"}}\n\n{"id":2,"publish":{},"subscribe":{"channel":"a"}}\n{}\n{"send":{}}'
        )
        found = [(each.id, each.method, each.params) for each in parse(message)]
        self.assertEqual(
            found,
            [(1, "connect", {"token": "x"}), (2, "subscribe", {"channel": "a"}), (0, "", {}), (0, "send", {})],
        )

    def test_replies(self) -> None:
        self.assertEqual(reply(1, "publish", {}), '{"id":1,"publish":{}}')
        self.assertEqual(reply(1, "history", {}, ["{}", "{}"]), '{"id":1,"history":{"publications":[{},{}]}}')
        self.assertEqual(
            reply(1, "subscribe", {"offset": 1}, ['{"data":1}']),
            '{"id":1,"subscribe":{"offset":1,"publications":[{"data":1}]}}',
        )
        self.assertEqual(
            reply(1, "connect", {"client": "c"}, subs={'"': "{}", "b": "{}"}),
            '{"id":1,"connect":{"client":"c","subs":{"\\"":{},"b":{}}}}',
        )
        self.assertEqual(
            errorReply(3, CommandError(103)), '{"id":3,"error":{"code":103,"message":"permission denied"}}'
        )

    def test_errors(self) -> None:
        """What may succeed later says so."""
        for error, code in (
            (CommandError(108), 108),
            (NotAllowedError("x"), 103),
            (PublicationTooLongError("x"), 106),
            (GroupError("x"), 106),
            (EngineDownError("x"), 100),
            (EngineTimeoutError("x"), 100),
            (ValueError("x"), 100),
        ):
            told = errorOf(error)
            self.assertEqual((told.code, told.asDict().get("temporary", False)), (code, code == 100))

    def test_info(self) -> None:
        """Nobody is told the name of a machine."""
        client = clientOf("machine-17:1")
        self.assertNotIn("machine", client)
        self.assertEqual(infoOf(Member("machine-17:1")), {"client": client, "user": ""})
        info = infoOf(Member("machine-17:1", "ann", {"a": 1}))
        self.assertEqual(info, {"client": client, "user": "ann", "conn_info": {"a": 1}})
        self.assertNotEqual(client, clientOf("machine-17:2"))

    @settings(max_examples=examples(100), deadline=None)
    @given(JSON, st.none() | st.integers(1, 2**63 - 1), st.booleans())
    def test_publications(self, data: object, offset: int | None, isEncoded: bool) -> None:
        """Whatever was published: one line with the data, and the offset where there is one."""
        position = None if offset is None else Position("e", offset)
        pkg = encodePublication(data, {"user": "ann"}, {"t": "x"}) if isEncoded or isinstance(data, bytes) else data
        text = push("a:1", "x", 1)
        text = publicationText(Publication(pkg, position))
        self.assertNotIn("\n", text)
        wanted = {"data": data}
        if isEncoded:
            wanted |= {"info": {"user": "ann"}, "tags": {"t": "x"}}
        if offset is not None:
            wanted["offset"] = offset
        self.assertEqual(json.loads(text), wanted)

    @settings(max_examples=examples(100), deadline=None)
    @given(st.text(max_size=40) | st.sampled_from(["{", "[", '{"id":1,']).flatmap(lambda t: st.just(t * 3)))
    def test_anything(self, message: str) -> None:
        """It is commands, or the connection is closed."""
        try:
            found = parse(message)
        except DisconnectError as error:
            self.assertEqual(error.disconnect.code, 3501)
        else:
            self.assertTrue(all(each.method == "" for each in found))
