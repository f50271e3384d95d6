"""What must be told beside the readings: logged at once, published when there is a broker."""

from micropython import const

from limpet.log import log

_MOST = const(8)


class Events:
    """The events that no broker has acknowledged yet. Of more than 8 the newest are only logged."""

    def __init__(self):
        self.waiting = []  # type: list[tuple[str, str]]  # (module, text), oldest first

    def tell(self, who, text):
        """`who` is the module that speaks, `text` has no secret and no quotes."""
        log(who, text)
        if len(self.waiting) < _MOST:
            self.waiting.append((who, text))
