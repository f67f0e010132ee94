"""The models that what runs now may see.

It is a matter of the context, not of each query: a query that forgot it would show one team's
model to another.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, Text, column, event, select, table
from sqlalchemy.orm import ORMExecuteState, Session, sessionmaker, with_loader_criteria

from service.db.base import Base

_visible: ContextVar[frozenset[str] | None] = ContextVar("visible_models", default=None)
_models = table("model", column("id", BigInteger), column("name", Text))


@contextmanager
def only(models: frozenset[str] | None) -> Iterator[None]:
    """See these models alone; None is all of them."""
    token = _visible.set(models)
    try:
        yield
    finally:
        _visible.reset(token)


def visible_models() -> frozenset[str] | None:
    """Return the names of the models that can be seen; None is all of them."""
    return _visible.get()


def is_visible(model: str) -> bool:
    """Say whether a model of that name, if there is one, can be seen."""
    names = _visible.get()
    return names is None or model in names


def hide_other_models(sessions: sessionmaker[Session]) -> None:
    """Make every query for mapped rows leave out those of models that cannot be seen."""
    event.listen(sessions, "do_orm_execute", _restrict)


def _restrict(state: ORMExecuteState) -> None:
    names = _visible.get()
    if names is not None and state.is_select:
        state.statement = state.statement.options(*_criteria(names))


@lru_cache(maxsize=256)
def _criteria(names: frozenset[str]) -> tuple[Any, ...]:
    ids = select(_models.c.id).where(_models.c.name.in_(sorted(names)))
    found = []
    for mapper in Base.registry.mappers:
        columns = mapper.columns
        if mapper.class_.__tablename__ == "model":
            own = columns["name"].in_(sorted(names))
        elif "model_id" in columns:
            own = columns["model_id"].in_(ids)
        else:
            continue
        found.append(with_loader_criteria(mapper.class_, own, include_aliases=True))
    return tuple(found)
