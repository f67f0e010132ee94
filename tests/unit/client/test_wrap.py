import copy
import io
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.ensemble import IsolationForest
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.validation import check_is_fitted

from modelwatch import correlate
from tests.unit.client.recorder import Recorder

FRAME = pd.DataFrame({"income": [1.0, 2.0, 8.0, 9.0], "age": [30, 40, 35, 45]})
ROWS = [{"income": 1.0, "age": 30}, {"income": 2.0, "age": 40}]
MATRIX = FRAME.to_numpy()


@pytest.fixture
def monitor() -> Recorder:
    return Recorder()


def a_classifier(x: Any = FRAME, y: Any = (0, 0, 1, 1)) -> LogisticRegression:
    return LogisticRegression().fit(x, np.asarray(y))


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(np.array_equal(one, other))


def test_predictions_come_back_as_they_are_and_are_logged(monitor: Recorder) -> None:
    model = a_classifier()
    watched = monitor.wrap(model)
    assert same(watched.predict(FRAME[:2]), model.predict(FRAME[:2]))
    assert monitor.features() == ROWS
    assert monitor.outcomes() == [{"prediction": 0}, {"prediction": 0}]
    assert len({row["ts"] for row in monitor.logged}) == 1


def test_of_two_classes_the_probability_of_the_second_is_the_score(monitor: Recorder) -> None:
    model = a_classifier(y=["no", "no", "yes", "yes"])
    probabilities = monitor.wrap(model).predict_proba(FRAME)
    assert same(probabilities, model.predict_proba(FRAME))
    assert monitor.outcomes() == [
        {"prediction": name, "score": score}
        for name, score in zip(("no", "no", "yes", "yes"), probabilities[:, 1], strict=True)
    ]
    assert {type(row["score"]) for row in monitor.logged} == {float}


def test_of_many_classes_each_has_its_score(monitor: Recorder) -> None:
    model = a_classifier(y=[0.0, 1.0, 2.0, 2.0])
    (row,) = monitor.wrap(model).predict_proba(FRAME[:1])
    assert monitor.outcomes() == [
        {"prediction": 0.0, "scores": {"0": row[0], "1": row[1], "2": row[2]}}
    ]


def test_a_decision_is_logged_as_its_class_since_it_is_no_probability(monitor: Recorder) -> None:
    for classes in ([0, 0, 1, 1], ["a", "b", "c", "c"]):
        model = a_classifier(y=classes)
        monitor.logged.clear()
        assert same(monitor.wrap(model).decision_function(FRAME), model.decision_function(FRAME))
        expected = model.predict(FRAME).tolist()
        assert monitor.outcomes() == [{"prediction": each} for each in expected]


def test_an_outlier_is_minus_one(monitor: Recorder) -> None:
    x = np.array([[0.0], [0.1], [0.2], [9.0]] * 5)
    model = IsolationForest(n_estimators=10, random_state=0).fit(x)
    monitor.wrap(model).decision_function(x)
    assert [row["prediction"] for row in monitor.logged] == model.predict(x).tolist()


def test_decisions_of_one_class_against_one_are_counted_as_not_logged(monitor: Recorder) -> None:
    model = SVC(decision_function_shape="ovo").fit(np.eye(4), [0, 1, 2, 3])
    assert monitor.wrap(model).decision_function(np.eye(4)).shape == (4, 6)
    assert [type(fault) for fault in monitor.faults] == [ValueError]


def test_a_regression_logs_numbers(monitor: Recorder) -> None:
    model = LinearRegression().fit(FRAME, [1.0, 2.0, 3.0, 4.0])
    predicted = monitor.wrap(model).predict(FRAME)
    assert monitor.outcomes() == [{"prediction": value} for value in predicted.tolist()]


def named(model: Any, inputs: Any, **options: Any) -> list[str]:
    monitor = Recorder()
    monitor.wrap(model, **options).predict(inputs)
    assert not monitor.faults
    return list(monitor.logged[0]["features"])


def test_a_column_of_outputs_is_one_prediction_a_row_and_several_are_none(
    monitor: Recorder,
) -> None:
    column = LinearRegression().fit(FRAME, [[1.0], [2.0], [3.0], [4.0]])
    predicted = monitor.wrap(column).predict(FRAME)
    assert monitor.outcomes() == [{"prediction": value} for (value,) in predicted.tolist()]
    several = LinearRegression().fit(FRAME, [[1.0, 2.0]] * 4)
    assert monitor.wrap(several).predict(FRAME).shape == (4, 2)
    assert len(monitor.faults) == 1
    assert len(monitor.logged) == 4


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_names_are_of_the_frame_or_given_or_of_the_fit_or_numbered() -> None:
    nameless = a_classifier(MATRIX)
    assert named(a_classifier(), FRAME, features=["a", "b"]) == ["income", "age"]
    assert named(a_classifier(), MATRIX, features=["a", "b"]) == ["a", "b"]
    assert named(a_classifier(), MATRIX) == ["income", "age"]
    assert named(a_classifier(), csr_matrix(MATRIX)) == ["income", "age"]
    assert named(make_pipeline(StandardScaler(), LogisticRegression()).fit(FRAME, [0, 0, 1, 1]),
                 MATRIX.tolist()) == ["income", "age"]  # fmt: skip
    assert named(nameless, MATRIX) == ["x0", "x1"]
    assert named(nameless, MATRIX.tolist()) == ["x0", "x1"]


def test_inputs_may_have_any_name(monitor: Recorder) -> None:
    class Booster:
        def predict(self, data: Any, rounds: int = 1) -> list[int]:
            return [rounds for _ in data]

    watched = monitor.wrap(Booster(), features=["a"])
    assert watched.predict(data=[[1.0]]) == watched.predict([[1.0]], rounds=1) == [1]
    monitor.wrap(a_classifier()).predict(X=FRAME[:1])
    assert monitor.features() == [{"a": 1.0}, {"a": 1.0}, ROWS[0]]


def test_texts_and_records_are_inputs_too(monitor: Recorder) -> None:
    texts = make_pipeline(CountVectorizer(), LogisticRegression()).fit(["good", "bad"], [1, 0])
    monitor.wrap(texts, features=["review"]).predict(["good"])
    monitor.wrap(texts, features=["review"]).predict(pd.Series(["bad"]))
    records = make_pipeline(DictVectorizer(), LogisticRegression()).fit(ROWS, [1, 0])
    monitor.wrap(records).predict(ROWS)
    assert monitor.features() == [{"review": "good"}, {"review": "bad"}, *ROWS]


def test_a_model_with_no_rows_to_predict_logs_none(monitor: Recorder) -> None:
    class Nothing:
        def predict(self, x: Any) -> list[int]:
            return [0 for _ in x]

    assert monitor.wrap(Nothing()).predict([]) == []
    assert monitor.wrap(Nothing()).predict(np.zeros((0, 3))) == []
    assert not monitor.logged
    assert not monitor.faults


def test_a_prediction_inside_a_prediction_is_logged_once(monitor: Recorder) -> None:
    class Thresholded(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
        classes_ = np.array([0, 1])

        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def predict_proba(self, x: Any) -> Any:
            self.predict(x)
            return self.inner.predict_proba(x)

        def predict(self, x: Any) -> Any:
            return self.inner.predict_proba(x)[:, 1] > 0.5

    watched = monitor.wrap(Thresholded(monitor.wrap(a_classifier())))
    watched.predict_proba(FRAME[:1])
    assert [set(row) for row in monitor.outcomes()] == [{"prediction", "score"}]


def test_methods_that_are_not_named_are_not_logged(monitor: Recorder) -> None:
    watched = monitor.wrap(a_classifier(), methods=["predict_proba"])
    watched.predict(FRAME)
    assert not monitor.logged
    watched.predict_proba(FRAME)
    assert len(monitor.logged) == 4
    with pytest.raises(ValueError, match="not transform"):
        monitor.wrap(a_classifier(), methods=["transform"])


@pytest.mark.parametrize(
    "inputs", [np.zeros((1, 1001)), np.zeros((1, 2, 2)), csr_matrix((1, 2000)), 5, None, object()]
)
def test_a_failure_to_log_is_counted_and_breaks_no_prediction(
    monitor: Recorder, inputs: Any
) -> None:
    class Indifferent:
        def predict(self, _x: Any) -> list[int]:
            return [1]

    assert monitor.wrap(Indifferent(), features=["a"]).predict(inputs) == [1]
    assert len(monitor.faults) == 1
    assert not monitor.logged


def test_what_the_model_raises_is_its_own(monitor: Recorder) -> None:
    with pytest.raises(ValueError, match="features"):
        monitor.wrap(a_classifier(MATRIX)).predict(np.zeros((1, 5)))
    assert not monitor.faults


def test_it_is_its_model_in_everything_else(monitor: Recorder) -> None:
    model = a_classifier()
    watched = monitor.wrap(model)
    assert isinstance(watched, LogisticRegression)
    assert is_classifier(watched)
    assert not is_regressor(watched)
    assert repr(watched) == repr(model)
    assert watched.classes_ is model.classes_
    assert watched.get_params() == model.get_params()
    assert watched.score(FRAME, [0, 0, 1, 1]) == 1.0
    check_is_fitted(watched)
    watched.set_params(C=2.0)
    watched.C, watched.extra = 3.0, 1
    assert (model.C, model.extra) == (3.0, 1)
    del watched.extra
    assert not hasattr(model, "extra")
    assert set(dir(model)) == set(dir(watched))
    assert hasattr(watched, "predict_proba")
    assert not hasattr(monitor.wrap(LinearRegression()), "predict_proba")
    assert watched.predict.__doc__ == model.predict.__doc__
    with pytest.raises(AttributeError, match="no_such"):
        _ = watched.no_such
    assert not monitor.logged


def test_what_python_looks_up_in_the_class_is_the_model_s_as_well(monitor: Recorder) -> None:
    steps = make_pipeline(StandardScaler(), LogisticRegression())
    watched: Any = monitor.wrap(steps)
    assert (len(watched), watched[0]) == (2, steps[0])
    assert watched["logisticregression"] is steps[-1]
    assert weakref.ref(watched)() is watched
    for model in (a_classifier(), steps):
        assert callable(monitor.wrap(model)) is callable(model) is False
    assert not hasattr(monitor.wrap(a_classifier()), "__len__")
    called: Any = monitor.wrap(lambda x: 2 * x)
    assert called(4) == 8


def by_joblib(model: Any) -> Any:
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.parametrize(
    "copied",
    [clone, copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), by_joblib],
)
def test_a_copy_is_of_the_model_alone(monitor: Recorder, copied: Callable[[Any], Any]) -> None:
    found = copied(monitor.wrap(a_classifier()))
    assert type(found) is LogisticRegression
    assert found.get_params() == a_classifier().get_params()


def test_a_pickle_needs_no_modelwatch(monitor: Recorder) -> None:
    assert b"modelwatch" not in pickle.dumps(monitor.wrap(a_classifier()))


def test_training_logs_nothing(monitor: Recorder) -> None:
    watched = monitor.wrap(LogisticRegression())
    x = pd.concat([FRAME] * 3)
    assert cross_val_score(watched, x, [0, 0, 1, 1] * 3, cv=2).mean() == 1.0
    assert type(watched.fit(FRAME, [0, 0, 1, 1])) is LogisticRegression
    assert not monitor.logged


def test_rows_of_one_request_are_numbered(monitor: Recorder) -> None:
    watched = monitor.wrap(a_classifier())
    with correlate("r") as request:
        watched.predict(FRAME[:1])
        watched.predict(FRAME[:2])
        assert request.prediction_ids == ["r~1", "r~2"]
    assert [row["id"] for row in monitor.logged] == ["r", "r~1", "r~2"]


def test_many_rows_are_read_in_parts(monitor: Recorder) -> None:
    x = np.arange(2_500.0).reshape(-1, 1)
    model = LinearRegression().fit(x, x[:, 0])
    monitor.wrap(model).predict(x)
    assert [row["features"]["x0"] for row in monitor.logged] == x[:, 0].tolist()
    assert [row["prediction"] for row in monitor.logged] == model.predict(x).tolist()
