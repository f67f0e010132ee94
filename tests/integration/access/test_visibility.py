"""Rows of models that cannot be seen are in no answer of the database."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased, sessionmaker

from service.alerts.tables import Incident
from service.db.visibility import only
from service.registry.schemas import ModelDocument
from service.registry.service import put_model
from service.registry.tables import Model, Version
from service.runs.tables import Window
from tests.integration.seeded import add_incident, seed

OWN = frozenset({"loans"})
OTHER = frozenset({"cards"})


def fill(sessions: sessionmaker[Session]) -> int:
    seed(sessions)
    with sessions.begin() as session:
        put_model(session, "cards", ModelDocument())
    return add_incident(sessions)


def test_each_kind_of_query_leaves_them_out(sessions: sessionmaker[Session]) -> None:
    incident = fill(sessions)
    again = aliased(Window)
    queries = (
        select(Incident),
        select(Window.id, Version.name).join(Version, Version.id == Window.version_id),
        select(func.count()).select_from(Window).having(func.count() > 0),
        select(again.start),
        select(Model.id).where(Model.name == "loans"),
        select(Model.id).where(select(Window.id).where(Window.model_id == Model.id).exists()),
        select(select(Window).subquery().c.id),
        select(Model.name).join(Version, Version.model_id == Model.id),
    )
    for query in queries:
        for names, seen in ((None, True), (OWN, True), (OTHER, False), (frozenset(), False)):
            with only(names), sessions() as session:
                assert bool(session.execute(query).all()) is seen, (str(query), names)
    with only(OTHER), sessions() as session:
        assert session.get(Incident, incident) is None
    with only(OWN), sessions() as session:
        assert session.get(Incident, incident) is not None


def test_a_model_that_is_registered_later_is_seen_by_its_name(
    sessions: sessionmaker[Session],
) -> None:
    with only(OWN), sessions() as session:
        assert session.scalars(select(Model)).all() == []
    fill(sessions)
    with only(OWN), sessions() as session:
        assert [model.name for model in session.scalars(select(Model))] == ["loans"]
