"""The host side of limpet: what the `limpet` command does."""


def version() -> str:
    """The version of these tools, as it was installed."""
    from importlib import metadata  # it takes a tenth of a command's time to load, and few ask

    return metadata.version("limpet")
