"""Throws modules away that are needed now and then: their code need not stay in the heap."""

import gc
import sys

import limpet


def forget(names):
    """Unload these modules of the package, as far as they are loaded. The next import loads them again."""
    for name in names:
        if sys.modules.pop("limpet." + name, None) and hasattr(limpet, name):
            delattr(limpet, name)
    gc.collect()
