"""`python -m explorer`: serves the app, its modules loaded before the first page is asked for.

Arguments are those of `streamlit run`, such as `--server.port 8502`.
"""

import sys
from importlib import import_module
from pathlib import Path
from threading import Thread

# What every page needs, and Streamlit would load only with the first one.
_NEEDED = ("pandas", "altair", "explorer.answer", "explorer.show", "explorer.sidebar")


def _load() -> None:
    for name in _NEEDED:
        import_module(name)


def main() -> None:
    """Starts the server; does not return."""
    from streamlit.web import cli

    Thread(target=_load, daemon=True).start()
    sys.argv = ["streamlit", "run", str(Path(__file__).parent / "app.py"), *sys.argv[1:]]
    sys.exit(cli.main())


if __name__ == "__main__":
    main()
