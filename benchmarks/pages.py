"""Times the explorer's pages on a store in a real browser (Debian's chromium).

    python -m benchmarks.pages /tmp/many/mlflow.db

Prints the time of the first page of a new session after the store was read once, of every switch
of page by the menu, and of the first visit of all, which reads the store. A page counts as there
when Streamlit's script has ended and its title is shown.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
ENDED = "[data-testid='stApp'][data-test-script-state='notRunning']"
TITLES = {
    "Accuracy vs learning rate": "Accuracy vs learning rate",
    "Accuracy vs sparsity": "Accuracy vs sparsity",
    "Definition": "Definition",
    "Correlation": "Correlation",
    "Learning-rate ablation": "Learning-rate ablation",
    "Across studies": "Across studies",
    "Guideline": "Guideline",
    "Training curves": "Training curves",
    "Runs and tickets": "Runs and tickets",
    "Overview": "Does your winning ticket really win?",
}


def serve(database: Path, port: int) -> subprocess.Popen:
    """The explorer on a database; returns once it answers."""
    server = subprocess.Popen(
        [sys.executable, "-m", "explorer", f"--server.port={port}"],
        cwd=ROOT,
        env=os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{database.absolute()}"},
        stdout=subprocess.DEVNULL,
    )
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2)
            return server
        except OSError:
            if server.poll() is not None:
                raise SystemExit("the explorer did not start") from None
            time.sleep(0.1)


def there(page: Page, title: str) -> None:
    """Waits until the page of this title has been drawn."""
    page.get_by_role("heading", name=title, exact=True).wait_for()
    page.locator(ENDED).wait_for(state="attached")


def opened(page: Page, url: str) -> float:
    """Seconds until the first page stands."""
    began = time.perf_counter()
    page.goto(url)
    there(page, TITLES["Overview"])
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database", type=Path)
    database = parser.parse_args().database
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = serve(database, port)
    url = f"http://127.0.0.1:{port}"
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            first = browser.new_page()
            first.set_default_timeout(120_000)
            print(f"{'first visit, reads the store':>32}: {opened(first, url):5.2f} s")
            first.close()
            page = browser.new_page()
            page.set_default_timeout(120_000)
            print(f"{'first page of a new session':>32}: {opened(page, url):5.2f} s")
            for visit in ("first", "again"):
                for link, title in TITLES.items():
                    began = time.perf_counter()
                    menu = page.get_by_test_id("stSidebar")
                    menu.get_by_role("link", name=link, exact=True).click()
                    there(page, title)
                    print(f"{f'{link} ({visit})':>32}: {time.perf_counter() - began:5.2f} s")
            browser.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
