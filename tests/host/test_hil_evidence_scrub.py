"""Secrets: nothing of a key or a password comes into any output, however it was written."""

import base64
import json
import re
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from host_tools.hil.evidence import Outcome, Recorder, Scrubber, read_results, write_reports
from host_tools.hil.evidence.recorder import scrubbed
from host_tools.hil.evidence.scrub import MARK
from tests.host.evidence_results import happened, result

NUMBER = bytes.fromhex("c9a1f2043b7de85516f00d92ab34cd6e7718e0a25f9943b10c8dd7fe62a54b39")
KEY = ec.derive_private_key(int.from_bytes(NUMBER, "big"), ec.SECP256R1())
SEC1 = KEY.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
PUBLIC = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
PASSWORD = 'ünder"score\\7'

WRITTEN = {
    "hex": SEC1.hex(),
    "hex, capitals": SEC1.hex().upper(),
    "hex after an odd digit": "f" + SEC1.hex(),
    "hex with colons": SEC1.hex(":"),
    "hex dump": "\n".join(NUMBER[at : at + 8].hex(" ") for at in range(0, 32, 8)),
    "base64": base64.b64encode(SEC1).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(SEC1).decode(),
    "base64 amidst more": base64.b64encode(b"x" + SEC1 + b"yy").decode(),
    "base64 after other letters": "key/x" + base64.b64encode(NUMBER).decode(),
    "base64 in lines": base64.encodebytes(b"zz" + SEC1 * 2).decode(),
    "bytes of Python": repr(SEC1),
    "bytes of Python, twice": repr(repr(SEC1)),
    "escapes of C": "".join(f"\\x{byte:02X}" for byte in NUMBER),
    "characters": NUMBER.decode("latin-1"),
    "a list": str(list(NUMBER)),
    "a list in hex": ", ".join(f"0x{byte:02x}" for byte in NUMBER),
    "half of it": NUMBER[7:19].hex(),
}


def pieces(text: str) -> list[str]:
    """All of a key, in small pieces, in every way that a reader could put it together again."""
    windows = [NUMBER[at : at + 6] for at in range(len(NUMBER) - 5)]
    found = [
        each
        for each in windows
        if each.hex() in text.lower() or each.hex(":") in text or each.hex(" ") in text
    ]
    found += [each for each in windows if str(list(each))[1:-1] in text or repr(each)[2:-1] in text]
    for skip in range(4):
        for run in re.findall(r"[A-Za-z0-9+/]{8,}", text.replace("-", "+").replace("_", "/")):
            data = base64.b64decode(run[skip : skip + (len(run) - skip) // 4 * 4])
            found += [each for each in windows if each in data]
    return [each.hex() for each in found]


@pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("secret", [SEC1, PEM, PEM.encode()], ids=["DER", "PEM", "PEM in bytes"])
def test_a_key_is_found_however_it_is_written(secret, text):
    clean = Scrubber([secret]).text(f"before {text} then\nnext line")
    assert MARK in clean
    assert clean.startswith("before ")
    assert clean.endswith("then\nnext line")
    assert not pieces(clean)
    assert clean.count("\n") == text.count("\n") + 1


def test_other_secrets_in_bytes_are_found_like_keys():
    secret = bytes(range(60, 76))
    for text in (secret.hex(), repr(secret), base64.b64encode(secret).decode(), str(list(secret))):
        assert Scrubber([secret]).text(text).strip("b'[]=") in (MARK, MARK.strip("[]")), text


@pytest.mark.parametrize(
    "text",
    [
        PASSWORD,
        f'joined with "{PASSWORD}"',
        json.dumps(PASSWORD),
        json.dumps(PASSWORD, ensure_ascii=False),
        repr(PASSWORD),
        PASSWORD.encode().hex(),
        base64.b64encode(PASSWORD.encode()).decode(),
        base64.b64encode(b"wifi:" + PASSWORD.encode()).decode(),
    ],
)
@pytest.mark.parametrize("secret", [PASSWORD, f"{PASSWORD}\n".encode()], ids=["text", "a file's content"])
def test_a_password_is_found_however_it_is_written(secret, text):
    clean = Scrubber([secret]).text(text)
    assert MARK in clean
    assert "score" not in clean
    assert PASSWORD.encode().hex()[:12] not in clean
    assert text == PASSWORD or len(clean) < len(text) + len(MARK)


def test_a_short_secret_is_found():
    scrubber = Scrubber(["1234", ""])
    assert scrubber.text("PIN 1234, 12345 and MTIzNA") == f"PIN {MARK}, {MARK}5 and MTIzNA"
    assert scrubber.text("31323334ff00") == MARK
    assert Scrubber([b"1234\n"]).text("PIN 1234") == f"PIN {MARK}"


def test_public_things_stay():
    scrubber = Scrubber([SEC1, PASSWORD, b"\xff" * 32, b"\0" * 16])
    for text in (
        PUBLIC.hex(),
        base64.b64encode(PUBLIC).decode(),
        "24:0a:c4:12:34:56 ff:ff:ff:ff:ff:ff 00000000000000000000",
        "3f" * 32,
        "b'\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff'",
        "tests/hil/test_backlog.py::test_backlog_survives_an_outage[half-open]",
        "seq 1, 2, 3, 4, 5, 6, 7, 8",
    ):
        assert scrubber.text(text) == text


@pytest.mark.parametrize("newline", ["\n", "\\n", "\r\n"])
@pytest.mark.parametrize("kind", ["", "EC ", "RSA ", "ENCRYPTED "])
def test_a_key_that_nobody_told_of_is_found_by_its_form(newline, kind):
    body = PEM.replace("BEGIN ", f"BEGIN {kind}").replace("END ", f"END {kind}").replace("\n", newline)
    clean = Scrubber().text(f"a{newline}{body}b")
    lines = PEM.splitlines()[1:-1]
    assert not any(line[at : at + 8] in clean for line in lines for at in range(len(line) - 8))
    assert clean.startswith("a")
    assert clean.endswith("b")


def test_a_key_that_is_cut_off_is_found_and_the_log_goes_on():
    lines = PEM.splitlines()
    clean = Scrubber().text("\n".join([*lines[:2], "rst:0x1 (POWERON_RESET)", "limpet 0.1.0"]))
    assert clean == f"{MARK}\n{MARK}\n{MARK}:0x1 (POWERON_RESET)\nlimpet 0.1.0"


def test_two_keys_leave_what_is_between_them():
    assert Scrubber().text(f"{PEM}between {PEM}").count("between") == 1


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ('{"ssid": "plant", "password": "hunter22"}', '{"ssid": "plant", "password": "[secret]"}'),
        ('{"password":"a\\"b","x":1}', '{"password":"[secret]","x":1}'),
        ("{'password': 'hunter22'}", "{'password': '[secret]'}"),
        ('password = "hunter22"  # of the plant', 'password = "[secret]"  # of the plant'),
        ('"{\\"password\\": \\"a\\\\\\"b\\", \\"x\\": 1}"', '"{\\"password\\": \\"[secret]\\", \\"x\\": 1}"'),
        ("join(ssid='p', Passphrase='hunter22')", "join(ssid='p', Passphrase='[secret]')"),
        ('"password": "hunter22 is cut o\nnext', '"password": "[secret]\nnext'),
        ('password_file = "~/bench.wifi"', 'password_file = "~/bench.wifi"'),
        ("the password is wrong", "the password is wrong"),
    ],
)
def test_passwords_are_found_by_their_names(text, clean):
    assert Scrubber().text(text) == clean


def test_a_key_that_is_cut_off_leaves_what_is_before_the_next_one():
    cut_off = "\n".join(PEM.splitlines()[:2])
    assert Scrubber().text(f"{cut_off}\n: rst:0x1\n{PEM}").splitlines()[2] == ": rst:0x1"


def test_a_key_in_a_log_is_found_though_other_events_are_in_between():
    told = [
        event
        for n, line in enumerate(["boot", *PEM.splitlines(), "up"])
        for event in ((n, "serial", line), (n, "broker", f"limpet/node/{n}"))
    ]
    bad = scrubbed(result(outcome="failed", events=happened(*told)), Scrubber())
    serial = [each.text for each in bad.events if each.source == "serial"]
    assert serial == ["boot", *[MARK] * len(PEM.splitlines()), "up"]
    assert [each.text for each in bad.events if each.source == "broker"] == [
        f"limpet/node/{n}" for n in range(len(serial))
    ]
    assert [each.at for each in bad.events] == [each.at for each in happened(*told)]


def test_texts_that_were_one_are_scrubbed_as_one():
    lines = ["boot", *PEM.splitlines(), "up\nand running", ""]
    clean = Scrubber().texts(lines)
    assert clean == ["boot", *[MARK] * len(PEM.splitlines()), "up\nand running", ""]
    assert Scrubber().texts([]) == []


def test_a_scrubber_does_not_tell_its_secrets():
    assert PASSWORD not in repr(Scrubber([PASSWORD]))


def test_nothing_of_a_key_or_password_gets_into_any_output(tmp_path):
    """In every field that a board or a test can fill, in every form, and over the lines of a log."""
    forms = [*WRITTEN.values(), PEM, PASSWORD, json.dumps(PASSWORD)]
    serial = [(n / 10, "serial", line) for n, text in enumerate(forms) for line in text.splitlines()]
    told = [(5 + n / 10, "node", text, {"said": text, "number": 7}) for n, text in enumerate(forms)]
    said = "\n".join(forms)
    bad = result(
        test=f"tests/hil/test_a.py::test_one[{PASSWORD}]",
        outcome="failed",
        why=said,
        needs=(PASSWORD,),
        micropython=PASSWORD,
        events=happened(*serial, *told),
        readings={PASSWORD: ((1.0, 2.0),)},
    )
    recorder = Recorder(tmp_path, "gw0", Scrubber([SEC1, PASSWORD]))
    recorder.begin(bad.test, bad.where)
    recorder.end(bad)
    others: tuple[Outcome, ...] = ("flaky", "blocked", "quarantined")
    for number, outcome in enumerate(others):
        recorder.end(replace(bad, test=f"tests/hil/test_b.py::test_{number}", outcome=outcome))
    recorder.close()
    write_reports(tmp_path, read_results(tmp_path))
    outputs = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in outputs} == {".jsonl", ".html", ".xml", ".json"}
    for path in outputs:
        text = path.read_text()
        assert MARK in text
        assert not pieces(text), path
        assert "score" not in text, path
    assert len(read_results(tmp_path)[0].events) == len(serial) + len(told)
