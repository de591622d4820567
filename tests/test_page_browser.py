"""The report page in a browser: it is drawn, asks for nothing, fits a phone, and works by keyboard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.page_world import CODES, make_page_world
from translit_scale.cli import main

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian package chromium)")
MOST_BYTES, MOST_SECONDS = 5e6, 2.0
REDRAWN = "[...document.querySelectorAll('.chart')].every(chart => Number(chart.dataset.width) < 390)"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page about two runs and a base model in 1,155 languages."""
    folder = tmp_path_factory.mktemp("page")
    runs = make_page_world(folder)
    assert main(["report", "page", *map(str, runs), "--out", str(folder / "page.html")]) == 0
    return folder / "page.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, path: Path, width: int = 1440, dark: bool = False) -> Iterator[Page]:
    """The page with all charts drawn; it must not have asked for anything or written an error."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
    page = context.new_page()
    page.set_default_timeout(200_000)  # a busy machine is no defect
    errors: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-drawn]", state="attached")
    yield page
    assert not errors
    assert set(requests) == {path.as_uri()}
    context.close()


def charts(page: Page) -> list[Any]:
    """Width and height of the drawing of every figure."""
    size = "svg && [svg.clientWidth, svg.clientHeight]"
    script = f"figures => figures.map(figure => {{ const svg = figure.querySelector('svg'); return {size}; }})"
    drawn: list[Any] = page.eval_on_selector_all("figure", script)
    return drawn


def codes(page: Page) -> list[str]:
    """The first cells of the visible rows of the table of languages."""
    rows = "#language-table tbody tr:not([hidden]) th"
    return [text.strip() for text in page.locator(rows).all_text_contents()]


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (1440, True), (390, False), (390, True)])
def test_charts_are_drawn_and_nothing_overflows(browser: Browser, report: Path, width: int, dark: bool) -> None:
    with opened(browser, report, width, dark) as page:
        drawn = charts(page)
        assert len(drawn) > 5 and all(size and size[0] > 150 and size[1] > 20 for size in drawn)
        assert all(size[0] <= width for size in drawn)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_charts_use_the_width_at_hand(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        wide = [size[1] for size in charts(page)]
        page.set_viewport_size({"width": 390, "height": 900})
        narrow = charts(page)
        for _ in range(600):  # `wait_for_function` would need eval, which the page's policy forbids
            if all(size[0] <= 390 for size in narrow) and page.evaluate(REDRAWN):
                break
            page.wait_for_timeout(100)
            narrow = charts(page)
        assert all(size[0] <= 390 for size in narrow)
        assert any(size[1] > height for size, height in zip(narrow, wide, strict=True))  # panels wrap


def test_a_page_of_all_languages_is_small_and_opens_quickly(browser: Browser, report: Path) -> None:
    """Seconds are those that the browser's main thread computes, which other tests on this machine do not change."""
    assert report.stat().st_size < MOST_BYTES
    with opened(browser, report) as page:
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.reload(wait_until="load")
        metrics = {entry["name"]: entry["value"] for entry in session.send("Performance.getMetrics")["metrics"]}
        assert page.locator("#language-table tbody tr").count() == len(CODES)
        assert 0 < metrics["TaskDuration"] < MOST_SECONDS


def test_the_table_is_sorted_and_searched_by_keyboard(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        head = page.locator("#language-table thead th").first
        head.locator("button").focus()
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "ascending"
        assert codes(page) == sorted(CODES)
        page.keyboard.press("Space")
        assert head.get_attribute("aria-sort") == "descending"
        assert codes(page) == sorted(CODES, reverse=True)
        page.locator("#language-search").focus()
        page.keyboard.type("cyrillic tail")
        assert 0 < len(codes(page)) < 200 and all(code.endswith("_Cyrl") for code in codes(page))
        assert page.locator("#language-count").text_content() == f"{len(codes(page))} of {len(CODES)} languages"


def test_numbers_are_sorted_as_numbers_and_missing_ones_last(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        head = page.locator("#language-table thead th", has_text="tcm minus base").first
        column = head.evaluate("head => head.cellIndex")
        head.locator("button").click()
        texts = page.locator(f"#language-table tbody tr > :nth-child({column + 1})").all_text_contents()
        values = [float(text.split("▲")[0].split("▼")[0].split()[0]) for text in texts if text.strip() != "–"]
        assert values == sorted(values, reverse=True)
        assert {text.strip() for text in texts[len(values) :]} <= {"–"}


def test_the_skip_link_and_the_numbers_of_a_chart(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.locator("figure details summary").first.focus()
        page.keyboard.press("Enter")
        table = page.locator("figure details table").first
        table.locator("tbody tr").first.wait_for()  # it is made when it is opened
        assert table.locator("th[scope=col]").count() >= 4 and table.locator("tbody tr").count() > 10
        with page.expect_download() as download:
            page.locator("figure details button.download").first.click()
        saved = Path(download.value.path()).read_text()
        folder = report.with_suffix("")
        assert saved.splitlines()[0] == (folder / download.value.suggested_filename).read_text().splitlines()[0]


def test_files_of_figures_lie_beside_the_page(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        links = page.eval_on_selector_all(".files a", "links => links.map(link => link.getAttribute('href'))")
    assert len(links) > 15 and all((report.parent / link).is_file() for link in links)


def test_printing_shows_every_language_and_no_controls(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        page.emulate_media(media="print")
        assert not page.locator(".controls").is_visible()
        assert page.evaluate("getComputedStyle(document.querySelector('.scroll.tall')).maxHeight") == "none"
        assert len(page.pdf()) > 100_000
