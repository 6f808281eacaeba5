"""A real browser in front of a real service, with the committed models; skipped where there is no chromium.

Nothing here is asynchronous: Playwright's synchronous interface keeps a loop of its own running in this thread for as
long as a browser is open, so the browser ends with the last test of this package.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from tests.service.processes import Running, running

CHROMIUM = os.environ.get("SIGHTLINE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
TIMEOUT_MS = 30_000  # machines that run tests are slow at times

_REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy violated: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/tests/page/" in item.path.as_posix():
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="package")
def service() -> Iterator[Running]:
    with running() as service:
        yield service


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (Debian: apt install chromium; elsewhere name it in SIGHTLINE_CHROMIUM)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield browser
        browser.close()


@dataclass
class Tab:
    """A page, and what its console complained of; a test that expects a complaint takes it from `complaints`."""

    page: Page
    context: BrowserContext
    complaints: list[str] = field(default_factory=list)

    def take_refusals(self, status: int) -> None:
        """Expect that there were answers of this status, which Chromium reports on the console."""
        left = [each for each in self.complaints if f"status of {status}" not in each]
        assert len(left) < len(self.complaints), f"no {status} among {self.complaints}"
        self.complaints[:] = left


Open = Callable[..., Tab]


@pytest.fixture
def open_page(browser: Browser, service: Running) -> Iterator[Open]:
    """Opens the page, ready to use; fails the test at its end when a console had anything to say."""
    tabs: list[Tab] = []
    with ExitStack() as contexts:

        def start(
            *,
            path: str = "/",
            scheme: str = "light",
            size: tuple[int, int] = (1280, 800),
            touch: bool = False,
            prepare: Callable[[Page], None] = lambda _: None,
            state: str = "ready",
            at: str | None = None,
        ) -> Tab:
            context = browser.new_context(
                viewport={"width": size[0], "height": size[1]},
                color_scheme="dark" if scheme == "dark" else "light",
                has_touch=touch,
                accept_downloads=True,
            )
            contexts.callback(context.close)
            context.set_default_timeout(TIMEOUT_MS)
            context.add_init_script(_REPORT_VIOLATIONS)
            tab = Tab(context.new_page(), context)
            tabs.append(tab)

            def note(message: ConsoleMessage) -> None:
                ours = "willReadFrequently" in message.text  # it is the tests that look at a canvas again and again
                if message.type in {"error", "warning"} and not ours:
                    tab.complaints.append(message.text)

            tab.page.on("console", note)
            tab.page.on("pageerror", lambda error: tab.complaints.append(str(error)))
            prepare(tab.page)
            tab.page.goto((at or f"http://{service.host}:{service.port}") + path)
            tab.page.wait_for_selector(f"body[data-state={state}]" if state else "body")
            return tab

        yield start
        for tab in tabs:
            assert not tab.complaints
