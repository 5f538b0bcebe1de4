"""A server with prepared replies, and a connection to it."""

from collections.abc import Iterator

import pytest
from tests.support.canned_server import CannedServer
from tests.support.http_server import serving


@pytest.fixture
def server() -> CannedServer:
    return CannedServer()


@pytest.fixture
def url(server: CannedServer) -> Iterator[str]:
    with serving(server) as address:
        yield address
