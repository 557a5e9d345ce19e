"""HL7 by MLLP against a listener of the library's own, which answers as it is told to."""

import hl7
import pytest

from mammoscope.network import (
    ConnectionLostError,
    HL7Client,
    HL7Peer,
    MessageRefusedError,
    NetworkError,
    PeerUnreachableError,
)

MESSAGE = hl7.parse("MSH|^~\\&|MAMMOSCOPE||RIS||20260103||ORU^R01^ORU_R01|ID-1|P|2.5.1\rPID|1||P-1||Dœ^Jane\r")


def peer(port: int, *, tls: bool = False) -> HL7Peer:
    return HL7Peer("ris", "127.0.0.1", port, "RIS", "", tls=tls)


def test_a_message_arrives_whole_and_is_acknowledged(hl7_listener):
    with hl7_listener(lambda message: message.create_ack("AA")) as (port, got):
        HL7Client(10).send(MESSAGE, peer(port))
    assert [str(message) for message in got] == [str(MESSAGE)]


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (lambda m: m.create_ack("AE"), MessageRefusedError, "ris .* refused the message .AE.; its own log says why"),
        (lambda m: m.create_ack("AR"), MessageRefusedError, "AR"),
        (lambda m: hl7.parse(str(m.create_ack("AA")).replace("ID-1", "ID-2")), ConnectionLostError, "another message"),
        (lambda _: b"\x0bhello\x1c\r", ConnectionLostError, "before it answered"),
        (lambda _: b"", ConnectionLostError, "ended the connection"),
        (lambda _: None, ConnectionLostError, "fell silent"),
    ],
    ids=["error", "rejected", "of another", "nonsense", "hangs up", "silent"],
)
def test_what_is_no_acceptance_is_an_error(hl7_listener, answer, error: type[NetworkError], words: str):
    with hl7_listener(answer) as (port, _), pytest.raises(error, match=words) as raised:
        HL7Client(1).send(MESSAGE, peer(port))
    assert raised.value.worth_retrying is (error is not MessageRefusedError)
    assert "Jane" not in str(raised.value)


def test_a_listener_that_is_away_is_tried_again_later(hl7_listener, free_ports):
    [port] = free_ports(1)
    with pytest.raises(PeerUnreachableError, match="cannot be reached"):
        HL7Client(5).send(MESSAGE, peer(port))
    with hl7_listener(lambda message: message.create_ack("AA")) as (there, got):
        HL7Client(5).connect(peer(there))
    assert got == []


def test_by_tls_with_certificates_of_one_authority(hl7_listener, certificates):
    tls = certificates.issue("node")
    with hl7_listener(lambda m: m.create_ack("AA"), certificates.issue("ris").serving_https()) as (port, got):
        HL7Client(10, tls).send(MESSAGE, peer(port, tls=True))
        with pytest.raises(NetworkError):
            HL7Client(5).send(MESSAGE, peer(port, tls=True))  # whom this machine trusts: nobody of the hospital
    assert len(got) == 1
