"""A new identity on trial: it and the older one take turns at the brokers, until one of them has its place.

The new one is kept, and the older one erased, as soon as a broker has acknowledged something to it. The older
one wins when it gets in where the new one was refused, and that twice in a row: for a broker that is just
starting refuses too. A broker that is away decides nothing.
"""

import gc

from micropython import const

from limpet.forget import forget

_SURE = const(2)


class Trial:
    """`older` says whose turn it is."""

    def __init__(self, node_id):
        self.older = False
        self._node_id = node_id
        self._held = None  # whose context the session has
        self._fingerprint = ""
        self._why = ""  # the new one was refused the last time, if it was
        self._verdicts = 0  # how often the older one got in then

    def equip(self, session):
        """Give the session the SSLContext of the one whose turn it is. The fingerprint of its certificate.

        Raises IdentityError if it cannot be used. There is no room for both, so the old context goes first.
        """
        if self._held is self.older:
            return self._fingerprint
        from limpet import identity

        self._held = session.ssl = None
        gc.collect()
        try:
            who = identity.load(self.older)
            if who.node_id != self._node_id:
                raise identity.IdentityError("the other identity is of another node")
            session.ssl = who.context()
            self._held = self.older
            self._fingerprint = who.fingerprint
        finally:
            forget(("identity",))
        return self._fingerprint

    def failed(self, why):
        """All brokers were tried in vain. `why`: one that was there has refused; None: none was there."""
        if not self.older:
            self._why = why or ""
        self.older = not self.older

    def got_in(self):
        """A broker has acknowledged something. What is to be told, if that ends the trial, else None."""
        if not self.older:
            text = "the new certificate works; the old one is erased"
        else:
            self._verdicts = self._verdicts + 1 if self._why else 0
            if self._verdicts < _SURE:
                self.older = False
                return None
            why = " ".join(self._why.split())[:150]  # mbedTLS breaks lines
            text = "the new certificate is given up (%s); the old one stays" % why
        from limpet import enrol

        try:
            enrol.settle(not self.older)
        finally:
            forget(("enrol", "csr", "p256", "identity"))
        return text
