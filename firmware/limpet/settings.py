"""The node's settings: the small JSON that the host made from the user's TOML and has validated in full."""

import json

from micropython import const

_PATH = const("/limpet.json")
_VERSION = const(1)


class SettingsError(Exception):
    """The settings cannot be used; the text says why and what to do."""


def load(path=_PATH):
    """The settings as a dict; docs/node-file.md has the keys. Raises SettingsError."""
    try:
        with open(path) as f:
            settings = json.load(f)
    except OSError:
        raise SettingsError("there is no " + path + ": deploy the node's settings")
    except ValueError:
        raise SettingsError(path + " is damaged: deploy the node's settings again")
    if not isinstance(settings, dict) or settings.get("v") != _VERSION:
        raise SettingsError(
            path + " is not of this firmware's version: deploy firmware and settings together"
        )
    for key in ("board", "prefix", "wifi", "brokers", "ntp", "sensors"):
        if key not in settings:
            raise SettingsError(path + " lacks '" + key + "': deploy the node's settings again")
    return settings
