"""What the codes of the interface mean, where no class says it; tests find one that is missing."""

from collections.abc import Mapping

from service.ingest.verdicts import Code

PROBLEMS: Mapping[str, tuple[int, str]] = {
    "bad-cursor": (400, "The cursor is not one that this route has answered."),
    "bad-envelope": (400, "The JSON body is not an envelope of records."),
    "bad-gzip": (400, "The body is not one complete gzip stream."),
    "body-too-large": (413, "The body, as sent or decompressed, is over `limit` bytes."),
    "derived-name": (422, "A feature has the name of a column that is derived from another."),
    "duplicate-column": (422, "Two columns of the reference have the same name."),
    "empty-batch": (400, "The request has no records."),
    "empty-reference": (422, "The reference has no rows."),
    "invalid-request": (
        422,
        "A parameter or a field of the request is wrong; `rejected` says why.",
    ),
    "malformed-json": (400, "The body is not JSON in UTF-8."),
    "malformed-yaml": (400, "The body is not YAML in UTF-8."),
    "method-not-allowed": (405, "The route does not have that method."),
    "no-reference": (422, "The window was judged without a reference: there is no report."),
    "report-failed": (
        409,
        "Evidently failed three times to render the report of this revision of the window.",
    ),
    "too-deep": (400, "The document nests too deeply."),
    "too-many-classes": (422, "The reference has more classes than the task may have."),
    "too-many-rows": (413, "The request has more than `limit` records."),
    "unknown-classes": (422, "It cannot be told what the classes are, or which is positive."),
    "unsupported-encoding": (415, "The content encoding is neither gzip nor none."),
}

REFUSALS: Mapping[Code, str] = {
    Code.BAD_FEATURES: "`features` or `attributions` is not an object.",
    Code.BAD_LABEL: "The label is not a string, a number or a boolean.",
    Code.BAD_PREDICTION: "The prediction is not a string, a number or a boolean.",
    Code.BAD_PREDICTION_ID: "`prediction_id` is not a string of 1 to 128 characters.",
    Code.BAD_RECORD: "The record is not an object.",
    Code.BAD_SCORE: "A score is no probability, or does not fit the task or the classes.",
    Code.BAD_SUBJECT: "`subject` is not a string.",
    Code.BAD_TAGS: "`tags` is not an object of at most 32 strings.",
    Code.BAD_TIMESTAMP: "The time is not one of RFC 3339.",
    Code.BAD_WEIGHT: "The weight is not a number, or negative.",
    Code.CONFLICTING_DUPLICATE: "Another prediction of that id is stored, with other content.",
    Code.CONFLICTING_LABEL: "Another label of the same `label_ts` is stored.",
    Code.CONTROL_CHARACTER: "A text holds a control character.",
    Code.DATABASE_REFUSED: "The database refused the row; the rest of the batch is stored.",
    Code.MALFORMED_JSON: "The line is not JSON in UTF-8.",
    Code.MISSING_FIELD: "A field that the record needs is not there.",
    Code.MODEL_MISMATCH: "The record names another model or version than its request.",
    Code.NUMBER_OUT_OF_RANGE: "An integer does not fit 64 bits.",
    Code.STRING_TOO_LONG: "A text is over 8,192 bytes.",
    Code.TIMESTAMP_IN_FUTURE: "The time is more than ten minutes ahead.",
    Code.TIMESTAMP_OUT_OF_RANGE: "The time is outside of what can be stored.",
    Code.TIMESTAMP_TOO_OLD: "The time is over thirty years ago.",
    Code.TIMESTAMP_WITHOUT_ZONE: "The time has no zone.",
    Code.TOO_DEEP: "The record nests too deeply.",
    Code.TOO_MANY_FEATURES: "The record has more than 324 features.",
    Code.TOO_MANY_VERSIONS: "The request names more than 64 models and versions.",
    Code.UNKNOWN_CLASS: "The class is not one of the version's.",
    Code.UNKNOWN_FEATURE: "The record has a feature that the version's schema lacks.",
    Code.UNKNOWN_FIELD: "The record has a field that is not known.",
    Code.UNKNOWN_MODEL: "No model of that name is registered.",
    Code.UNKNOWN_VERSION: "The model has no version of that name.",
}

ROW_WARNINGS: Mapping[str, str] = {
    "wrong-type": "The feature has another type than in the schema; it is stored as missing.",
}

REFERENCE_WARNINGS: Mapping[str, str] = {
    "all-missing": "The column has no values.",
    "constant-column": "The column has one value only.",
    "redundant-features": "Two features tell each other: `column` and `same_as`.",
    "high-cardinality": "The column has more categories than are told apart.",
    "looks-like-text": "The categories look like sentences; declare free text as `text`.",
    "missing-column": "A feature of the version is not in the file.",
    "no-attributions": "The version logs attributions, and the file has none.",
    "no-labels": "No row has a label: performance has nothing to be compared with.",
    "no-predictions": "No row has a prediction.",
    "no-scores": "No row has a score: performance cannot be estimated before there are labels.",
    "no-times": "No row has a time: how much the reference varies by itself stays unknown.",
    "rows-without-prediction": "Some rows have no prediction.",
    "rows-without-score": "Some rows have no score.",
    "rows-without-time": "Some rows have no time.",
    "small-reference": "The reference has fewer than 1,000 rows.",
    "unnamed-column": "A column without a name, or an index that pandas wrote, is left out.",
}

WINDOW_WARNINGS: Mapping[str, str] = {
    "no-reference": "There is nothing to compare the window with.",
    "small-comparison": "What the window is compared with has fewer rows than min_rows.",
    "small-reference": "The reference has fewer rows than the window: its chance repeats.",
}
