"""Settings, the file that they come from, and tokens."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from twisted.trial.unittest import SynchronousTestCase

from getty_tx.errors import SettingError
from getty_tx.gateway import Gateway, GatewaySettings, Rules, readSettings
from getty_tx.gateway.protocol import CommandError, DisconnectError
from getty_tx.gateway.tokens import Claims, Tokens
from getty_tx.groups import Namespace
from tests.support.gateway import SECRET, jwt, signed

FILE = f"""
secret = "{SECRET}"
origins = ["https://*.example.org"]
pingInterval = 10

[namespaces.chat]
subscribe = "users"
publish = "members"
presence = "members"
historySize = 100
historySeconds = 300

[namespaces.""]
subscribe = "anyone"
window = 0.05
"""


class FileTests(SynchronousTestCase):
    def read(self, text: str) -> GatewaySettings:
        """The settings of a file with this text."""
        self.path = self.mktemp()
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(text)
        return readSettings(self.path)

    def test_file(self) -> None:
        found = self.read(FILE)
        chat = Rules(
            subscribe="users",
            publish="members",
            presence="members",
            namespace=Namespace(historySize=100, historySeconds=300, presence=True),
        )
        others = Rules(subscribe="anyone", namespace=Namespace(window=0.05))
        wanted = GatewaySettings(
            secret=SECRET, origins=("https://*.example.org",), pingInterval=10, namespaces={"chat": chat, "": others}
        )
        self.assertEqual(found, wanted)

    def test_files(self) -> None:
        """A secret may stand in a file of its own."""
        where = self.mktemp()
        with open(where, "w", encoding="utf-8") as file:
            file.write(SECRET + "\n")
        found = self.read(f'secretFile = "{where}"')
        self.assertEqual(found.secret, SECRET)
        self.assertNotIn(SECRET, repr(found))

    def test_wrong(self) -> None:
        """The error names the file, the place and what is wrong."""
        for text, wanted in (
            ("x = ", "Invalid value"),
            ("x = 1", "x is no setting"),
            ("anonymous = 1", "anonymous=1"),
            ("namespaces = 1", "namespaces is no table"),
            ('apiKey = "short"', "apiKey="),
            ('path = "x"', "path='x'"),
            ("pingInterval = 0.5", "pingInterval=0.5"),
            ("maxChannels = 129", "maxChannels=129"),
            ("origins = [1]", "origins="),
            ('secretFile = "/no/such/file"', "secretFile=/no/such/file"),
            ("secretFile = 1", "secretFile=1"),
            ('secret = "x"\nsecretFile = "x"', "leave one of them out"),
            ("[namespaces.chat]\nfly = 1", "[namespaces.chat]: fly is no setting"),
            ('[namespaces.chat]\nsubscribe = "all"', "[namespaces.chat]: subscribe='all'"),
            ('[namespaces.chat]\nsubscribe = "members"', "[namespaces.chat]: subscribe='members'"),
            ("[namespaces.chat]\nsubscribe = 1", "[namespaces.chat]: subscribe, publish"),
            ("[namespaces.chat]\nhistorySize = 1", "historySeconds"),
            ('[namespaces.chat]\nwindow = "x"', "window='x'"),
            ('[namespaces]\nchat = "x"', "[namespaces.chat] is no table"),
        ):
            error = self.assertRaises(SettingError, self.read, text)
            self.assertTrue(str(error).startswith(self.path), error)
            self.assertIn(wanted, str(error))
        self.assertIn("/no/such", str(self.assertRaises(SettingError, readSettings, "/no/such")))

    def test_code(self) -> None:
        """What only code can say wrong."""
        for values in ({"namespace": 1}, {"namespace": Namespace(wrap=print)}, {"publish": None}):
            self.assertRaises(SettingError, Rules, **values)  # type: ignore[arg-type,unused-ignore]
        self.assertRaises(SettingError, GatewaySettings, namespaces={"chat": Namespace()})
        self.assertRaises(SettingError, Gateway, GatewaySettings(), "ftp://x")

    def test_defaults(self) -> None:
        """Nobody may connect, and nobody may anything."""
        settings = GatewaySettings()
        self.assertEqual((settings.hasTokens, settings.anonymous, settings.apiKey), (False, False, None))
        rules = Gateway(settings).rulesOf("any:1")
        self.assertEqual({rules.subscribe, rules.publish, rules.history, rules.presence}, {"nobody"})


def pemOf(key: Any) -> tuple[str, str]:
    """The private and the public key."""
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return private, public


class TokenTests(SynchronousTestCase):
    if jwt is None:
        skip = "there is no PyJWT: pip install 'getty_tx[jwt]'"

    def tokens(self, **settings: Any) -> Tokens:
        """Of a clock that stands at 1000."""
        return Tokens(**{"secret": SECRET, **settings}, now=lambda: 1000.0)

    def isInvalid(self, token: str, **settings: Any) -> None:
        """It is none of ours."""
        self.assertRaises(DisconnectError, self.tokens(**settings).connection, token)

    def test_claims(self) -> None:
        token = signed(sub="ann", exp=1001, info={"a": 1}, channels=["x", "y", "x"], nbf=1005)
        self.assertEqual(self.tokens().connection(token), Claims("ann", 1001, {"a": 1}, ("x", "y")))
        self.assertEqual(self.tokens().connection(signed()), Claims())

    def test_expired(self) -> None:
        for expires in (1000, 999.5, 0, -1):
            error = self.assertRaises(CommandError, self.tokens().connection, signed(exp=expires))
            self.assertEqual(error.code, 109)

    def test_invalid(self) -> None:
        for token in (
            "",
            "x",
            "a.b.c",
            "é.b.c",
            signed() + "x",
            signed("another secret of more than 32 bytes"),
            signed(algorithm="HS512"),
            signed(exp="soon"),
            signed(exp=True),
            signed(nbf=1011),
            signed(sub=7),
            signed(sub="a b"),
            signed(sub="x" * 251),
            signed(info=[]),
            signed(channels="x"),
            signed(channels=["a b"]),
            signed(sub="x" * 9000),
        ):
            self.isInvalid(token)

    def test_none(self) -> None:
        """The algorithm ``none``, and those that have no key here."""
        self.isInvalid(jwt.encode({"sub": "ann"}, None, algorithm="none"))  # type: ignore[arg-type,unused-ignore]
        private, _ = pemOf(ec.generate_private_key(ec.SECP256R1()))
        self.isInvalid(signed(private, "ES256", sub="ann"))

    def test_publicKeys(self) -> None:
        """RS256 and ES256; a public key is no secret of HS256."""
        for key, algorithm in (
            (rsa.generate_private_key(65537, 2048), "RS256"),
            (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        ):
            private, public = pemOf(key)
            settings: dict[str, Any] = {"secret": None, "publicKey": public}
            self.assertEqual(self.tokens(**settings).connection(signed(private, algorithm, sub="ann")).user, "ann")
            head = '{"alg":"HS256","typ":"JWT"}'
            import base64
            import hashlib
            import hmac

            parts = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in (head.encode(), b'{"sub":"ann"}')]
            body = b".".join(parts)
            mac = base64.urlsafe_b64encode(hmac.new(public.encode(), body, hashlib.sha256).digest()).rstrip(b"=")
            self.isInvalid((body + b"." + mac).decode(), **settings)

    def test_audience(self) -> None:
        tokens = self.tokens(audience="chat", issuer="us")
        self.assertEqual(tokens.connection(signed(sub="ann", aud=["chat", "x"], iss="us")).user, "ann")
        for claims in ({}, {"aud": "x", "iss": "us"}, {"aud": "chat"}, {"aud": "chat", "iss": "them"}):
            self.isInvalid(signed(sub="ann", **claims), audience="chat", issuer="us")
        self.assertEqual(self.tokens().connection(signed(sub="ann", aud="x")).user, "ann")

    def test_keys(self) -> None:
        _, small = pemOf(ec.generate_private_key(ec.SECP384R1()))
        for settings in ({"secret": "short"}, {"publicKey": "x"}, {"publicKey": small}):
            self.assertRaises(SettingError, self.tokens, **settings)
