"""P-256 against the vectors of NIST and RFC 6979, a plain reference, and faults. tests/host has the peer."""

import hashlib
import json

from limpet import p256
from limpet.p256 import FaultError, G, N, P, run

_HERE = __file__.rsplit("/", 1)[0]
with open(_HERE + "/../vectors/p256.json") as file:
    VECTORS = json.load(file)

D = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
Q = (
    0x60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6,
    0x7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299,
)
DIGEST = hashlib.sha256(b"sample").digest()
TOO_LONG = 1 << 256  # a ladder's worth of bits and one more


def number(case, name):
    return int(case[name], 16)


def point(case):
    return number(case, "x"), number(case, "y")


def digest(case):
    return int(case["digest"], 16).to_bytes(32, "big")


def plus(p, q):
    """The sum of two points in affine coordinates as any textbook has it, None being zero."""
    if p is None or q is None:
        return p or q
    if p[0] == q[0]:
        if (p[1] + q[1]) % P == 0:
            return None
        slope = 3 * (p[0] * p[0] - 1) * pow(2 * p[1], P - 2, P)
    else:
        slope = (q[1] - p[1]) * pow(q[0] - p[0], P - 2, P)
    x = (slope * slope - p[0] - q[0]) % P
    return x, (slope * (p[0] - x) - p[1]) % P


def times(k, p):
    total = None
    while k:
        if k & 1:
            total = plus(total, p)
        p = plus(p, p)
        k >>= 1
    return total


def fails(steps):
    try:
        run(steps)
    except FaultError as error:
        return str(error)
    return None


class Patched:
    """Within the `with` block an attribute of p256 is another one."""

    def __init__(self, name, value):
        self.name, self.value = name, value

    def __enter__(self):
        self.before = getattr(p256, self.name)
        setattr(p256, self.name, self.value)

    def __exit__(self, *_):
        setattr(p256, self.name, self.before)


class Random:
    """os.urandom that gives these draws, then the same byte for ever."""

    def __init__(self, *draws, then=0x5A):
        self.draws = list(draws)
        self.then = then

    def urandom(self, length):
        if self.draws and length == 32:
            return self.draws.pop(0).to_bytes(32, "big")
        return bytes([self.then]) * length


def test_nist_key_pairs():
    for case in VECTORS["key_pairs"]:
        assert run(p256.multiply(number(case, "d"), G)) == point(case), case["d"]


def test_nist_public_keys():
    for case in VECTORS["points"]:
        assert p256.is_point(point(case)) == (case["result"] == "pass"), case


def test_nist_signatures_are_made_alike():
    for case in VECTORS["sig_gen"]:
        k = number(case, "k")
        with Patched("_nonces", lambda d, z, k=k: iter((k,))):
            made = run(p256.sign(number(case, "d"), point(case), digest(case)))
        assert made == (number(case, "r"), number(case, "s")), case["d"]


def test_nist_signatures_are_checked_alike():
    for case in VECTORS["sig_ver"]:
        good = run(p256.verify(point(case), digest(case), number(case, "r"), number(case, "s")))
        assert good == (case["result"] == "pass"), case["result"]


def test_rfc_6979():
    for case in VECTORS["rfc6979"]:
        hashed = hashlib.sha256(case["message"].encode()).digest()
        nonce = next(p256._nonces(number(case, "d"), int.from_bytes(hashed, "big")))
        assert nonce == number(case, "k"), case["message"]
        made = run(p256.sign(number(case, "d"), point(case), hashed))
        assert made == (number(case, "r"), number(case, "s")), case["message"]


def test_a_nonce_that_is_too_large_is_left_out():
    made = [b"key"] * 4 + [N.to_bytes(32, "big"), b"", b"", bytes(32), b"", b"", b"\x09"]
    with Patched("hmac", lambda key, message: made.pop(0)):
        assert next(p256._nonces(D, 1)) == 9


def test_hmac():
    # RFC 4231, cases 1 and 2
    for key, message, expected in (
        (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
    ):
        assert p256.hmac(key, message).hex() == expected


def test_edge_scalars():
    for k in (1, 2, 3, (1 << 32) - 1, 1 << 224, N - 2, N - 1):
        assert run(p256.multiply(k, G)) == times(k, G), hex(k)
    for k in (1, 2):
        assert run(p256.multiply(k, Q)) == times(k, Q), hex(k)


def test_blinding_drops_out():
    for then in (0x00, 0x01, 0x80, 0xFF):
        with Patched("os", Random(then=then)):
            assert run(p256.multiply(D, G)) == Q, then
            made = run(p256.sign(D, Q, DIGEST))
        assert made == (number(VECTORS["rfc6979"][0], "r"), number(VECTORS["rfc6979"][0], "s")), then


def test_scalar_and_coordinates_are_blinded():
    # The same scalar, and other numbers on the way where either draw is another one.
    last = []
    kept = p256._add

    class Draws:
        def __init__(self, blind, z):
            self._bytes = {8: blind, 32: z}

        def urandom(self, length):
            return bytes([self._bytes[length]]) * length

    def add(p, q):
        last[:] = (p,)
        return kept(p, q)

    seen = set()
    for draws in ((1, 1), (1, 2), (2, 1)):
        with Patched("_add", add), Patched("os", Draws(*draws)):
            run(p256.multiply(D, G))
            seen.add(last[0])
    assert len(seen) == 3


def test_addition_has_no_exceptions():
    def affine(p):
        inverse = pow(p[2], P - 2, P)
        return (p[0] * inverse % P, p[1] * inverse % P) if p[2] else None

    nowhere = (0, 1, 0)
    some = [nowhere, G + (1,), (G[0], P - G[1], 1), Q + (1,), (Q[0] * 7 % P, Q[1] * 7 % P, 7)]
    for p in some:
        for q in some:
            assert affine(p256._add(p, q)) == plus(affine(p), affine(q)), (p, q)


def test_wrong_signatures():
    r, s = run(p256.sign(D, Q, DIGEST))
    good = lambda r, s, q=Q, digest=DIGEST: run(p256.verify(q, digest, r, s))  # noqa: E731
    assert good(r, s)
    assert good(r, N - s)  # ECDSA's other signature: not wrong
    for number in (0, N, N - 1, N + 1, P, 1, -1, TOO_LONG):
        assert not good(number, s), number
        assert not good(r, number), number
    assert not good(0, 0) and not good(r + N, s) and not good(r, s + N) and not good(-r, s) and not good(s, r)
    assert not good(P - N, s)
    assert not good(0, s, digest=bytes(32))  # where the sum is zero
    for bit in range(0, 256, 51):
        assert not good(r ^ 1 << bit, s), bit
        assert not good(r, s ^ 1 << bit), bit
        flipped = (int.from_bytes(DIGEST, "big") ^ 1 << bit).to_bytes(32, "big")
        assert not good(r, s, digest=flipped), bit


def test_wrong_public_keys():
    r, s = run(p256.sign(D, Q, DIGEST))
    x, y = Q
    for wrong in ((x, y + 1), (x, P - y), (x + P, y), (x, y - P), (0, 0), (0, 1), (y, x), G, (P, P), (x, 0)):
        assert not run(p256.verify(wrong, DIGEST, r, s)), wrong


def test_sums_that_are_zero_or_equal():
    # Of Project Wycheproof's kinds: u1 G = ± u2 Q, for a key that is known, and for Q = ± G.
    for d in (D, 1, 2, N - 1):
        q = run(p256.multiply(d, G))
        for r in (1, N - 1):
            for factor, digest in ((-1, "zero"), (1, "equal")):
                z = factor * r * d % N
                good = run(p256.verify(q, z.to_bytes(32, "big"), r, 3))
                k = (z + r * d) * pow(3, N - 2, N) % N
                assert good == (k != 0 and run(p256.multiply(k, G))[0] % N == r), (d, r, digest)


def test_digests_at_the_edges():
    for z in (0, 1, N - 1, N, N + 1, TOO_LONG - 1):
        hashed = z.to_bytes(32, "big")
        r, s = run(p256.sign(D, Q, hashed))
        assert run(p256.verify(Q, hashed, r, s)), z


def test_x_beyond_the_order():
    # Project Wycheproof, ecdsa_secp256r1_sha256: the point's x is not below N, so r is x - N.
    q = (
        0x0AD99500288D466940031D72A9F5445A4D43784640855BF0A69874D2DE5FE103,
        0xC5011E6EF2C42DCD50D5D3D29F99AE6EBA2C80C9244F4C5422F0979FF0C3BA5E,
    )
    r = 0x4319055358E8617B0C46353D039CDAAB
    s = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC63254E
    hashed = hashlib.sha256(b"123400").digest()
    assert run(p256.verify(q, hashed, r, s))
    assert not run(p256.verify(q, hashed, r + N, s))


def test_private_keys_are_drawn_by_rejection():
    for drawn, expected in ((0, 1), (N - 2, N - 1), (41, 42)):
        with Patched("os", Random(7, drawn)):
            assert run(p256.key_pair())[0] == expected
    with Patched("os", Random(7, N - 1, TOO_LONG - 1, 8)):
        assert run(p256.key_pair())[0] == 9


def test_random_numbers_that_are_none():
    for then in (0x00, 0x5A):
        with Patched("os", Random(then=then)):
            assert fails(p256.key_pair()) == "the random numbers of this board are not random"
    with Patched("os", Random(1, 2, 2)):
        assert run(p256.key_pair())[0] == 3  # the third draw was not needed
    with Patched("os", Random(1, N, 5, N, 5)):
        assert run(p256.key_pair())[0] == 6
    with Patched("os", Random(*[N + i for i in range(12)])):
        assert fails(p256.key_pair())


def test_key_pairs_differ_and_fit():
    seen = set()
    for _ in range(3):
        d, q = run(p256.key_pair())
        assert 0 < d < N and q == run(p256.multiply(d, G))
        seen.add(d)
    assert len(seen) == 3


def faulty(at, how):
    """`p256._add` that miscalculates once, at that call."""
    kept = p256._add
    calls = [0]

    def add(p, q):
        calls[0] += 1
        made = kept(p, q)
        return how(made, p) if calls[0] == at else made

    return add


FAULTS = (
    lambda made, p: (made[0] ^ 1 << 77, made[1], made[2]),
    lambda made, p: (made[0], made[1], made[2] ^ 1),
    lambda made, p: p,  # a step that is left out: on the curve, and wrong
    lambda made, p: (0, 0, 0),
)


def test_a_fault_is_never_signed_with():
    good = run(p256.sign(D, Q, DIGEST))
    caught = 0
    for at in (1, 141, 500, 640, 641, 900):
        for how in FAULTS:
            with Patched("_add", faulty(at, how)):
                try:
                    assert run(p256.sign(D, Q, DIGEST)) == good  # a fault in a step that does not matter
                except FaultError:
                    caught += 1
    assert caught >= 16, caught


def test_a_fault_in_a_key_is_noticed():
    for at in (200, 420, 640):
        for how in FAULTS:
            with Patched("_add", faulty(at, how)), Patched("os", Random(7, D - 1, then=0xFF)):
                try:
                    d, q = run(p256.key_pair())
                except FaultError:
                    continue
            # Where the point is on the curve all the same, no signature for it comes out.
            assert q == Q or fails(p256.sign(d, q, DIGEST)) == "the signature came out wrong", at


def test_a_wrong_public_key_gets_no_signature():
    assert fails(p256.sign(D, G, DIGEST)) == "the signature came out wrong"


def test_yields_often():
    done = [0]
    kept = p256._add

    def add(p, q):
        done[0] += 1
        return kept(p, q)

    with Patched("_add", add):
        for steps in (p256.key_pair(), p256.sign(D, Q, DIGEST)):
            longest = count = 0
            for wait in steps:
                assert wait == 0
                longest = max(longest, done[0])
                done[0] = 0
                count += 1
            assert longest <= 3 and count > 320
