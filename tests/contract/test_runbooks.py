"""What the runbooks say to type does what they say, with a key."""

import re
import subprocess
from pathlib import Path
from shutil import which

import pytest
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker

from service.access.grants import Scope
from service.access.service import Wish, create_key
from service.alerts.tables import Incident
from service.processes.api import create_app
from service.registry.tables import Version
from service.retraining.tables import RetrainingRequest
from service.settings import Settings
from tests.contract.conftest import served
from tests.integration.seeded import add_incident, add_request, add_window, register
from tests.integration.webhooks.receiver import add_webhook

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks.md"


@pytest.mark.skipif(which("curl") is None, reason="curl is not installed")
def test_the_commands_of_the_runbooks_list_acknowledge_dismiss_replay_and_retire(
    database_url: str, sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    add_webhook(sessions, "ci")
    version = register(sessions, "7")
    add_incident(sessions, id=17)
    add_request(sessions, id=3)
    with sessions.begin() as session:
        add_window(session, version)
        token = create_key(session, "cli", Wish(scopes=frozenset({Scope.ADMIN})))
    (script,) = re.findall(r"^```sh\n(.*?)^```$", RUNBOOKS.read_text(), re.DOTALL | re.MULTILINE)
    with served(create_app(Settings(database_url=SecretStr(database_url)))) as url:
        script = script.replace("http://localhost:8080", url).replace("mw_…", token.text)
        script = script.replace("curl -sS", "curl -sS --fail-with-body --noproxy '*'")
        done = subprocess.run(
            ["bash", "-euc", script],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert '"queued"' in (tmp_path / "report.html").read_text()
    with sessions() as session:
        assert session.get_one(Version, version.version_id).stage == "retired"
        incident, request = session.get(Incident, 17), session.get(RetrainingRequest, 3)
        assert incident is not None
        assert request is not None
        assert incident.outcome == request.state == "dismissed"
        assert incident.acknowledged_by == request.handled_by == f"key:{token.kid}"
