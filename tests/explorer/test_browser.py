"""The explorer in a real browser. Pictures go to `tests-output/`, which git ignores."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest

from explorer.figures.printing import ONE_COLUMN, TWO_COLUMNS

sync_api = pytest.importorskip("playwright.sync_api")
ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")
PAGES = {
    "": "Does your winning ticket really win?",
    "learning_rate": "Accuracy vs learning rate",
    "sparsity": "Accuracy vs sparsity",
    "definition": "Definition",
    "looks": "Looks",
    "correlation": "Correlation",
    "ablation": "Learning-rate ablation",
    "landscape": "Loss landscape",
    "across": "Across studies",
    "guideline": "Guideline",
    "paper": "The paper's own numbers",
    "curves": "Training curves",
    "runs": "Runs and tickets",
    "point?setting=lt&pruner=imp&s=0.75&lr=0.1": "One point",
}
ENDED = "[data-testid='stApp'][data-test-script-state='notRunning']"
POINTS = ".mark-symbol.role-mark"
CHARTS = "[data-testid='stVegaLiteChart'] svg"


@pytest.fixture(scope="module")
def app(trained: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "explorer", f"--server.port={port}"],
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
            time.sleep(0.1)
    yield url
    server.terminate()
    server.wait()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(60_000)
    yield page
    context.close()


def opened(page, app: str, name: str) -> None:
    """Goes to a page of the app and waits until it is drawn."""
    (title,) = {PAGES[n] for n in PAGES if n.partition("?")[0] == name.partition("?")[0]}
    page.goto(f"{app}/{name}")
    page.get_by_role("heading", name=title, exact=True, level=1).wait_for()
    page.locator(ENDED).wait_for(state="attached")


def asked(page) -> dict[str, str]:
    return {name: value for name, (value,) in parse_qs(urlparse(page.url).query).items()}


def pick(page, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).first.click()
    page.get_by_role("option", name=option, exact=True).click()
    page.locator(ENDED).wait_for(state="attached")


@pytest.mark.parametrize("count", [12, pytest.param(100, marks=pytest.mark.slow)])
def test_downloads_in_a_hurry_are_whole(app, browser, count):
    """From two sessions, on two pages, faster than the exports are made."""
    sessions = []
    for name in ("learning_rate", "sparsity"):
        page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
        page.set_default_timeout(120_000)
        got: list = []
        page.on("download", lambda download, got=got: got.append(download))
        opened(page, app, name)
        page.locator(CHARTS).nth(1).wait_for()
        page.get_by_role("button", name="Download figure").click()
        buttons = [
            page.get_by_role("button", name=f"{kind}, {width}")
            for kind in ("SVG", "PNG")
            for width in ("one column", "two columns")
        ]
        for button in buttons:
            button.wait_for()
        sessions.append((page, buttons, got))
    for i in range(count // 2):
        for _, buttons, _ in sessions:
            buttons[i % 4].click(no_wait_after=True)
    for page, _, got in sessions:
        deadline = time.monotonic() + 240
        while len(got) < count // 2:
            assert time.monotonic() < deadline, f"{len(got)} of {count // 2} files came"
            page.wait_for_timeout(100)
        for download in got:
            content = Path(download.path()).read_bytes()
            if download.suggested_filename.endswith("svg"):
                text = content.decode()
                assert text.count('aria-roledescription="point"') >= 10, "a legend, no plot"
                assert "LT-IMP" in text
                assert "127.0.0.1" not in text
            else:
                assert content.startswith(b"\x89PNG")
                assert len(content) > 20_000
        page.context.close()


def test_the_address_names_what_is_shown(app, page):
    opened(page, app, "definition")
    page.wait_for_url("**study=tiny**")
    assert set(asked(page)) == {"study", "launch", "detail"}
    shown = asked(page) | {"detail": "IMP at 0.750"}
    pick(page, "Ticket in detail", "IMP at 0.750")
    page.wait_for_url("**detail=IMP+at+0.750**")
    assert asked(page) == shown
    # The same view by its address, in another session.
    page.context.new_page().close()
    page.goto(page.url)
    page.get_by_text("IMP at 0.750:").wait_for()
    # By the menu to another page, which is about the same study.
    page.get_by_test_id("stSidebar").get_by_role("link", name="Runs and tickets").click()
    page.get_by_role("heading", name="Runs and tickets", exact=True).wait_for()
    page.wait_for_url(f"**launch={shown['launch']}**")


def test_what_a_link_names_and_is_not_there_is_said(app, page):
    opened(page, app, "definition?study=tiny&launch=gone&detail=IMP+at+0.123")
    page.get_by_text("that is not here:").nth(1).wait_for()
    for named in ("gone", "IMP at 0.123"):
        page.get_by_text(named, exact=True).wait_for()
    opened(page, app, "point?setting=lt&pruner=imp&s=0.75&lr=7")
    page.get_by_text("names a point that this launch of the study does not have").wait_for()


def test_criteria_that_are_not_the_papers_are_seen(app, page):
    opened(page, app, "learning_rate?gap=1.5&reading=joint")
    for chip in ("clear gap: over 1.5 points", "joint reading"):
        page.get_by_text(chip).first.wait_for()
    page.get_by_role("button", name="Download figure").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="SVG, two columns").click()
    said = re.sub(r"<[^>]*>|\s", "", Path(download.value.path()).read_text())
    assert "cleargap:over1.5points;jointreading" in said


def test_a_point_opens_its_evidence_beside_the_app(app, page):
    opened(page, app, "learning_rate")
    dot = page.locator(CHARTS).nth(1).locator(f"{POINTS} path").first
    dot.wait_for()
    before = page.url
    with page.context.expect_page() as opening:
        # Whichever of several that lie on each other is on top.
        dot.click(force=True)
    evidence = opening.value
    evidence.get_by_role("heading", name="One point", exact=True).wait_for()
    evidence.get_by_role("heading", name="What it decides").wait_for()
    evidence.locator(CHARTS).first.wait_for()
    assert page.url == before, "a plain click does not replace the app"
    link = evidence.get_by_role("link", name="Compare these runs in MLflow")
    assert "workflowType=machine_learning" in link.get_attribute("href")


def test_a_cell_of_the_map_opens_its_conditions(app, page):
    opened(page, app, "")
    page.get_by_text("This page refreshes by itself").wait_for()
    page.get_by_text("What is being asked").wait_for()
    # Charts draw themselves in any order: the first in the page may not be the first drawn.
    of_imp = page.locator(CHARTS).filter(has_text=re.compile(r"\bIMP\b")).first
    cell = of_imp.locator(".mark-text.role-mark text").first
    cell.wait_for()
    with page.context.expect_page() as opening:
        cell.click()
    definition = opening.value
    definition.get_by_role("heading", name="Definition", exact=True).wait_for()
    assert asked(definition)["detail"].startswith("IMP at ")


def test_the_legend_singles_out_a_line(app, page):
    opened(page, app, "learning_rate")

    def opacities() -> set[str]:
        panel = page.locator(CHARTS).nth(1)
        return set(
            panel.evaluate(
                "svg => [...svg.querySelectorAll('.mark-symbol.role-mark path')]"
                ".map(path => path.getAttribute('opacity') || '1')"
            )
        )

    page.locator(CHARTS).nth(1).wait_for()
    assert opacities() == {"1"}
    page.locator(CHARTS).nth(0).get_by_text("LT-IMP").click()
    page.wait_for_function(
        "() => document.querySelectorAll('[data-testid=stVegaLiteChart]')[1]"
        ".querySelector('path[opacity=\"0.12\"]')"
    )
    assert opacities() == {"1", "0.12"}


def test_pages_are_reached_by_the_menu_and_a_link_keeps_the_reading(app, page):
    page.goto(f"{app}/definition?reading=joint")
    page.get_by_role("heading", name="Definition", exact=True).wait_for()
    sidebar = page.get_by_test_id("stSidebar")
    sidebar.get_by_test_id("stExpander").first.locator("summary").click()
    chosen = sidebar.get_by_role("radio", name="joint")
    chosen.wait_for(state="attached")
    sync_api.expect(chosen).to_be_checked(timeout=60_000)


# Pages with the same parts as others.
OF_ONE_KIND = ("sparsity", "ablation", "guideline", "correlation", "curves")
# Pictures, which take as long as all else, of the slow ones.
SIZES = [
    (768, "light"),
    pytest.param(768, "dark", marks=pytest.mark.slow),
    pytest.param(1440, "light", marks=pytest.mark.slow),
    pytest.param(1440, "dark", marks=pytest.mark.slow),
    pytest.param(1920, "light", marks=pytest.mark.slow),
    pytest.param(1920, "dark", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_every_page_fits_its_window(app, browser, request, width, scheme):
    """Nothing is cut, no request leaves the machine, and axe-core finds nothing serious."""
    is_slow = request.node.get_closest_marker("slow") is not None
    context = browser.new_context(
        viewport={"width": width, "height": 1000}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_default_timeout(60_000)
    errors: list[str] = []
    asked_for: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: asked_for.append(request.url))
    axe = (files("axe_playwright_python") / "axe.min.js").read_text()
    output = ROOT / "tests-output"
    output.mkdir(exist_ok=True)
    serious = {}
    for name, title in PAGES.items():
        if not is_slow and name in OF_ONE_KIND:
            continue
        opened(page, app, name)
        assert title in page.get_by_role("heading", level=1).inner_text()
        assert page.title().endswith(" · Jackpot")
        page.wait_for_timeout(300)
        cut = page.evaluate(
            "() => [...document.querySelectorAll('[data-testid=stVegaLiteChart] svg')]"
            ".map(svg => svg.getBoundingClientRect())"
            ".filter(box => box.right > window.innerWidth + 1).length"
        )
        assert cut == 0, f"{name}: {cut} figures are cut at {width} px"
        stem = name.partition("?")[0] or "overview"
        if is_slow:
            page.screenshot(path=output / f"{stem}-{width}-{scheme}.png", full_page=True)
        page.evaluate(axe)
        found = page.evaluate(
            "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"
            ".filter(v => ['serious', 'critical'].includes(v.impact))"
            ".map(v => [v.id, v.nodes.map(n => n.html.slice(0, 200))])"
        )
        if found:
            serious[stem] = found
    context.close()
    assert errors == []
    outside = [u for u in asked_for if not u.startswith((app, "ws://127.0.0.1", "data:", "blob:"))]
    assert outside == []
    assert not serious, serious


@pytest.mark.parametrize("width", [ONE_COLUMN, pytest.param(TWO_COLUMNS, marks=pytest.mark.slow)])
def test_labels_for_print_do_not_lie_on_each_other(browser, width):
    from explorer import show
    from tests.explorer.test_print import FIGURES

    page = browser.new_page()
    for name, spec in FIGURES.items():
        page.set_content(show.exported(spec, "svg", width).decode())
        pairs = page.evaluate(
            """() => {
            const boxes = [...document.querySelectorAll('text')]
                .filter(text => text.textContent.trim() && text.style.display !== 'none'
                    && getComputedStyle(text).opacity !== '0'
                    && text.getAttribute('opacity') !== '0')
                .map(text => [text.textContent, text.getBoundingClientRect()]);
            const over = [];
            for (let i = 0; i < boxes.length; i++) for (let j = 0; j < i; j++) {
                const [a, b] = [boxes[i][1], boxes[j][1]];
                const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
                const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
                if (x > 1.5 && y > 4) over.push([boxes[i][0], boxes[j][0]]);
            }
            return over; }"""
        )
        assert pairs == [], f"{name} at {width} points"
    page.close()
