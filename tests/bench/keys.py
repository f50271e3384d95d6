"""What a node's key costs it: a key pair and the request for its certificate, in MicroPython."""

from tests.bench.ground import Ground
from tests.bench.table import Row, number

_ROUNDS = 25
_LEAST, _MOST = 40, 60  # times an ESP32 is slower than a machine like ours in MicroPython
_NOTE = (
    "`limpet.p256` and `limpet.csr`: a key pair, the request, its signature, and the check of that; the "
    f"best of {_ROUNDS}, with a heap of 160 kB. The peer is a key and a signature by the textbook (affine "
    "coordinates, double and add, Fermat's inverse), which blinds nothing and checks nothing. Heap is what "
    "is in use at most, without garbage."
)


def rows(ground: Ground) -> list[Row]:
    told = ground.run("keys.py", _ROUNDS, heap="160k")
    scale = told["longer"] / 1000
    on_a_node = [told["ms"] * scale * slower for slower in (_LEAST, _MOST)]
    estimate = (
        "An estimate, measured on no board: time here × "
        f"{told['longer']:.2g} × {_LEAST} to {_MOST}. MicroPython for an ESP32 keeps numbers in digits of 16 "
        "bits, the unix port in digits of 32; what twice as many digits cost is measured here, by the same "
        "formulas with numbers twice as long. The rest is how much slower an ESP32 runs MicroPython."
    )
    return [
        Row(
            "key and CSR in MicroPython",
            told["ms"],
            "ms",
            f"textbook arithmetic: {number(told['textbook_ms'])} ms",
            told["ms"] / told["textbook_ms"],
            note=_NOTE,
        ),
        Row("heap for a key and CSR", told["heap"], "B", note=_NOTE),
        Row(
            "key and CSR on an ESP32, estimated",
            sum(on_a_node) / 2,
            "s",
            f"from {number(on_a_node[0])} to {number(on_a_node[1])} s",
            note=estimate,
        ),
        Row(
            "longest step of it on an ESP32, estimated",
            told["step_ms"] * told["longer"] * _MOST,
            "ms",
            f"here: {number(told['step_ms'])} ms",
            note=estimate,
        ),
    ]
