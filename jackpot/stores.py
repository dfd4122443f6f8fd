"""Whether this Python can talk to a database at all."""


class DriverMissing(ValueError):
    """No package for the database; the message names it and what to install."""


def check(uri: str) -> None:
    """Looks for the Python package that a database URI needs; servers' addresses need none.

    Args:
        uri: `sqlite:///file`, `postgresql+psycopg://…`, `http://host:port`, ….

    Raises:
        DriverMissing: it is not installed, or there is none for such a URI.
    """
    if uri.startswith(("http://", "https://", "sqlite:///")):
        return
    import sqlalchemy

    safe = uri.partition("://")[0] + "://…"
    try:
        url = sqlalchemy.engine.make_url(uri)
        safe = url.render_as_string(hide_password=True)
        url.get_dialect().import_dbapi()
    except (ImportError, sqlalchemy.exc.NoSuchModuleError) as error:
        hint = (
            "write postgresql+psycopg://… and pip install 'jackpot[postgresql]'"
            if uri.startswith("postgresql")
            else "install it with pip"
        )
        raise DriverMissing(f"'{safe}' needs a Python package ({error}): {hint}") from None
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        raise DriverMissing(
            f"'{safe}' is no database URI: {' '.join(str(error).split())}"
        ) from None
