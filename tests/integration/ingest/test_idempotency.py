"""Sent again, in part, changed, in another form: an id is stored once, as it was told first."""

import asyncio
import gzip
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime
from itertools import count
from typing import Any

import psycopg
import pyarrow as pa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy.orm import Session, sessionmaker

from service.ingest.arrow import ARROW
from service.ingest.bodies import NDJSON
from tests.conftest import sized
from tests.integration.ingest.conftest import Api, register, running
from tests.integration.ingest.test_arrow import stream

RUNS = sized(default=12, full=2_000)
IDS = st.sampled_from(["a", "b", "c", "d", "\u00e9"])
VERSIONS = st.sampled_from(["7", "8"])
TIMES = st.sampled_from(
    ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000001Z", "2026-02-28T00:00:00Z"]
)
INCOMES = st.sampled_from([0.1, 0.1 + 2**-54, 41_000.0, None])
REGIONS = st.sampled_from(["north", "", None])
ROWS = st.lists(st.tuples(IDS, TIMES, INCOMES, REGIONS), min_size=1, max_size=5)
LABELS = st.lists(st.tuples(IDS, TIMES, st.sampled_from(["0", "1"])), min_size=1, max_size=5)
FORMS = st.sampled_from(["json", "lines", "gzip", "arrow"])

Row = tuple[str, str, float | None, str | None]
LabelRow = tuple[str, str, str]
_numbers = count()


class World:
    """One API over one database, for all runs: each has a model of its own."""

    def __init__(self, url: str, sessions: sessionmaker[Session]) -> None:
        self.url = url
        self.sessions = sessions
        self.runner = asyncio.Runner()
        self.start()

    def start(self) -> None:
        self.stack = AsyncExitStack()
        api = running(self.url, self.sessions)
        self.api: Api = self.runner.run(self.stack.enter_async_context(api))

    def stop(self) -> None:
        self.runner.run(self.stack.aclose())


class Sender(RuleBasedStateMachine):
    """Sends to a real API and keeps in mind what must be stored."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.model = f"m{next(_numbers)}"
        for version in ("7", "8"):
            register(self.world.sessions, self.model, version)
        self.stored: dict[tuple[str, str], Row] = {}
        self.labelled: dict[tuple[str, str], str] = {}
        self.last: tuple[str, list[Row]] | None = None
        self.runner = self.world.runner

    @rule(seldom=st.integers(0, 9))
    def restart(self, seldom: int) -> None:
        if seldom == 9:
            self.world.stop()
            self.world.start()

    @rule(version=VERSIONS, rows=ROWS, form=FORMS)
    def send(self, version: str, rows: list[Row], form: str) -> None:
        self.last = (version, rows)
        verdicts = [self.told(self.stored, (version, row[0]), row) for row in rows]
        records = [_record(row) for row in rows]
        answer = self.runner.run(self.post("predictions", records, version, form))
        self.judge(answer, verdicts, "conflicting-duplicate")

    @rule(form=FORMS)
    def send_again(self, form: str) -> None:
        if self.last is not None:
            self.send(*self.last, form)

    @rule(version=VERSIONS, rows=ROWS)
    def send_at_once(self, version: str, rows: list[Row]) -> None:
        """Send equal batches together: whichever comes first, each row is new once."""
        first = {row[0]: row for row in reversed(rows)}
        known = [self.stored.get((version, name), row) == row for name, row in first.items()]
        new = sum((version, name) not in self.stored for name in first)
        records = [_record(row) for row in first.values()]

        async def together() -> list[Any]:
            sends = (self.post("predictions", records, version, "json") for _ in range(3))
            return list(await asyncio.gather(*sends))

        answers = self.runner.run(together())
        if not any(answer["unsure"] for answer in answers):
            assert sum(answer.get("accepted", 0) for answer in answers) == new
        assert all(len(answer["rejected"]) == known.count(False) for answer in answers)
        for name, row in first.items():
            self.stored.setdefault((version, name), row)

    @rule(rows=LABELS, form=FORMS)
    def label(self, rows: list[LabelRow], form: str) -> None:
        verdicts = [self.told(self.labelled, (name, ts), said) for name, ts, said in rows]
        records = [{"prediction_id": i, "label_ts": ts, "label": said} for i, ts, said in rows]
        answer = self.runner.run(self.post("labels", records, None, form))
        self.judge(answer, verdicts, "conflicting-label")

    def told(self, known: dict[Any, Any], key: Any, content: Any) -> str:
        """Return what becomes of a row, and remember it if it is new."""
        if key not in known:
            known[key] = content
            return "accepted"
        return "duplicate" if known[key] == content else "conflict"

    def judge(self, answer: Any, verdicts: list[str], code: str) -> None:
        conflicts = [index for index, verdict in enumerate(verdicts) if verdict == "conflict"]
        assert [(row["index"], row["code"]) for row in answer["rejected"]] == [
            (index, code) for index in conflicts
        ]
        if answer["unsure"]:
            told = answer.get("accepted", 0) + answer.get("duplicates", 0)
            assert told == len(verdicts) - len(conflicts)
        elif len(conflicts) < len(verdicts):
            assert answer["accepted"] == verdicts.count("accepted")
            assert answer["duplicates"] == verdicts.count("duplicate")

    async def post(
        self, kind: str, records: list[dict[str, Any]], version: str | None, form: str
    ) -> Any:
        target = {"model": self.model} | ({} if version is None else {"version": version})
        query = "&".join(f"{name}={value}" for name, value in target.items())
        envelope = json.dumps({**target, "records": records}).encode()
        bodies: dict[str, Callable[[], tuple[bytes, str, dict[str, str]]]] = {
            "json": lambda: (envelope, "", {}),
            "gzip": lambda: (gzip.compress(envelope), "", {"content_encoding": "gzip"}),
            "lines": lambda: (_lines(records), f"?{query}", {"content_type": NDJSON}),
            "arrow": lambda: (stream(_table(records)), f"?{query}", {"content_type": ARROW}),
        }
        body, where, headers = bodies[form]()
        unsure = False
        while True:
            answer = await self.world.api.raw(body, f"/v1/{kind}{where}", **headers)
            if answer.status_code != 503:
                break
            # A busy machine: whether a commit was in time nobody was told.
            unsure = unsure or answer.json()["code"] != "busy"
        assert answer.status_code in {200, 422}, answer.text
        return {**answer.json(), "unsure": unsure}

    @invariant()
    def what_is_stored_is_what_was_told_first(self) -> None:
        with psycopg.connect(self.world.url) as connection:
            connection.execute("SET timezone = 'UTC'")
            found = connection.execute("SELECT id FROM model WHERE name = %s", (self.model,))
            # A number, so that the partitions of all other runs are left alone.
            model_id = found.fetchone()
            rows = connection.execute(
                "SELECT v.name, p.prediction_id, p.ts, p.n1, p.c1 FROM prediction p "
                "JOIN version v ON v.id = p.version_id WHERE p.model_id = %s",
                model_id,
            ).fetchall()
            labels = connection.execute(
                "SELECT prediction_id, label_ts, label FROM label WHERE model_id = %s", model_id
            ).fetchall()
        assert len(rows) == len(self.stored)
        assert {(version, i): (i, ts, n, c) for version, i, ts, n, c in rows} == {
            key: (i, datetime.fromisoformat(ts), n, c) for key, (i, ts, n, c) in self.stored.items()
        }
        assert len(labels) == len(self.labelled)
        assert {(i, ts): said for i, ts, said in labels} == {
            (i, datetime.fromisoformat(ts)): said for (i, ts), said in self.labelled.items()
        }


def _record(row: Row) -> dict[str, Any]:
    name, ts, income, region = row
    features = {"income": income, "region": region}
    return {"prediction_id": name, "ts": ts, "prediction": "1", "features": features}


def _lines(records: list[dict[str, Any]]) -> bytes:
    return "\n".join(map(json.dumps, records)).encode()


def _table(records: list[dict[str, Any]]) -> pa.Table:
    flat = [{**record, **record.get("features", {})} for record in records]
    for record in flat:
        record.pop("features", None)
    table = pa.Table.from_pylist(flat)
    for name in ("ts", "label_ts"):
        if name in table.column_names:
            place = table.column_names.index(name)
            times = [datetime.fromisoformat(record[name]) for record in flat]
            table = table.set_column(place, name, pa.array(times, pa.timestamp("us", "UTC")))
    return table


def test_an_id_is_stored_once_and_as_it_was_told_first(
    database_url: str, sessions: sessionmaker[Session]
) -> None:
    world = World(database_url, sessions)
    try:
        run_state_machine_as_test(
            type("Here", (Sender,), {"world": world}),
            settings=settings(
                max_examples=RUNS,
                stateful_step_count=12,
                deadline=None,
                database=None,
                # Each step commits: to shrink a failure takes minutes.
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        world.stop()
        world.runner.close()
