import json
import os

from limpet.settings import SettingsError, load

PATH = "/tmp/limpet-settings-%s.json" % "".join("%02x" % b for b in os.urandom(8))
GOOD = {"v": 1, "board": "virtual", "prefix": "limpet", "wifi": [], "brokers": [], "ntp": [], "sensors": []}


def written(data):
    with open(PATH, "wb") as f:
        f.write(data)


def refused(data=None):
    """What is said of a file with these bytes; none at all for None."""
    if data is not None:
        written(data)
    try:
        load(PATH)
    except SettingsError as e:
        return str(e).replace(PATH, "FILE")
    finally:
        if data is not None:
            os.remove(PATH)
    raise AssertionError("taken")


def test_good_settings_come_as_they_are():
    written(json.dumps(GOOD).encode())
    settings = load(PATH)
    os.remove(PATH)
    assert settings == GOOD


def test_no_file_says_what_to_do():
    assert refused() == "there is no FILE: deploy the node's settings"


def test_damaged_files_say_so():
    whole = json.dumps(GOOD).encode()
    for data in (b"", b"\xff" * 64, b"\0" * 64, whole[:-1], whole[: len(whole) // 2], b"{'v':1}", b'{"v":'):
        assert refused(data) == "FILE is damaged: deploy the node's settings again", data


def test_settings_of_another_version_say_so():
    text = "FILE is not of this firmware's version: deploy firmware and settings together"
    for other in ({}, {"v": 2}, {"v": 0}, {"v": "1"}, {"v": None}, [], [1], 1, "v", None):
        assert refused(json.dumps(other).encode()) == text, other


def test_a_missing_key_is_named():
    for key in GOOD:
        if key != "v":
            lacking = {k: v for k, v in GOOD.items() if k != key}
            assert (
                refused(json.dumps(lacking).encode())
                == "FILE lacks '%s': deploy the node's settings again" % key
            )
