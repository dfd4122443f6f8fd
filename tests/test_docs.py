"""What the documentation says is there: links, excerpts of the examples, configs."""

import json
import re
from pathlib import Path

import pytest

from benchmarks import adaptive, adaptive_digits
from benchmarks.judging import tables
from jackpot.published import CONTRADICTIONS, PRINTED, statements
from trainer.study.config_file import load_study

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: str, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall((ROOT / page).read_text()) if kind == language]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(linked), f"{page.name} links to {target}"


def test_the_readme_asks_what_the_overview_asks():
    assert (ROOT / "explorer" / "asked.md").read_text() in (ROOT / "README.md").read_text()


def test_excerpts_are_in_the_examples():
    found = blocks("docs/extending.md", "python")
    assert len(found) >= 6
    for block in found:
        first, _, code = block.partition("\n")
        assert code in (ROOT / first.removeprefix("# ")).read_text(), f"no longer in {first}"


@pytest.mark.parametrize("page", ["README.md", "docs/config.md"])
def test_configs_are_read(page: str, tmp_path: Path):
    configs = [text for text in blocks(page, "yaml") if text.startswith("study:")]
    assert configs
    for text in configs:
        (tmp_path / "study.yaml").write_text(text)
        assert load_study(tmp_path / "study.yaml").study == "my-study"


def test_the_first_config_is_short():
    first = blocks("README.md", "yaml")[0]
    assert len(first.splitlines()) == 8


def test_the_tables_of_judging_are_those_of_the_results():
    kept = json.loads((ROOT / "benchmarks" / "results" / "judging-cpu.json").read_text())
    page = (ROOT / "docs" / "judging.md").read_text()
    for table in tables(kept):
        assert table in page


def test_the_tables_of_adaptive_studies_are_those_of_the_results():
    results, page = ROOT / "benchmarks" / "results", (ROOT / "docs" / "adaptive.md").read_text()
    for table in adaptive.tables(json.loads((results / "adaptive-cpu.json").read_text())):
        assert table in page
    digits = json.loads((results / "digits-adaptive-cpu.json").read_text())
    assert adaptive_digits.table(digits) in page


def test_the_papers_numbers_are_what_the_library_says():
    page = (ROOT / "docs" / "paper-numbers.md").read_text()
    for row in [
        *(
            f"| {s.where} | {s.says} | {s.numbers} | {'✓' if s.agrees else '×'} |"
            for s in statements()
        ),
        *(f"| {where} | {how} |" for where, how in CONTRADICTIONS),
    ]:
        assert row in page
    for printed in PRINTED.values():
        for curve in printed.curves.values():
            for percent in curve.values():
                assert f" {percent}" in page
