"""For all tests: Ctrl-C works, however the run was started, and what Python has compiled is kept."""

import os
import signal
import sys

import pytest

# A run in the background of a script inherits an ignored SIGINT, and so would the commands that
# tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Container images like to set this. Each of many hundred commands would compile all of the tools anew,
# and each of our processes the tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

_LONGEST = (
    "test_first_hour.py",
    "test_flash_interrupted.py",
    "test_flash_faults.py",
    "test_virtual_port.py",
    "test_campaign_power.py",
    "test_deploy.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A long test that begins late is waited for by everybody: each worker has one of them first."""
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    rest = [item for item in items if item.path.name not in _LONGEST]
    for number, name in reversed(list(enumerate(_LONGEST))):
        place = len(rest) * (number % workers) // workers
        rest[place:place] = [item for item in items if item.path.name == name]
    items[:] = rest
