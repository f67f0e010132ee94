"""A new version replaces the old one under load, beside it, with the schema changing first."""

import http.client
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import text

from service.db import migrate
from service.db.engine import make_engine
from service.db.revisions import migrations_directory
from tests.system.faults import audit
from tests.system.faults.rig import Rig, rigged
from tests.system.faults.roles import Role

ROUNDS = 2
BUSY = ("label", "prediction", "prediction_identity", "arrival", "due_work", "window")
ADDITION = '''
"""What the next release may add to a table."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "{revision}", "{before}", None, None


def upgrade() -> None:
    op.add_column("{table}", sa.Column("next_text", sa.Text()))
    op.add_column("{table}", sa.Column("next_number", sa.BigInteger(), server_default="7"))
    op.create_index("ix_{revision}", "{table}", ["next_number"])
'''


def migrate_to_the_next(rig: Rig, scratch: Path, patch: pytest.MonkeyPatch) -> None:
    """Change the schema as the next release would, while everybody works with it."""
    directory = scratch / "migrations"
    shutil.copytree(migrations_directory(), directory)
    engine = make_engine(rig.database.url, pool=1)
    with engine.connect() as connection:
        before = connection.scalar(text("SELECT version_num FROM alembic_version"))
        for table in BUSY:
            revision = f"next_{table}"
            content = ADDITION.format(revision=revision, before=before, table=table)
            (directory / "versions" / f"{revision}.py").write_text(content)
            before = revision
        patch.setattr(migrate, "migrations_directory", lambda: directory)
        migrate.upgrade(rig.database.url)
        connection.rollback()
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == before
    engine.dispose()


def stop(role: Role, port: int | None) -> list[int]:
    """Ask a process to end, and return what it said of its readiness meanwhile."""
    said: list[int] = []
    role.send(signal.SIGTERM)
    deadline = time.monotonic() + 60
    while role.exit_code is None:
        assert time.monotonic() < deadline, f"{role.name} does not end"
        if port is not None:
            said.append(_readiness(port))
        time.sleep(0.02)
    assert role.exit_code == 0
    return said


def _readiness(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def test_rolling_restarts_beside_a_migration_are_no_client_s_affair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rigged(tmp_path, settings={"drain": "PT1S"}) as rig:
        rig.load()
        rig.await_batches(20)
        migrate_to_the_next(rig, tmp_path, monkeypatch)
        rig.await_batches(20)
        told = 0
        for _ in range(ROUNDS):
            for number, (api, worker) in enumerate(zip(rig.apis, rig.workers, strict=True)):
                rig.resting = {api, worker}
                said = stop(api, rig.ports[number])
                # A process that stalls may be gone before it was asked again.
                told += 503 in said
                assert 503 not in said or 200 not in said[said.index(503) :]
                stop(worker, None)
                rig.await_batches(5)
                for role in rig.resting:
                    role.start()
                rig.resting = set()
                rig.await_ready(number)
                rig.await_batches(10)
        rig.finish(120)
        found = {**audit.look(rig.database.url), **audit.lost(rig.database.url, rig.plan)}
        print(Counter(status for status, _ in rig.plan.answers()), found)
        assert told > 0
        assert rig.plan.violations() == []
        assert audit.contradictions(found) == {}
