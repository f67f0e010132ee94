"""What was stored runs in no page: a real Chromium opens every one."""

import shutil
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy.orm import Session, sessionmaker

from service.evaluation.evidently import Subject, render_report
from service.evaluation.measurement import Direction, Measurement, Verdict
from service.profiles.columns import Column, Kind
from service.runs.endpoints import REPORT_HEADERS
from service.runs.tables import Report
from tests.integration.privacy.conftest import Serve
from tests.integration.seeded import DAY, START, add_measurement, add_window, register

chromium = shutil.which("chromium") or shutil.which("google-chrome")

# Whatever runs says so, and where: the second half is the document's origin.
RUN = "document.documentElement.dataset.ran='{}';document.documentElement.dataset.at=origin"
SCRIPT = f"</script><script>{RUN.format('script')}</script>"
IMAGE = f'<img src=x onerror="{RUN.format("image")}">'
BREAK = f"\"'><svg onload={RUN.format('svg').replace(' ', '')}>"
LINK = f'<a href="javascript:{RUN.format("link")}">x</a>'
BIDI = "north\u202ehtuos"
HOSTILE = (SCRIPT, IMAGE, BREAK, LINK, BIDI)

Dom = Callable[[str], str]

pytestmark = pytest.mark.skipif(
    chromium is None, reason="Chromium is not installed (Debian: apt-get install chromium)"
)


@pytest.fixture
def dom(tmp_path: Path) -> Dom:
    """Return how to open an address and see what its document has become."""

    def open_page(url: str) -> str:
        done = subprocess.run(
            [
                *(str(chromium), "--headless=new", "--no-sandbox", "--disable-gpu"),
                *(f"--user-data-dir={tmp_path / 'browser'}", "--no-first-run", "--disable-sync"),
                *("--virtual-time-budget=15000", "--dump-dom", url),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        assert "<html" in done.stdout, done.stderr[-2000:]
        return done.stdout

    return open_page


def rows(seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    return pa.table(
        {
            SCRIPT: random.normal(0, 1, 400),
            IMAGE: random.choice(HOSTILE, 400),
            BREAK: random.choice(["a", "b"], 400),
            "score": random.random(400),
            "prediction": random.choice(["0", "1"], 400),
        }
    )


def a_report() -> bytes:
    said = [
        Measurement(
            metric="roc_auc",
            subject=LINK,
            slice=f"{IMAGE}={SCRIPT}",
            value=0.5,
            n=100,
            method="m",
            direction=Direction.LOWER_IS_WORSE,
            verdict=Verdict.ALERT,
            reason=f"{text} is worse",
        )
        for text in HOSTILE
    ]
    columns = (
        Column(SCRIPT, Kind.NUMERIC),
        Column(IMAGE, Kind.CATEGORICAL),
        Column(BREAK, Kind.CATEGORICAL),
    )
    window = Subject("loans", "7", START, START + DAY)
    return render_report(window, said, reference=rows(1), current=rows(2), columns=columns)


def store(sessions: sessionmaker[Session], page: bytes, day: int) -> str:
    version = register(sessions, "7")
    with sessions.begin() as session:
        window = add_window(session, version, day, reason=IMAGE)
        add_measurement(session, window, 0, slice=f"region={SCRIPT}", reason=BREAK)
        session.add(Report(window_id=window.id, content=zlib.compress(page)))
    return f"/v1/models/loans/windows/{(START + day * DAY).isoformat().replace('+00:00', 'Z')}"


def test_nothing_that_was_stored_runs_in_a_browser(
    serve: Serve,
    sessions: sessionmaker[Session],
    dom: Dom,
) -> None:
    client = serve()
    window = store(sessions, a_report(), 0)
    client.put("/v1/models/loans", json={"owner": SCRIPT, "description": IMAGE})
    base = str(client.base_url).rstrip("/")
    answer = client.get(f"{window}/report")
    assert {name: answer.headers[name] for name in REPORT_HEADERS} == REPORT_HEADERS
    report = dom(f"{base}{window}/report")
    # It was drawn, with its text as text.
    assert "is worse" in report
    assert "\\u202e" in report
    assert "\u202e" not in report
    paths = ("/", "/docs", "/v1/models", window, "/metrics/models", f"/v1/models/{SCRIPT}")
    for page in (report, *(dom(f"{base}{path}") for path in paths)):
        assert "data-ran" not in page.partition("<body")[0]


def test_without_the_escape_it_would_run_and_reach_nothing(
    serve: Serve,
    sessions: sessionmaker[Session],
    dom: Dom,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.detection.evidently_adapter.without_markup", lambda page: page)
    client = serve()
    window = store(sessions, a_report(), 0)
    head = dom(f"{str(client.base_url).rstrip('/')}{window}/report").partition("<body")[0]
    assert "data-ran=" in head
    # The policy's sandbox: neither cookies nor routes of the service are its own.
    assert 'data-at="null"' in head
