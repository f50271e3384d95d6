"""ECDSA on P-256 with SHA-256 (FIPS 186-5, SP 800-186): key pairs, signatures, and their check.

For one key and one signature in a year, at enrolment: nothing here is loaded in normal running. What takes
time is a generator that yields 0 often, for the node's scheduler, and returns its result; `run` is for those
who can wait. docs/identity.md says what its timing gives away.
"""

import hashlib
import os
import time

from micropython import const

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
_NOWHERE = (0, 1, 0)

SIZE = const(32)  # bytes of a coordinate, a private key and a digest
_BLIND = const(8)  # bytes of the random number that blinds a scalar
_TRIES = const(8)
_HASH_BLOCK = const(64)
_INNER = int.from_bytes(b"\x36" * _HASH_BLOCK, "big")
_OUTER = int.from_bytes(b"\x5c" * _HASH_BLOCK, "big")


class FaultError(Exception):
    """The chip has miscalculated, or its random numbers are none. Nothing was given out."""


def run(steps):
    """The result of a generator such as those here: it is run to its end, and waits as it says."""
    try:
        while True:
            wait = next(steps)
            if wait:
                time.sleep_ms(wait)
    except StopIteration as end:
        return end.value


def key_pair():
    """Generator: (private key, public point), of `os.urandom` by rejection (FIPS 186-5, A.2.2).

    The radio must be on: without it an ESP32's random numbers are not random. Raises FaultError if they
    plainly are none.
    """
    before = os.urandom(SIZE)
    for _ in range(_TRIES):
        drawn = os.urandom(SIZE)
        if drawn == before:
            break
        d = int.from_bytes(drawn, "big") + 1
        if d < N:
            q = yield from multiply(d, G)
            return d, q
        before = drawn
    raise FaultError("the random numbers of this board are not random")


def sign(d, q, digest):
    """Generator: the signature (r, s) of a SHA-256 digest with the private key `d`; nonce by RFC 6979.

    It is checked with the public point `q` before it is given out: a wrong one can tell the key. Raises
    FaultError then.
    """
    z = int.from_bytes(digest, "big")
    for k in _nonces(d, z):
        yield 0
        r = (yield from multiply(k, G))[0] % N
        # Both factors of the inverse are blinded by a number that drops out.
        blind = int.from_bytes(os.urandom(SIZE), "big") % (N - 1) + 1
        inverse = yield from _invert(k * blind % N, N)
        s = (z * blind + r * (d * blind % N)) % N * inverse % N
        if r and s:
            break
    good = yield from verify(q, digest, r, s)
    if not good:
        raise FaultError("the signature came out wrong")
    return r, s


def verify(q, digest, r, s):
    """Generator: whether (r, s) is a signature of the SHA-256 digest by the owner of the point `q`."""
    if not (0 < r < N and 0 < s < N and is_point(q)):
        return False
    w = yield from _invert(s, N)
    u = int.from_bytes(digest, "big") * w % N
    v = r * w % N
    g = (G[0], G[1], 1)
    q = (q[0], q[1], 1)
    both = _add(g, q)
    sum = _NOWHERE
    for bit in range(8 * SIZE - 1, -1, -1):
        sum = _add(sum, sum)
        which = (u >> bit & 1) + 2 * (v >> bit & 1)
        if which:
            sum = _add(sum, (g, q, both)[which - 1])
        yield 0
    x, _, z = sum
    inverse = yield from _invert(z, P)
    return x * inverse % P % N == r  # never 0, which is what comes of a sum of zero


def is_point(q):
    """Whether `q` is on the curve. As its order is a prime, it is a public key then (SP 800-56A, 5.6.2.3)."""
    x, y = q
    return 0 <= x < P and 0 <= y < P and (y * y - (x * x - 3) * x - _B) % P == 0


def multiply(k, point):
    """Generator: the affine point k × `point`, for 0 < k < N.

    A ladder of as many equal steps whatever k is, over a scalar and coordinates that are blinded anew at each
    call.
    """
    # The top bit is set, so the length tells nothing of k.
    k += N * (int.from_bytes(os.urandom(_BLIND), "big") | 1 << 8 * _BLIND - 1)
    z = int.from_bytes(os.urandom(SIZE), "big") % (P - 1) + 1
    pair = [_NOWHERE, (point[0] * z % P, point[1] * z % P, z)]
    for bit in range(8 * (SIZE + _BLIND) - 1, -1, -1):
        at = k >> bit & 1
        pair[1 - at] = _add(pair[0], pair[1])
        pair[at] = _add(pair[at], pair[at])
        yield 0
    x, y, z = pair[0]
    inverse = yield from _invert(z, P)
    x, y = x * inverse % P, y * inverse % P
    if not is_point((x, y)):
        raise FaultError("a point came out beside the curve")
    return x, y


def _add(p, q):
    """The sum of two points in projective coordinates, whichever they are, equal ones and zero too.

    Renes, Costello, Batina: Complete addition formulas for prime order elliptic curves (2015), a = -3.
    """
    m = P
    b = _B
    x1, y1, z1 = p
    x2, y2, z2 = q
    xx = x1 * x2 % m
    yy = y1 * y2 % m
    zz = z1 * z2 % m
    xy = (x1 * y2 + x2 * y1) % m
    yz = (y1 * z2 + y2 * z1) % m
    xz = (x1 * z2 + x2 * z1) % m
    u = 3 * (xz - b * zz) % m
    v = 3 * (b * xz - 3 * zz - xx) % m
    w = 3 * (xx - zz)
    above = yy + u
    below = yy - u
    return (xy * above - yz * v) % m, (above * below + w * v) % m, (yz * below + xy * w) % m


def _invert(a, m):
    """Generator: 1/a modulo the prime m (Fermat), a byte of the exponent at a time; 0 for 0."""
    power = 1
    for byte in (m - 2).to_bytes(SIZE, "big"):
        power = pow(power, 256, m) * pow(a, byte, m) % m
        yield 0
    return power


def _nonces(d, z):
    """The numbers of RFC 6979, 3.2, for the private key `d` and the digest `z`, both as numbers."""
    key, v = bytes(SIZE), b"\x01" * SIZE
    seed = d.to_bytes(SIZE, "big") + (z % N).to_bytes(SIZE, "big")
    for step in (b"\x00", b"\x01"):
        key = hmac(key, v + step + seed)
        v = hmac(key, v)
    while True:
        v = hmac(key, v)
        k = int.from_bytes(v, "big")
        if 0 < k < N:
            yield k
        key = hmac(key, v + b"\x00")
        v = hmac(key, v)


def hmac(key, message):
    """HMAC-SHA-256 (RFC 2104) with a key of at most 64 bytes."""
    inner, outer = (
        (int.from_bytes(key + bytes(_HASH_BLOCK - len(key)), "big") ^ pad).to_bytes(_HASH_BLOCK, "big")
        for pad in (_INNER, _OUTER)
    )
    return hashlib.sha256(outer + hashlib.sha256(inner + message).digest()).digest()
