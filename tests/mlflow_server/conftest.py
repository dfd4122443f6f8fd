from collections.abc import Iterator

import pytest

from tests.servers import Server, free_port


@pytest.fixture(scope="session")
def postgresql_server(postgresql: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of a server of two workers on PostgreSQL, which takes seconds to start."""
    server = Server(tmp_path_factory.mktemp("server"), free_port(), postgresql, "--workers", "2")
    server.start()
    yield server.uri
    server.stop()
