"""Which messages of SNS are believed?  Those of our topics that Amazon signed; and no address is followed."""

import base64
import datetime as dt
import json
import re
from pathlib import Path
from typing import Any

import pytest
from build import NOW, incoming, source
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from rulesfiles import ROOT
from shell import relay

from relay import mint
from relay.clock import rfc3339
from relay.errors import Unfit
from relay.event import Trust
from relay.sign import sign
from relay.source import Incoming
from relay.verify import Flaw, Proof, verify
from relay.verify.sns import FIELDS, RETRIED_MS, canonical

KEY, OTHER = mint.fresh("sns"), mint.fresh("sns")
PRIVATE = mint.private(KEY)
ADDRESS = (
    "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-9c6465fa7f48f5cacd23014631ec1136.pem"
)
TOPIC = "arn:aws:sns:eu-central-1:123456789012:alarms"
SNS = source(name="alarms", verify="sns", secrets=(), header="authorization", topics=(TOPIC,))
HELD = {ADDRESS: mint.certificate(KEY, NOW)}
TIMES = {"Timestamp": rfc3339(NOW)}
NOTIFICATION: dict[str, Any] = {
    "Type": "Notification",
    "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
    "TopicArn": TOPIC,
    "Subject": "My First Message",
    "Message": 'Hello\nworld! "é"',
    **TIMES,
    "SignatureVersion": "2",
    "SigningCertURL": ADDRESS,
    "UnsubscribeURL": "https://sns.eu-central-1.amazonaws.com/?Action=Unsubscribe",
}
CONFIRMATION: dict[str, Any] = {
    "Type": "SubscriptionConfirmation",
    "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
    "Token": "2336412f37",
    "TopicArn": TOPIC,
    "Message": "You have chosen to subscribe.\nTo confirm, visit the SubscribeURL.",
    "SubscribeURL": "https://10.0.0.1/?Action=ConfirmSubscription",
    **TIMES,
    "SignatureVersion": "1",
    "SigningCertURL": ADDRESS,
}


def signature(text: bytes, version: str = "2") -> str:
    """Sign as Amazon does."""
    assert isinstance(PRIVATE, rsa.RSAPrivateKey)
    made = PRIVATE.sign(text, PKCS1v15(), SHA1() if version == "1" else SHA256())
    return base64.b64encode(made).decode()


def signed(message: dict[str, Any], **after: Any) -> Incoming:
    """Sign a message as the guide says, line by line; *after* is changed when it is signed."""
    lines = []
    for name in ("Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"):
        if name in message:
            lines += [name, str(message[name])]
    said = signature(("\n".join(lines) + "\n").encode(), str(message.get("SignatureVersion")))
    return incoming(json.dumps({**message, "Signature": said, **after}).encode())


def proof(delivery: Incoming, held: dict[str, bytes] | None = None) -> Proof:
    """Say what a delivery proves."""
    return verify(SNS, delivery, NOW, HELD if held is None else held)


@pytest.mark.parametrize("message", [NOTIFICATION, CONFIRMATION], ids=lambda one: str(one["Type"]))
@pytest.mark.parametrize("version", ["1", "2"])
def test_a_signed_message_is_verified(message: dict[str, Any], version: str) -> None:
    """Both versions, and each type with its own fields; what is signed is told."""
    found = proof(signed(message | {"SignatureVersion": version}))

    assert (Trust.VERIFIED, ADDRESS) == (found.trust, found.by)
    assert found.signed.startswith(b"Message\n")
    assert found.signed.endswith(f"\nTopicArn\n{TOPIC}\nType\n{message['Type']}\n".encode())


def test_a_message_without_a_subject() -> None:
    """A topic's messages may have none; a subject is not added later."""
    bare = {name: value for name, value in NOTIFICATION.items() if name != "Subject"}

    assert Trust.VERIFIED is proof(signed(bare)).trust
    assert Flaw.WRONG is proof(signed(bare, Subject="added")).flaw
    assert Flaw.WRONG is proof(signed(NOTIFICATION, Subject=None)).flaw


def test_the_documented_lines() -> None:
    """The string to sign of the guide's example, name and value each on a line."""
    assert (
        b"Message\nm\nMessageId\ni\nSubject\ns\nTimestamp\n2012-04-26T20:45:04.751Z\nTopicArn\nt\nType\nNotification\n"
        == canonical(
            {"Type": "Notification", "MessageId": "i", "TopicArn": "t", "Subject": "s", "Message": "m",
             "Timestamp": "2012-04-26T20:45:04.751Z"}
        )
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted({*FIELDS["Notification"]}))
def test_each_field_is_signed(name: str) -> None:
    """One letter more in any signed field, and it is another message."""
    changed = proof(signed(NOTIFICATION, **{name: f"{NOTIFICATION[name]}0"}))

    assert Trust.FAILED is changed.trust


def test_every_bit_of_the_signature_counts() -> None:
    """No signature with one bit changed is right, and base64 has one spelling."""
    good = signed(NOTIFICATION)
    said = json.loads(good.body)["Signature"]
    raw = base64.b64decode(said)
    flips = [
        base64.b64encode(raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]).decode()
        for at in range(0, len(raw), 4)
        for bit in range(8)
    ]
    odd = [
        said[:-1],
        said + "=",
        said + "\n",
        " " + said,
        said.rstrip("="),
        said.replace("=", "x"),
        "",
        1,
        None,
    ]
    found = [proof(signed(NOTIFICATION, Signature=one)) for one in [*flips, *odd]]

    assert len(flips) > 500
    assert {Trust.FAILED} == {one.trust for one in found}


EVIL = "/SimpleNotificationService-9c6465fa7f48f5cacd23014631ec1136.pem"
ADDRESSES = [
    f"http://sns.eu-central-1.amazonaws.com{EVIL}",
    f"https://sns.evil.com{EVIL}",
    f"https://sns.eu-central-1.amazonaws.com.evil.example{EVIL}",
    f"https://evil.example/sns.eu-central-1.amazonaws.com{EVIL}",
    f"https://sns.eu-central-1.amazonaws.com@evil.example{EVIL}",
    f"https://user:pass@sns.eu-central-1.amazonaws.com{EVIL}",
    f"https://@sns.eu-central-1.amazonaws.com{EVIL}",
    f"https://sns.eu-central-1.amazonaws.com:8443{EVIL}",
    f"https://sns.eu-central-1.amazonaws.com:443@evil.example{EVIL}",
    f"https://evil.example#.sns.eu-central-1.amazonaws.com{EVIL}",
    f"https://evil.example?sns.eu-central-1.amazonaws.com{EVIL}",
    f"https://evil.example\\sns.eu-central-1.amazonaws.com{EVIL}",
    f"https://notsns.eu-central-1.amazonaws.com{EVIL}",
    f"https://x.sns.eu-central-1.amazonaws.com{EVIL}",
    f"https://sns.s3.amazonaws.com{EVIL}",
    f"https://sns.s3-us-west-2.amazonaws.com{EVIL}",
    f"https://sns.s3-website-eu-central-1.amazonaws.com{EVIL}",
    f"https://sns.amazonaws.com{EVIL}",
    f"https://sns.eu-central-1.amazonaws.co{EVIL}",
    f"https://sns.eu-central-1.amazonaws.com.cn.evil.example{EVIL}",
    f"https://sns.eu-central-1.amazonaws.com.{EVIL}",
    f"https://sns%2eeu-central-1.amazonaws.com{EVIL}",
    f"https://sns.eu-central-1.amazonaws.com/x/..{EVIL}",
    "https://sns.eu-central-1.amazonaws.com/../SimpleNotificationService-x.pem",
    "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-..%2fx.pem",
    "https://sns.eu-central-1.amazonaws.com/?Action=GetCert&x=.pem",
    "https://sns.eu-central-1.amazonaws.com/x.pem",
    f"https://sns.eu-central-1.amazonaws.com{EVIL}?x=1",
    f"https://sns.eu-central-1.amazonaws.com{EVIL}#x",
    f"https://sns.eu-central-1.amazonaws.com{EVIL}\n",
    f" https://sns.eu-central-1.amazonaws.com{EVIL}",
    f"https://127.0.0.1{EVIL}",
    f"https://[::1]{EVIL}",
    "file:/etc/passwd",
    "",
    None,
    7,
    [ADDRESS],
]


def test_more_than_thirty_addresses() -> None:
    """The next test tries them all."""
    assert len(ADDRESSES) > 30


@pytest.mark.parametrize("address", ADDRESSES)
def test_certificates_are_amazons(address: Any) -> None:
    """No other address is ever wanted, and even a certificate that is held for it does not count."""
    found = proof(signed(NOTIFICATION, SigningCertURL=address), {str(address): HELD[ADDRESS]})

    assert Proof(flaw=Flaw.NO_KEY) == found


@pytest.mark.parametrize(
    "host",
    ["sns.us-east-1.amazonaws.com", "sns.us-gov-west-1.amazonaws.com", "sns.cn-north-1.amazonaws.com.cn"],
)
def test_a_certificate_is_wanted_from_where_it_is(host: str) -> None:
    """In any region of Amazon's, when it is not held yet."""
    assert Proof(flaw=Flaw.NO_KEY, wants=f"https://{host}{EVIL}") == proof(
        signed(NOTIFICATION, SigningCertURL=f"https://{host}{EVIL}")
    )


@pytest.mark.parametrize(
    ("flaw", "change"),
    [
        (Flaw.CLAIMS, {"TopicArn": "arn:aws:sns:eu-central-1:123456789012:others"}),
        (Flaw.CLAIMS, {"TopicArn": "arn:aws:sns:eu-central-1:999999999999:alarms"}),
        (Flaw.OLD, {"Timestamp": rfc3339(NOW - RETRIED_MS - 300_001)}),
        (Flaw.EARLY, {"Timestamp": rfc3339(NOW + 300_001)}),
        (Flaw.MALFORMED, {"Timestamp": "1700000000"}),
        (Flaw.MALFORMED, {"Timestamp": "2023-11-14T22:13:20.000+00:00"}),
        (Flaw.MALFORMED, {"Timestamp": "2023-13-14T22:13:20.000Z"}),
        (Flaw.MALFORMED, {"Type": "Other"}),
        (Flaw.MALFORMED, {"Type": ["Notification"]}),
        (Flaw.MALFORMED, {"SignatureVersion": "3"}),
        (Flaw.MALFORMED, {"SignatureVersion": 1}),
        (Flaw.MALFORMED, {"MessageId": 7}),
        (Flaw.MALFORMED, {"Message": None}),
        (Flaw.MALFORMED, {"MessageId": "a\nSubject\nb"}),
        (Flaw.MALFORMED, {"Subject": "a\rb"}),
    ],
)
def test_what_is_refused_before_any_key_is_looked_for(flaw: Flaw, change: dict[str, Any]) -> None:
    """A stranger's topic, another time, another form: nothing is fetched for these."""
    assert Proof(flaw=flaw) == proof(signed(NOTIFICATION | change), {})


@pytest.mark.parametrize("late", [-300_000, 0, RETRIED_MS, RETRIED_MS + 300_000])
def test_a_late_delivery_is_taken(late: int) -> None:
    """SNS tries for an hour, and its message keeps the time of its publication."""
    assert Trust.VERIFIED is proof(signed(NOTIFICATION | {"Timestamp": rfc3339(NOW - late)})).trust


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b"hello", b'{"Type": "Notification"}', b"\xff"])
def test_raw_messages_are_not_signed(body: bytes) -> None:
    """Raw delivery, or anything else: nothing to verify."""
    assert proof(incoming(body)).flaw in {Flaw.MISSING, Flaw.MALFORMED}


MEMBERS = st.sampled_from(sorted(NOTIFICATION))


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(),
        lambda one: st.lists(one) | st.dictionaries(MEMBERS, one),
        max_leaves=8,
    ),
    st.binary(),
)
@settings(deadline=None)
def test_nothing_raises(change: Any, pem: bytes) -> None:
    """Any JSON where a message is expected, any bytes for a certificate."""
    message = {**NOTIFICATION, **change} if isinstance(change, dict) else change
    body = json.dumps(message | {"Signature": "eA=="} if isinstance(message, dict) else message).encode()

    assert Trust.FAILED is proof(incoming(body)).trust
    assert Trust.FAILED is proof(incoming(body), {ADDRESS: pem}).trust


def test_the_certificate_must_be_good_now() -> None:
    """Neither before it begins nor after it ended, nor one of another kind."""
    late = mint.certificate(KEY, NOW + 2 * 3_600_000)
    past = mint.certificate(KEY, NOW - 370 * 86_400_000)
    other = mint.certificate(OTHER, NOW)
    curve = mint.certificate(mint.fresh("ecdsa-p256"), NOW)
    delivery = signed(NOTIFICATION)

    assert Trust.VERIFIED is proof(delivery).trust
    for pem, flaw in ((late, Flaw.NO_KEY), (past, Flaw.NO_KEY), (curve, Flaw.NO_KEY), (other, Flaw.WRONG)):
        assert Proof(flaw=flaw) == proof(delivery, {ADDRESS: pem})


def test_a_weak_certificate_is_none() -> None:
    """RSA below 2048 bits can be broken."""
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    begins = dt.datetime.fromtimestamp(NOW / 1000 - 60, dt.UTC)
    made = x509.CertificateBuilder(name, name, weak.public_key(), 7, begins, begins + dt.timedelta(days=1))
    pem = made.sign(weak, SHA256()).public_bytes(Encoding.PEM)

    assert Flaw.NO_KEY is proof(signed(NOTIFICATION), {ADDRESS: pem}).flaw


def test_a_certificate_of_ones_own_takes_the_place_of_amazons() -> None:
    """With ``keys`` the message's address does not count, whatever it is."""
    pinned = source(
        name="alarms",
        verify="sns",
        secrets=(),
        header="authorization",
        topics=(TOPIC,),
        keys="file:/run/sns.pem",
    )
    delivery = signed(NOTIFICATION, SigningCertURL="https://evil.example/x.pem")

    assert Proof(flaw=Flaw.NO_KEY, wants="file:/run/sns.pem") == verify(pinned, delivery, NOW, HELD)
    held = {"file:/run/sns.pem": HELD[ADDRESS]}
    assert Trust.VERIFIED is verify(pinned, delivery, NOW, held).trust


def test_what_is_minted_is_believed() -> None:
    """`relay send` signs a message of any age for the source's own topic; what is none of SNS's is said."""
    old = NOTIFICATION | {
        "Timestamp": "2012-05-02T00:54:06.655Z",
        "TopicArn": "arn:aws:sns:us-west-2:1:MyTopic",
    }
    made = sign(SNS, incoming(json.dumps(old).encode()), NOW, KEY)

    assert Trust.VERIFIED is proof(made).trust
    assert NOTIFICATION["Message"] == json.loads(made.body)["Message"]
    pem = mint.private(mint.fresh("ed25519")).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for body, key in ((b"hello", KEY), (b"[]", KEY), (b"{}", KEY), (made.body, pem)):
        with pytest.raises(Unfit):
            sign(SNS, incoming(body), NOW, key)


def test_the_docs_rule_confirms_and_nothing_else_does(tmp_path: Path) -> None:
    """A confirmation is called for by a rule only: at the region's own address, never at SubscribeURL."""
    (block,) = re.findall(
        r"^# confirm/rules.toml\n(.*?)^```$", (ROOT / "docs/rules.md").read_text(), re.MULTILINE | re.DOTALL
    )
    rules = tmp_path / "rules.toml"
    rules.write_text(block)
    checked = relay("check", "--no-secrets", str(rules))
    assert (0, "") == (checked.exit_code, checked.stderr)
    body = json.dumps(CONFIRMATION)

    told = relay("match", "alarms", "-", "--json", stdin=body, RELAY_RULES=str(rules))
    assert "https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription" in told.stdout
    assert "10.0.0.1" not in told.stdout
    silent = tmp_path / "silent.toml"
    silent.write_text(block.partition("[provider.sns]")[0])
    nothing = json.loads(relay("match", "alarms", "-", "--json", stdin=body, RELAY_RULES=str(silent)).stdout)
    assert [] == nothing.get("rules", [])
