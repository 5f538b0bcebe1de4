"""One real daemon with the guide model for all tests that only look."""

from collections.abc import Iterator

import pytest
from tests.support.daemon import DaemonProcess, running_daemon


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    with running_daemon(tmp_path_factory.mktemp("home")) as running:
        yield running
