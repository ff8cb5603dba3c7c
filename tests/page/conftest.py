"""A real browser, a local cloud of its own, and the people who look at its page."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Playwright, sync_playwright

from localcloud.api_client import ApiClient
from localcloud.catalogue import ROOT
from localcloud.running_cloud import RunningCloud, start_cloud
from localcloud.settings import ADMIN_EMAIL, LocalSettings
from tests.kept_logs import keep_if_failed
from tests.log_lines import not_json
from tests.page.looks import WIDE, Look
from tests.page.person import Person
from tests.page.watch import Watch
from tests.system.token_leaks import leaks

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NO_BROWSER = "there is no Chromium: sudo apt-get install chromium"
BUSY = "busy@example.com"  # may have more workspaces than others
SETTINGS = LocalSettings(
    times="fast",
    schedule_seconds=1,
    heartbeat_seconds=1,
    overrides={
        "HUB_MACHINE_PRICES": "e2-standard-2=0.067,e2-standard-4=0.134,e2-standard-8=0.268",
        "HUB_CHANGES_PER_MINUTE": "12",
        "HUB_LIMITS_OF": f"{BUSY}=20:20",
        "HUB_WORKSPACES_PER_OWNER": "5",
        "HUB_RUNNING_PER_OWNER": "3",
    },
)
# Chromium asks its makers for nothing while it is tested, and its letters have no coloured edges.
QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-lcd-text",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)
_REPORT = pytest.StashKey[pytest.TestReport]()
_FAILURES = ROOT / ".localcloud" / "tests.logs" / "page"

OpenPage = Callable[..., Person]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep how a test has ended, for the pictures of what failed.

    All that is skipped for want of a browser is one line of pytest's summary: it has one place.
    """
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple) and NO_BROWSER in report.longrepr[2]:
        report.longrepr = (__file__, 1, report.longrepr[2])
    if report.when == "call":
        item.stash[_REPORT] = report
    return report


@pytest.fixture(scope="session")
def _playwright() -> Iterator[Playwright]:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(NO_BROWSER)
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def browser(_playwright: Playwright) -> Iterator[Browser]:
    """The one browser of the run; everybody has a profile of their own in it."""
    path = next(filter(None, map(shutil.which, BROWSERS)))
    browser = _playwright.chromium.launch(executable_path=path, args=list(QUIET))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def page_cloud(request: pytest.FixtureRequest, browser: Browser) -> Iterator[RunningCloud]:
    """The cloud of these tests. All share it: use your own people, and clear faults.

    At its end every line of its logs must be JSON, and no line and no event may have a token.
    """
    assert browser.is_connected()  # without a browser no cloud is started
    with start_cloud(SETTINGS) as cloud:
        yield cloud
        keep_if_failed(cloud, "page_cloud", failed=request.session.testsfailed)
        assert not_json(cloud) == []
        assert leaks(cloud) == []


def client(cloud: RunningCloud, email: str) -> ApiClient:
    """Return a person's client of the API."""
    return ApiClient(cloud.address, cloud.token(email))


@pytest.fixture
def faults(page_cloud: RunningCloud) -> Iterator[RunningCloud]:
    """The cloud, of which all faults are off again after the test."""
    yield page_cloud
    page_cloud.clear_faults()


@pytest.fixture
def open_page(
    request: pytest.FixtureRequest, browser: Browser, page_cloud: RunningCloud
) -> Iterator[OpenPage]:
    """Make a person who has a browser window of a certain look; the page is not open yet.

    After the test nothing may have gone wrong in any window: see ``Watch``.
    """
    people: list[Person] = []

    def open_page(email: str | None = None, look: Look = WIDE) -> Person:
        address = email or f"{uuid.uuid4().hex[:12]}@example.com"
        context = browser.new_context(base_url=page_cloud.address, **look.context())
        watch = Watch(context, page_cloud.address)
        person = Person(page_cloud, address, client(page_cloud, address), watch)
        people.append(person)
        return person

    yield open_page
    report = request.node.stash.get(_REPORT, None)
    for person in people:
        if report is not None and report.failed:
            _photograph(person, f"{request.node.name}-{people.index(person)}")
        person.watch.context.close()
    problems = [problem for person in people for problem in person.watch.problems]
    assert problems == [], "what went wrong in the browser"


def _photograph(person: Person, name: str) -> None:
    """Keep what a person saw when a test failed."""
    _FAILURES.mkdir(parents=True, exist_ok=True)
    file_name = "".join(letter if letter.isalnum() else "-" for letter in name)
    for number, page in enumerate(person.watch.context.pages):
        path = Path(_FAILURES, f"{file_name}-{number}.png")
        try:
            page.screenshot(path=path, full_page=True)
        except Error as error:  # it hangs, or it is closed: the test's own failure says more
            path.with_suffix(".txt").write_text(str(error))


@pytest.fixture
def alice(open_page: OpenPage) -> Person:
    """A person whom no other test uses."""
    return open_page()


@pytest.fixture
def bob(open_page: OpenPage) -> Person:
    """Another one."""
    return open_page()


@pytest.fixture
def admin(open_page: OpenPage) -> Person:
    """The administrator of the local cloud."""
    return open_page(ADMIN_EMAIL)
