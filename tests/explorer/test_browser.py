"""The main paths in a real browser. Screenshots go to `tests-output/`, which git ignores."""

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")


@pytest.fixture(scope="module")
def app(trained: str):
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "explorer/app.py", f"--server.port={port}"],
        cwd=ROOT,
        env=os.environ | {"MLFLOW_TRACKING_URI": trained},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{url}/_stcore/health", timeout=2)
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    yield url
    server.terminate()
    server.wait(timeout=20)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield browser
        browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_link_opens_the_figure_in_either_theme(app, browser, scheme):
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(60_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{app}/learning_rate")
    page.get_by_role("heading", name="Accuracy vs learning rate").wait_for()
    page.locator(
        "[data-testid='stVegaLiteChart'] svg, [data-testid='stVegaLiteChart'] canvas"
    ).first.wait_for()
    page.get_by_role("link", name="Overview").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download figure").click()
        page.get_by_role("button", name="SVG, one column").click()
    svg = Path(download.value.path()).read_text()
    assert svg.startswith("<svg")
    assert "LT-IMP" in svg
    assert "127.0.0.1" not in svg, "a figure for print has no links"
    output = ROOT / "tests-output"
    output.mkdir(exist_ok=True)
    page.wait_for_timeout(500)
    page.screenshot(path=output / f"learning-rate-{scheme}.png")
    assert errors == []
    context.close()


def test_pages_are_reached_by_the_menu_and_a_link_keeps_the_reading(app, browser):
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(60_000)
    page.goto(app)
    page.get_by_role("heading", name="Does your winning ticket really win?").wait_for()
    page.get_by_role("link", name="Definition").click()
    page.get_by_role("heading", name="Definition", exact=True).wait_for()
    # The same page by a link that asks for the joint reading.
    page.goto(f"{app}/definition?reading=joint")
    page.get_by_role("heading", name="Definition", exact=True).wait_for()
    sidebar = page.get_by_test_id("stSidebar")
    sidebar.get_by_test_id("stExpander").locator("summary").click()
    chosen = sidebar.get_by_role("radio", name="joint")
    chosen.wait_for(state="attached")
    sync_api.expect(chosen).to_be_checked(timeout=60_000)
    page.close()
