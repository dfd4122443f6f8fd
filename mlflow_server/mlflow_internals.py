"""MLflow's private names, all of them, as of mlflow 3.17. Check them when MLflow is upgraded."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlalchemy


def schema_revisions(engine: "sqlalchemy.Engine") -> tuple[str | None, str]:
    """The revision of a database's schema (None of an empty one), and MLflow's own."""
    from mlflow.store.db import utils

    return utils._get_schema_version(engine), utils._get_latest_schema_revision()


def make_tables(engine: "sqlalchemy.Engine") -> None:
    """Makes all tables of an empty database."""
    from mlflow.store.db import utils

    utils._initialize_tables(engine)


def upgrade(engine: "sqlalchemy.Engine") -> None:
    """Migrates a database to MLflow's own revision."""
    from mlflow.store.db import utils

    utils._upgrade_db(engine)


def knows(revision: str) -> bool:
    """Whether this MLflow knows a revision of the schema."""
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError
    from mlflow.store.db import utils

    script = ScriptDirectory.from_config(utils._get_alembic_config(db_url=""))
    try:
        return script.get_revision(revision) is not None
    except CommandError:
        return False
