"""A view per version with the features' real names, for psql, Grafana and people."""

from collections.abc import Iterable, Iterator

from sqlalchemy.orm import Session

from service.registry.values import FeatureSpec, VersionSpec

SCHEMA = "logs"
LONGEST = 63

_FIXED = (
    "prediction_id",
    "ts",
    "received_at",
    "prediction",
    "score",
    "scores",
    "weight",
    "subject",
    "tags",
)
_LABEL = ("label", "label_ts")
_HEAD = ("p.prediction_id", "p.ts", "p.received_at")
_TAIL = ("p.weight", "p.subject", "p.tags")
_AS_MEANT = {"boolean": "p.{} <> 0", "datetime": "to_timestamp(p.{})"}
_OWN = {
    "binary": (*_HEAD, "p.prediction", "p.score", *_TAIL, "l.label"),
    "multiclass": (*_HEAD, "p.prediction", "p.scores", *_TAIL, "l.label"),
    "regression": (
        *(*_HEAD, "p.predicted_value AS prediction"),
        *(*_TAIL, "l.label_value AS label"),
    ),
}


def view_name(version: VersionSpec) -> str:
    """Return the name of a version's view, unique also where PostgreSQL would cut it."""
    name = f"{version.model}@{version.version}"
    if len(name) <= LONGEST:
        return name
    suffix = f"~{version.version_id}"
    return name[: LONGEST - len(suffix)] + suffix


def create_view(session: Session, version: VersionSpec) -> None:
    """Create the version's view, or add its new features to it.

    Features come last and in the order of their registration, because a view in use can only be
    extended at its end.
    """
    columns = [*_OWN[version.task], "l.label_ts"]
    features = sorted(version.features + version.attributions, key=lambda own: own.position)
    names = column_names(feature.name for feature in features)
    columns += [
        f"{_slot(feature)} AS {quote(name)}" for feature, name in zip(features, names, strict=True)
    ]
    statement = f"""
        CREATE OR REPLACE VIEW {SCHEMA}.{quote(view_name(version))} AS
        SELECT {", ".join(columns)}
        FROM prediction p
        LEFT JOIN LATERAL (
            SELECT label, label_value, label_ts FROM label
            WHERE model_id = p.model_id AND prediction_id = p.prediction_id
            ORDER BY label_ts DESC LIMIT 1
        ) l ON true
        WHERE p.model_id = {version.model_id:d} AND p.version_id = {version.version_id:d}
    """  # noqa: S608  quoted identifiers and numbers; a view takes no parameters
    # A feature's name may hold % and :, which are no placeholders here.
    connection = session.connection().execution_options(no_parameters=True)
    connection.exec_driver_sql(statement)


def column_names(names: Iterable[str]) -> Iterator[str]:
    """Yield names that PostgreSQL neither cuts nor confuses with another column of the view."""
    taken = {*_FIXED, *_LABEL}
    for name in names:
        chosen = _cut(name, LONGEST)
        number = 2
        while chosen in taken:
            suffix = f"~{number}"
            chosen = _cut(name, LONGEST - len(suffix)) + suffix
            number += 1
        taken.add(chosen)
        yield chosen


def quote(name: str) -> str:
    """Quote an identifier."""
    return '"' + name.replace('"', '""') + '"'


def _cut(name: str, size: int) -> str:
    return name.encode()[:size].decode(errors="ignore")


def _slot(feature: FeatureSpec) -> str:
    return _AS_MEANT.get(feature.kind, "p.{}").format(feature.slot)
