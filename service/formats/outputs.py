"""Outputs of a response to prediction and scores; nothing is guessed that could be two things."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.formats.trouble import PayloadError, Trouble
from service.registry.classes import class_text

PREDICTIONS = (
    *("prediction", "predict", "predicted_label", "predicted_class", "class", "classes"),
    *("y_pred", "label"),
)
SCORES = (
    *("score", "scores", "probability", "probabilities", "predict_proba", "proba"),
    "predicted_probability",
)
BINARY = 2


@dataclass(frozen=True, slots=True)
class Mapping:
    """What a response's outputs are, as far as somebody has said so.

    ``decide`` makes a class of scores: ``argmax``, or a threshold for the positive class.
    """

    prediction: str | None = None
    score: str | None = None
    classes: tuple[str, ...] = ()
    decide: str | float | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """What a version predicts; of two classes the negative comes first."""

    task: str
    classes: tuple[str, ...] = ()
    positive: str | None = None


Output = dict[str, Any]


def read_output(row: dict[str, Any], mapping: Mapping, task: Task) -> Output:
    """Return ``prediction``, ``score`` or ``scores`` of one row of a response."""
    prediction, scores = _chosen(row, mapping)
    output: Output = {}
    if prediction is not None:
        output["prediction"] = _single(row.get(prediction))
    if scores is not None:
        output.update(_scores(row.get(scores), mapping, task))
    if prediction is None and scores is None:
        output = _unnamed(row, mapping, task)
    if mapping.decide is not None and output.get("prediction") is None:
        output.update(_decided(output, mapping.decide, task))
    return output


def _chosen(row: dict[str, Any], mapping: Mapping) -> tuple[str | None, str | None]:
    if mapping.prediction is not None or mapping.score is not None:
        for name in (mapping.prediction, mapping.score):
            if name is not None and name not in row:
                raise PayloadError(
                    Trouble.UNKNOWN_OUTPUT,
                    "prediction",
                    "the response has no output of the name that was mapped",
                )
        return mapping.prediction, mapping.score
    prediction = next((name for name in PREDICTIONS if name in row), None)
    return prediction, next((name for name in SCORES if name in row), None)


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _unnamed(row: dict[str, Any], mapping: Mapping, task: Task) -> Output:
    """Read outputs whose names say nothing, by what they can be."""
    if len(row) > 1:
        if task.classes and set(row) == set(task.classes):
            return _scores(row, mapping, task)
        raise PayloadError(
            Trouble.UNKNOWN_OUTPUT,
            "prediction",
            "the outputs have names that say nothing; map prediction and score",
        )
    value = _single(next(iter(row.values()), None))
    if isinstance(value, list | dict):
        return _scores(value, mapping, task)
    # A float of a binary model is a probability; a class is an integer, a text or a boolean.
    if task.task == "binary" and isinstance(value, float):
        if 0 <= value <= 1:
            return {"score": value}
        if _text(value, task.classes) not in task.classes:
            raise PayloadError(
                Trouble.UNKNOWN_OUTPUT,
                "prediction",
                "a number outside 0..1 is no probability; map it as the prediction",
            )
    return {"prediction": value}


def _scores(value: Any, mapping: Mapping, task: Task) -> Output:
    value = _single(value)
    if task.task == "regression":
        message = "the model's task is regression, which has no scores; map one output"
        raise PayloadError(Trouble.UNKNOWN_OUTPUT, "prediction", message)
    if isinstance(value, dict):
        return {"scores": value}
    if isinstance(value, list):
        order = _order(mapping, task)
        if len(value) != len(order):
            raise PayloadError(
                Trouble.UNKNOWN_OUTPUT,
                "prediction",
                "there are not as many probabilities as classes",
            )
        return _by_class(dict(zip(order, value, strict=True)), task)
    if task.task == "binary":
        return {"score": value}
    raise PayloadError(
        Trouble.UNKNOWN_OUTPUT, "prediction", "a model of many classes needs a probability for each"
    )


def _by_class(scores: dict[str, Any], task: Task) -> Output:
    if task.task == "binary" and task.positive in scores:
        return {"score": scores[task.positive]}
    return {"scores": scores}


def _order(mapping: Mapping, task: Task) -> tuple[str, ...]:
    """Return the classes in the order of a vector of probabilities.

    Servers sort classes, as scikit-learn does, or keep an order of their own.  Where the sorted
    order is the declared one it is taken; otherwise somebody has to say.
    """
    if mapping.classes:
        return mapping.classes
    if not task.classes:
        raise PayloadError(
            Trouble.UNKNOWN_OUTPUT,
            "prediction",
            "the version has no classes; declare them, or say their order: classes=…",
        )
    if list(task.classes) != sort_classes(task.classes):
        message = "the declared order of the classes is not the sorted one; say it: classes=…"
        raise PayloadError(Trouble.UNKNOWN_ORDER, "scores", message)
    return task.classes


def sort_classes(classes: Sequence[str]) -> list[str]:
    """Return classes in the order of NumPy: numbers by value, texts by letter."""
    try:
        return sorted(classes, key=float)
    except ValueError:
        return sorted(classes)


def _decided(output: Output, decide: str | float, task: Task) -> Output:
    score, scores = output.get("score"), output.get("scores")
    if score is not None and len(task.classes) == BINARY and _is_number(score):
        # The first of equals wins, as in NumPy; a threshold is reached by itself.
        positive = score > 1 - score if decide == "argmax" else score >= decide
        other = next(name for name in task.classes if name != task.positive)
        return {"prediction": task.positive if positive else other}
    if decide == "argmax" and isinstance(scores, dict) and all(map(_is_number, scores.values())):
        return {"prediction": max(scores, key=scores.__getitem__)} if scores else {}
    return {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _text(value: object, classes: tuple[str, ...]) -> str | None:
    return class_text(value, classes)
