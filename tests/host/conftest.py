"""For all tests of the host: their rigs are their own."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _leases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The leases of rigs that tests make are no affair of the machine's other users."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIMPET_LEASES", str(tmp_path_factory.mktemp("leases")))
        yield
