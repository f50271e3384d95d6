"""The node's ECDSA, run by MicroPython, against the library `cryptography`: keys, signatures, checks."""

import hashlib
import json
import os
import random
import subprocess
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256

from host_tools import micropython
from host_tools.paths import FIRMWARE

N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
DETERMINISTIC = ec.ECDSA(Prehashed(SHA256()), deterministic_signing=True)
ECDSA = ec.ECDSA(Prehashed(SHA256()))
DEADLINE = 170.0

# Reads a line of JSON a case, all numbers as hex; answers with a line.
NODE = """
import json, sys
from limpet import p256
from limpet.p256 import run
n = lambda text: int(text, 16)
for line in sys.stdin:
    case = json.loads(line)
    digest = bytes.fromhex(case.get("digest", ""))
    if case["do"] == "pair":
        d, q = run(p256.key_pair())
        answer = [d, q[0], q[1]]
    elif case["do"] == "point":
        answer = run(p256.multiply(n(case["d"]), p256.G))
    elif case["do"] == "sign":
        d = n(case["d"])
        answer = run(p256.sign(d, run(p256.multiply(d, p256.G)), digest))
    else:
        q = n(case["x"]), n(case["y"])
        answer = [run(p256.verify(q, digest, n(case["r"]), n(case["s"])))]
    print(json.dumps(["%x" % each for each in answer]))
"""


def ask(cases: list[dict[str, Any]]) -> list[list[int]]:
    """The node's answers, one a case."""
    lines = [
        json.dumps({k: f"{v:x}" if isinstance(v, int) else v for k, v in case.items()}) for case in cases
    ]
    done = subprocess.run(
        [*micropython.command(), "-X", "heapsize=256k", "-c", NODE],
        env=os.environ | {"MICROPYPATH": f".frozen:{FIRMWARE}"},
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0 and not done.stderr, done.stdout[-500:] + done.stderr
    return [[int(each, 16) for each in json.loads(line)] for line in done.stdout.splitlines()]


def a_key(d: int) -> tuple[ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicNumbers]:
    key = ec.derive_private_key(d, ec.SECP256R1())
    return key, key.public_key().public_numbers()


def scalars(dice: random.Random, count: int) -> list[int]:
    """Private keys of all kinds: any, tiny, huge, sparse, dense."""
    kinds = [
        lambda: dice.randrange(1, N),
        lambda: dice.randrange(1, N),
        lambda: dice.randrange(1, 1 << dice.randrange(1, 256)),
        lambda: N - dice.randrange(1, 1 << dice.randrange(1, 256)),
        lambda: sum(1 << dice.randrange(255) for _ in range(3)),
        lambda: (1 << 255) - 1 - sum(1 << bit for bit in dice.sample(range(255), 3)),
    ]
    return [max(1, min(N - 1, kinds[i % len(kinds)]())) for i in range(count)]


def check_points(dice: random.Random, count: int) -> None:
    edges = [1, 2, 3, 4, 5, N - 1, N - 2, N - 3, N // 2, N // 2 + 1, (1 << 128) - 1, 1 << 255]
    keys = (edges + scalars(dice, count))[: max(count, len(edges))]
    for d, point in zip(keys, ask([{"do": "point", "d": d} for d in keys]), strict=True):
        numbers = a_key(d)[1]
        assert point == [numbers.x, numbers.y], hex(d)


def check_signatures(dice: random.Random, count: int) -> None:
    """Ours are the library's, bit for bit, as both are deterministic (RFC 6979)."""
    cases: list[dict[str, Any]] = []
    for i, d in enumerate(scalars(dice, count)):
        digest = {0: bytes(32), 1: b"\xff" * 32}.get(i, dice.randbytes(32))
        cases.append({"do": "sign", "d": d, "digest": digest.hex()})
    for case, signature in zip(cases, ask(cases), strict=True):
        theirs = a_key(case["d"])[0].sign(bytes.fromhex(case["digest"]), DETERMINISTIC)
        assert signature == list(decode_dss_signature(theirs)), case


def check_verification(dice: random.Random, count: int) -> None:
    """Signatures of the library, half of them altered somewhere: both sides say the same of each."""
    cases: list[dict[str, Any]] = []
    for d in scalars(dice, count):
        key, numbers = a_key(d)
        digest = dice.randbytes(32)
        r, s = decode_dss_signature(key.sign(digest, ECDSA))
        case: dict[str, Any] = {
            "do": "verify",
            "x": numbers.x,
            "y": numbers.y,
            "digest": digest.hex(),
            "r": r,
            "s": s,
        }
        change = dice.choice([*[""] * 7, "r", "s", "digest", "x", "swap", "negative", "zero", "order"])
        if change in ("r", "s"):
            case[change] ^= 1 << dice.randrange(256)
        elif change == "digest":
            case["digest"] = hashlib.sha256(digest).hexdigest()
        elif change == "x":
            numbers = a_key(dice.randrange(1, N))[1]
            case |= {"x": numbers.x, "y": numbers.y}
        elif change == "swap":
            case |= {"r": s, "s": r}
        elif change == "negative":  # ECDSA's other signature of the same: good
            case["s"] = N - s
        elif change == "zero":
            case[dice.choice("rs")] = 0
        elif change == "order":
            case[dice.choice("rs")] += N
        cases.append(case)
    verdicts = []
    for case, answer in zip(cases, ask(cases), strict=True):
        assert answer == [int(verifies(case))], case
        verdicts.append(answer[0])
    assert 0 < sum(verdicts) < count


def verifies(case: dict[str, Any]) -> bool:
    """What the library says of a signature."""
    numbers = ec.EllipticCurvePublicNumbers(case["x"], case["y"], ec.SECP256R1())
    signature = encode_dss_signature(case["r"], case["s"])
    try:
        numbers.public_key().verify(signature, bytes.fromhex(case["digest"]), ECDSA)
    except InvalidSignature:
        return False
    return True


def check_key_pairs(count: int) -> None:
    pairs = ask([{"do": "pair"}] * count)
    for d, x, y in pairs:
        numbers = a_key(d)[1]
        assert (x, y) == (numbers.x, numbers.y)
    assert len({d for d, _, _ in pairs}) == count
    assert 0.4 < sum(d.bit_count() for d, _, _ in pairs) / (256 * count) < 0.6


def test_points() -> None:
    check_points(random.Random(1), 70)


def test_signatures() -> None:
    check_signatures(random.Random(2), 60)


def test_verification() -> None:
    check_verification(random.Random(3), 120)


def test_key_pairs() -> None:
    check_key_pairs(30)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("check", [check_points, check_signatures, check_verification])
def test_thousands(check: Any, seed: int) -> None:
    check(random.Random(f"{check.__name__} {seed}"), 1000)


@pytest.mark.soak
def test_thousands_of_key_pairs() -> None:
    check_key_pairs(2000)
