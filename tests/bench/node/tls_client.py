"""For the scripts beside it: TLS as a node has it."""

import ssl


def context_of(folder):
    """An SSLContext that shows our certificate and demands the broker's, from DER files."""

    def read(name):
        with open(folder + "/" + name, "rb") as f:
            return f.read()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(read("node.der"), read("node.key.der"))
    context.load_verify_locations(cadata=read("ca.der"))
    return context
