"""Eight processes that log at once: no error, no lost point."""

from pathlib import Path

import pytest

from benchmarks.load import load, served
from tests.servers import PG_CTL, Postgresql


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["sqlite", "server on sqlite", "postgresql", "server on postgresql"]
)
def test_eight_writers_lose_nothing(kind: str, tmp_path: Path):
    if kind == "sqlite":
        _, calls, lost = load(f"sqlite:///{tmp_path}/direct.db", 8, 2)
    elif kind == "server on sqlite":
        with served(f"sqlite:///{tmp_path}/served.db", tmp_path) as uri:
            _, calls, lost = load(uri, 8, 2)
    elif not PG_CTL:
        pytest.skip("needs PostgreSQL's server")
    else:
        with Postgresql() as database:
            if kind == "postgresql":
                _, calls, lost = load(database.uri, 8, 2)
            else:
                with served(database.uri, tmp_path) as uri:
                    _, calls, lost = load(uri, 8, 2)
    assert lost == 0
    assert len(calls) == 8 * 2 * 19, "every call came back without an error"
