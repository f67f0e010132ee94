"""One version's records to rows.

A record that decodes into the version's own struct is right in every type and needs few more
looks.  Any other record is decoded again into plain objects and examined field by field, which
finds the verdict.  Both ways end in the same ``Fields``, so they cannot store different rows.
"""

from collections.abc import Callable
from operator import itemgetter
from typing import Any

from msgspec.structs import astuple

from service.ingest import limits
from service.ingest.decode import Record, load_record
from service.ingest.examine import (
    PREDICTION_FIELDS,
    Fields,
    Stored,
    WrongTypeError,
    check_names,
    read_amount,
    read_class,
    read_feature,
    read_id,
    read_score,
    read_scores,
    read_subject,
    read_tags,
    read_time,
    read_weight,
    unknown_feature,
)
from service.ingest.rows import Layout, PreparedRow
from service.ingest.structs import typed_decoder
from service.ingest.times import Horizon, Kept, microseconds, to_seconds
from service.ingest.treatment import treatment_of
from service.ingest.verdicts import Code, RowError, Verdicts
from service.registry.privacy import Pseudonyms
from service.registry.values import ATTRIBUTIONS, FeatureSpec, VersionSpec

WrongTypes = list[str]
Output = tuple[str | float | None, float | None, tuple[float, ...] | None]
_LACKING = {
    "binary": "neither prediction nor score",
    "multiclass": "neither prediction nor scores",
    "regression": "no prediction",
}


class WrongTargetError(Exception):
    """The record names another model or version than the codec's."""


class Codec:
    """Reads the records of one version."""

    def __init__(
        self, spec: VersionSpec, pseudonyms: Pseudonyms | None = None, kept: Kept | None = None
    ) -> None:
        self.spec = spec
        self.kept = kept
        self.layout = Layout(spec, pseudonyms)
        self._features = {f.name: f for f in (*spec.features, *spec.dropped)}
        self._treatment = treatment_of(spec, self.layout.texts, pseudonyms)
        numbers, texts = self.layout.numbers, self.layout.texts
        self._columns = (*numbers, *texts, *self.layout.vectors)
        self._attributions = {
            own.name.removeprefix(f"{ATTRIBUTIONS}."): own for own in self.layout.attributions
        }
        middle, end = len(numbers), len(numbers) + len(texts)
        # Of all values the numbers, the texts and the vectors; what is dropped comes after them.
        parts = slice(middle), slice(middle, end), slice(end, len(self._columns))
        self._parted: Callable[[tuple[Any, ...]], Any] = itemgetter(*parts)
        self._times = tuple(i for i, own in enumerate(numbers) if own.kind == "datetime")
        dropped = tuple(own.name for own in spec.dropped)
        self._ignored = frozenset(dropped)
        self._decode = typed_decoder(self._columns, tuple(self._attributions), spec.task, dropped)
        self._classes: dict[Any, str | None] = {None: None}
        self._classes.update((name, name) for name in spec.classes)

    def read(
        self, raw: Record, index: int, horizon: Horizon, owner: Verdicts, *, escapes: bool
    ) -> PreparedRow:
        """Return the row of a record, or raise its verdict; warnings go to its ``owner``.

        ``escapes`` says that the body has a backslash somewhere: only an escape can bring a
        control character into a string of JSON.
        """
        if self.kept is not None:
            horizon = horizon.kept(self.kept)
        if self._decode is not None and not (escapes and b"\\" in bytes(raw)):
            try:
                fields = self._plain(self._decode(raw), horizon, owner)
            except (ValueError, RecursionError):
                fields = None
            if fields is not None:
                if self._treatment is not None:
                    self._treatment.treat(fields)
                return self.layout.encode(index, fields, owner)
        fields, wrong = self.examine(load_record(raw, owner.depth), horizon, owner)
        for name in wrong:
            owner.warn(index, name, "wrong-type")
        if self._treatment is not None:
            self._treatment.treat(fields)
        row = self.layout.encode(index, fields, owner)
        row.wrong = tuple(wrong)
        return row

    def _plain(self, row: Any, horizon: Horizon, owner: Verdicts) -> Fields | None:
        """Return the fields of a decoded struct, or ``None`` where it needs a closer look."""
        ts = microseconds(row.ts)
        output = self._plain_output(row)
        if output is None or not horizon.earliest <= ts <= horizon.latest:
            return None
        self._check_target(row.model, row.version, owner)
        tags = None if row.tags is None else read_tags(row.tags)
        values = astuple(row.features)
        if self._times:
            values = self._with_seconds(values)
        attributions: tuple[float | None, ...] = ()
        if self._attributions:
            attributions = astuple(row.attributions)[: len(self._attributions)]
        numbers, texts, vectors = self._parted(values)
        return Fields(
            row.prediction_id, ts, *output, row.weight, row.subject, tags,
            numbers, texts, vectors, attributions,
        )  # fmt: skip

    def _with_seconds(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        changed = list(values)
        for i in self._times:
            if changed[i] is not None:
                changed[i] = to_seconds(changed[i])
                if changed[i] is None:
                    message = "a time outside of the years that can be stored"
                    raise ValueError(message)
        return tuple(changed)

    def _plain_output(self, row: Any) -> Output | None:
        prediction = row.prediction
        if self.spec.task == "regression":
            return prediction, None, None
        score, scores = None, None
        if self.spec.task == "multiclass":
            try:
                scores = read_scores({"scores": row.scores}, self.spec)
            except RowError:
                return None
        else:
            score = row.score
        text = self._classes.get(prediction) if type(prediction) is str else None
        if text is None and (prediction is not None or score is scores is None):
            text = self._plain_class(prediction)
            if text is None:
                return None
        return text, score, scores

    def _plain_class(self, value: object) -> str | None:
        try:
            return read_class(value, self.spec.classes, "prediction", Code.BAD_PREDICTION)
        except RowError:
            return None

    def _check_target(self, model: object, version: object, owner: Verdicts) -> None:
        if (owner.model if model is None else model) != self.spec.model:
            raise WrongTargetError
        if (owner.version if version is None else version) != self.spec.version:
            raise WrongTargetError

    def examine(self, record: Any, horizon: Horizon, owner: Verdicts) -> tuple[Fields, WrongTypes]:
        """Return the fields of any JSON value, or raise the first fault that costs the row."""
        record = check_names(record, PREDICTION_FIELDS)
        self._check_target(record.get("model"), record.get("version"), owner)
        prediction_id = read_id(record)
        ts = read_time(record, "ts", horizon)
        prediction = self._read_prediction(record.get("prediction"))
        score, scores = None, None
        if self.spec.task == "multiclass":
            scores = read_scores(record, self.spec)
        else:
            score = read_score(record, self.spec)
        if prediction is None and score is None and scores is None:
            message = f"the record has {_LACKING[self.spec.task]}"
            raise RowError(Code.MISSING_FIELD, "prediction", message)
        weight = read_weight(record.get("weight"))
        subject = read_subject(record.get("subject"))
        tags = read_tags(record.get("tags"))
        values, wrong = self._read_features(record.get("features"))
        attributions = self._read_attributions(record.get("attributions"), wrong)
        row = (prediction_id, ts, prediction, score, scores, weight, subject, tags)
        numbers, texts, vectors = self._parted(values)
        return Fields(*row, numbers, texts, vectors, attributions), wrong

    def _read_prediction(self, value: object) -> str | float | None:
        if self.spec.task == "regression" and value is not None:
            return read_amount(value, "prediction", Code.BAD_PREDICTION)
        return read_class(value, self.spec.classes, "prediction", Code.BAD_PREDICTION)

    def _read_features(self, features: Any) -> tuple[tuple[Any, ...], WrongTypes]:
        given = {} if features is None else features
        if not isinstance(given, dict):
            raise RowError(Code.BAD_FEATURES, "features", "features is an object")
        if len(given) > limits.MAX_FEATURES:
            message = f"a record has at most {limits.MAX_FEATURES} features"
            raise RowError(Code.TOO_MANY_FEATURES, "features", message)
        if not self._features.keys() >= given.keys():
            unknown = tuple(name for name in given if name not in self._features)
            raise unknown_feature(unknown)
        wrong: WrongTypes = []
        values = tuple(_read(given.get(f.name), f, wrong) for f in self._columns)
        return values, wrong

    def _read_attributions(self, given: Any, wrong: WrongTypes) -> tuple[Any, ...]:
        if given is None:
            return (None,) * len(self._attributions)
        if not self._attributions:
            message = "the version logs no attributions; declare them with the version"
            raise RowError(Code.UNKNOWN_FIELD, ATTRIBUTIONS, message)
        if not isinstance(given, dict):
            raise RowError(Code.BAD_FEATURES, ATTRIBUTIONS, "attributions is an object")
        if not self._attributions.keys() | self._ignored >= given.keys():
            known = self._attributions.keys() | self._ignored
            unknown = tuple(name for name in given if name not in known)
            raise unknown_feature(unknown, ATTRIBUTIONS)
        return tuple(_read(given.get(name), own, wrong) for name, own in self._attributions.items())


def _read(value: object, feature: FeatureSpec, wrong: WrongTypes) -> Stored:
    try:
        return read_feature(value, feature)
    except WrongTypeError:
        wrong.append(feature.name)
        return None
