"""What colours and words mean, the same on every dashboard."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard as model

GOOD, WATCH, WARN, BAD = "green", "yellow", "orange", "red"
UNKNOWN, STALE, NEUTRAL = "#7b8087", "purple", "blue"

HEALTH = {
    0: ("Healthy", GOOD),
    1: ("Not enough data", UNKNOWN),
    2: ("Newest window alerts", WATCH),
    3: ("No new results", STALE),
    4: ("Warning", WARN),
    5: ("Critical", BAD),
}
VERDICTS = {0: ("ok", GOOD), 1: ("alert", BAD), 2: ("not enough data", UNKNOWN)}
CHECKS = {0: ("passes", GOOD), 1: ("fails", BAD)}
SEVERITIES = {"critical": BAD, "warning": WARN, "info": NEUTRAL}
RANKS = {3: ("critical", BAD), 2: ("warning", WARN), 1: ("info", NEUTRAL)}
ACTIONS = {
    "fix_data": ("Fix the data", BAD),
    "retrain": ("Retrain", WARN),
    "collect_labels": ("Collect labels", "purple"),
    "watch": ("Watch", NEUTRAL),
    "wait": ("Wait for data", UNKNOWN),
    "none": ("Nothing", GOOD),
}
REQUESTS = {"open": BAD, "acknowledged": WARN, "retraining": NEUTRAL}


def words(meaning: dict[int, tuple[str, str]]) -> list[model.ValueMapping]:
    """Return mappings of numbers to a word with its colour."""
    results = {
        str(value): model.ValueMappingResult(text=text, color=color, index=value)
        for value, (text, color) in meaning.items()
    }
    return [model.ValueMap(options=results)]


def texts(meaning: dict[str, tuple[str, str]]) -> list[model.ValueMapping]:
    """Return mappings of texts to a word with its colour."""
    results = {
        value: model.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(meaning.items())
    }
    return [model.ValueMap(options=results)]


def severities() -> list[model.ValueMapping]:
    """Return the mapping of severities to their colours."""
    return texts({name: (name, color) for name, color in SEVERITIES.items()})


def steps(first: str, *more: tuple[float, str]) -> build.ThresholdsConfig:
    """Return absolute thresholds: a colour, then each value from which another one counts."""
    found: Sequence[model.Threshold] = [
        model.Threshold(value=None, color=first),
        *(model.Threshold(value=value, color=color) for value, color in more),
    ]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(list(found))


def fixed(color: str) -> build.FieldColor:
    """Return one colour for everything."""
    return build.FieldColor().mode(model.FieldColorModeId.FIXED).fixed_color(color)


def by_thresholds() -> build.FieldColor:
    """Return colours by the panel's thresholds."""
    return build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS)
