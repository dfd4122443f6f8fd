"""Reads MLflow tracking stores into polars frames: the explorer's only interface to MLflow.

Two readers give equal frames: one by MLflow's API, one by SQL where the store is a database.
"""

from explorer.readers.api import ApiReader, NoStore, StoreUnavailable
from explorer.readers.sql import SqlReader
from jackpot import stores

__all__ = ["ApiReader", "NoStore", "SqlReader", "StoreUnavailable", "reader"]


def reader(uri: str) -> ApiReader:
    """The fastest reader of a store.

    Args:
        uri: `sqlite:///file`, `postgresql://…` or a server's `http(s)://host:port`.
    """
    in_database = stores.sqlite_file(uri) is not None or uri.startswith("postgresql")
    return SqlReader(uri) if in_database else ApiReader(uri)
