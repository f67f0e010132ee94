import json
from typing import Any

import pytest

from service.formats.features import name_features
from service.formats.outputs import Mapping, Task, read_output
from service.formats.payloads import read_inputs, read_outputs
from service.formats.trouble import PayloadError, Trouble

IRIS = {"sepal": "numeric", "petal": "numeric", "kind": "categorical", "wild": "boolean"}
BINARY = Task("binary", ("0", "1"), "1")
MANY = Task("multiclass", ("0", "1", "2"))
REGRESSION = Task("regression")


def a_tensor(**overrides: Any) -> dict[str, Any]:
    return {
        "name": "input-0",
        "shape": [2, 2],
        "datatype": "FP32",
        "data": [1, 2, 3, 4],
        **overrides,
    }


def trouble(payload: Any, *, outputs: bool = False) -> str:
    with pytest.raises(PayloadError) as raised:
        read_outputs(payload) if outputs else read_inputs(payload, IRIS)
    return raised.value.code


def answers(payload: Any, task: Task, **mapping: Any) -> list[Any]:
    return [read_output(row, Mapping(**mapping), task) for row in read_outputs(payload)]


@pytest.mark.parametrize(
    "payload",
    [
        {"instances": [[6.8, 2.8], [6.0, 3.4]]},
        {"inputs": [[6.8, 2.8], [6.0, 3.4]]},
        {"data": [[6.8, 2.8], [6.0, 3.4]]},
        {"inputs": [a_tensor(data=[[6.8, 2.8], [6.0, 3.4]])]},
        {"inputs": [a_tensor(data=[6.8, 2.8, 6.0, 3.4])]},
        {"inputs": [a_tensor(shape=[2, 1, 2], data=[6.8, 2.8, 6.0, 3.4])]},
        {"data": {"ndarray": [[6.8, 2.8], [6.0, 3.4]]}, "meta": {}},
        {
            "data": {
                "names": ["t:0", "t:1"],
                "tensor": {"shape": [2, 2], "values": [6.8, 2.8, 6, 3.4]},
            }
        },
    ],
)
def test_columns_without_names_are_rows_in_order(payload: Any) -> None:
    assert read_inputs(payload, IRIS) == [[6.8, 2.8], [6.0, 3.4]]


@pytest.mark.parametrize(
    "payload",
    [
        {"instances": [{"sepal": 6.8, "kind": "a"}, {"sepal": 6.0, "kind": "b"}]},
        [{"sepal": 6.8, "kind": "a"}, {"sepal": 6.0, "kind": "b"}],
        {"dataframe_split": {"columns": ["sepal", "kind"], "data": [[6.8, "a"], [6.0, "b"]]}},
        {"data": {"names": ["sepal", "kind"], "ndarray": [[6.8, "a"], [6.0, "b"]]}},
        {"dataframe_records": [{"sepal": 6.8, "kind": "a"}, {"sepal": 6.0, "kind": "b"}]},
        {"inputs": {"sepal": [6.8, 6.0], "kind": [["a"], ["b"]]}},
        {
            "parameters": {"content_type": "pd"},
            "inputs": [
                a_tensor(name="sepal", shape=[2, 1], data=[6.8, 6.0]),
                a_tensor(name="kind", shape=[2, 1], datatype="BYTES", data=["a", "b"]),
            ],
        },
        {
            "inputs": [
                a_tensor(name="sepal", shape=[2], data=[6.8, 6.0]),
                a_tensor(name="kind", shape=[2], datatype="BYTES", data=["a", "b"]),
            ],
        },
    ],
)
def test_columns_with_names_keep_them(payload: Any) -> None:
    assert read_inputs(payload, IRIS) == [
        {"sepal": 6.8, "kind": "a"},
        {"sepal": 6.0, "kind": "b"},
    ]


def test_a_single_tensor_that_is_called_like_a_feature_is_that_feature() -> None:
    tensor = a_tensor(name="petal", shape=[2, 1], data=[1.0, 2.0])
    assert read_inputs({"inputs": [tensor]}, IRIS) == [{"petal": 1.0}, {"petal": 2.0}]


def test_a_tensor_of_many_columns_is_an_embedding_where_it_has_a_name() -> None:
    tensors = [a_tensor(name="vector"), a_tensor(name="petal", shape=[2], data=[7, 8])]
    assert read_inputs({"inputs": tensors}, IRIS) == [
        {"vector": [1, 2], "petal": 7},
        {"vector": [3, 4], "petal": 8},
    ]


def test_values_are_fitted_to_their_kind_where_nothing_is_lost() -> None:
    rows: list[Any] = [[1.5, 2, 3.0, 1.0], [None, True, 2.5, 0.5]]
    assert name_features(rows, IRIS) == [
        {"sepal": 1.5, "petal": 2, "kind": "3", "wild": True},
        {"sepal": None, "petal": True, "kind": "2.5", "wild": 0.5},
    ]


def test_cells_of_csv_are_parsed_by_kind() -> None:
    rows: list[Any] = [["1.5", "2", "3", "true"], ["", "x", "", "0"]]
    assert name_features(rows, IRIS, texts=True) == [
        {"sepal": 1.5, "petal": 2, "kind": "3", "wild": True},
        {"sepal": None, "petal": "x", "kind": None, "wild": False},
    ]


@pytest.mark.parametrize("rows", [[[1, 2, 3]], [[1] * 5], [[]]])
def test_rows_of_another_width_than_the_schema_are_refused(rows: list[Any]) -> None:
    with pytest.raises(PayloadError) as raised:
        name_features(rows, IRIS)
    assert raised.value.code == Trouble.COLUMN_COUNT


def test_columns_without_names_need_a_schema() -> None:
    with pytest.raises(PayloadError) as raised:
        name_features([[1, 2]], {})
    assert raised.value.code == Trouble.NO_SCHEMA


@pytest.mark.parametrize(
    ("tensor", "code"),
    [
        ({"shape": [2, 3]}, Trouble.BAD_SHAPE),
        ({"shape": [10**12]}, Trouble.BAD_SHAPE),
        ({"shape": [-1, -4]}, Trouble.BAD_SHAPE),
        ({"shape": []}, Trouble.BAD_SHAPE),
        ({"shape": "22"}, Trouble.BAD_SHAPE),
        ({"shape": [True, 4]}, Trouble.BAD_SHAPE),
        ({"shape": [1, 2, 2]}, Trouble.BAD_SHAPE),
        ({"shape": [0, 2], "data": []}, Trouble.NO_DATA),
        ({"data": [[1], 2, 3, 4]}, Trouble.BAD_TENSOR),
        ({"data": {"0": 1}}, Trouble.BAD_TENSOR),
        ({"data": [1, 2, 3, "4"]}, Trouble.BAD_TENSOR),
        ({"data": [1, 2, 3, True]}, Trouble.BAD_TENSOR),
        ({"data": [1, 2, 3, {}]}, Trouble.BAD_TENSOR),
        ({"datatype": "BYTES"}, Trouble.BAD_TENSOR),
        ({"datatype": "FP128"}, Trouble.BAD_TENSOR),
        ({"datatype": ["FP32"]}, Trouble.BAD_TENSOR),
        ({"name": ""}, Trouble.BAD_TENSOR),
        ({"name": "x" * 1_000_000}, Trouble.BAD_TENSOR),
        ({"name": 7}, Trouble.BAD_TENSOR),
        ({"data": None}, Trouble.BINARY_PAYLOAD),
        ({"parameters": {"binary_data_size": 16}}, Trouble.BINARY_PAYLOAD),
        ({"shape": [6000, 1], "data": [1] * 6000}, Trouble.TOO_MANY_ROWS),
    ],
)
def test_a_tensor_that_lies_has_a_verdict(tensor: Any, code: Trouble) -> None:
    assert trouble({"inputs": [a_tensor(**tensor)]}) == code


def test_tensors_of_different_lengths_or_equal_names_are_refused() -> None:
    shorter = a_tensor(name="b", shape=[1, 2], data=[1, 2])
    assert trouble({"inputs": [a_tensor(name="a"), shorter]}) == Trouble.BAD_SHAPE
    assert trouble({"inputs": [a_tensor(), a_tensor()]}) == Trouble.BAD_TENSOR


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (None, Trouble.UNKNOWN_PAYLOAD),
        ("text", Trouble.UNKNOWN_PAYLOAD),
        ({}, Trouble.UNKNOWN_PAYLOAD),
        ({"instances": 7}, Trouble.UNKNOWN_PAYLOAD),
        ({"instances": []}, Trouble.NO_DATA),
        ({"instances": [[1]] * 5_001}, Trouble.TOO_MANY_ROWS),
        ({"inputs": {"a": [1, 2], "b": [1]}}, Trouble.BAD_SHAPE),
        ({"inputs": {}}, Trouble.NO_DATA),
        ({"dataframe_split": {"columns": ["a", "a"], "data": []}}, Trouble.UNKNOWN_PAYLOAD),
        ({"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}, Trouble.BAD_SHAPE),
        ({"dataframe_split": [1]}, Trouble.UNKNOWN_PAYLOAD),
        ({"data": {"tensor": {"shape": [2, 2], "values": [1]}}}, Trouble.BAD_SHAPE),
        ({"data": {"tensor": {"shape": [10**9, 0], "values": []}}}, Trouble.TOO_MANY_ROWS),
        ({"data": {"tensor": []}}, Trouble.BAD_SHAPE),
        ({"data": {"ndarray": [[1, 2]], "names": ["a"]}}, Trouble.BAD_SHAPE),
        ({"data": {"ndarray": [[1, 2]], "names": ["a", "a"]}}, Trouble.BAD_SHAPE),
        ({"data": {"ndarray": [{"x": 1}], "names": ["a"]}}, Trouble.BAD_SHAPE),
        ({"data": {"ndarray": [[1]], "names": 7}}, Trouble.UNKNOWN_PAYLOAD),
        ({"data": {"ndarray": []}}, Trouble.NO_DATA),
    ],
)
def test_inputs_of_no_known_shape_have_a_verdict(payload: Any, code: Trouble) -> None:
    assert trouble(payload) == code


def test_a_class_is_a_whole_number_a_text_or_a_boolean() -> None:
    tensor = {"name": "predict", "shape": [2], "datatype": "INT64", "data": [1, 0]}
    expected = [{"prediction": 1}, {"prediction": 0}]
    assert answers({"outputs": [tensor]}, BINARY) == expected
    assert answers({"predictions": [1, 0]}, BINARY) == expected
    assert answers({"predictions": [[1], [0]]}, BINARY) == expected
    assert answers({"predictions": ["1", True]}, BINARY) == [
        {"prediction": "1"},
        {"prediction": True},
    ]
    assert answers([{"0": 1}, {"0": 0}], BINARY) == expected


def test_a_float_of_a_binary_model_is_its_score() -> None:
    assert answers({"predictions": [0.83, 1.0]}, BINARY) == [{"score": 0.83}, {"score": 1.0}]
    assert answers({"predictions": [[0.83]]}, BINARY) == [{"score": 0.83}]
    with pytest.raises(PayloadError) as raised:
        answers({"predictions": [2.7]}, BINARY)
    assert raised.value.code == Trouble.UNKNOWN_OUTPUT
    assert answers({"predictions": [1.0]}, BINARY, prediction="predictions") == [
        {"prediction": 1.0}
    ]


def test_a_vector_is_the_probabilities_of_the_classes() -> None:
    assert answers({"predictions": [[0.2, 0.8]]}, BINARY) == [{"score": 0.8}]
    assert answers({"predictions": [[0.2, 0.5, 0.3]]}, MANY) == [
        {"scores": {"0": 0.2, "1": 0.5, "2": 0.3}}
    ]
    tensor = {"name": "predict_proba", "shape": [1, 2], "datatype": "FP64", "data": [[0.1, 0.9]]}
    assert answers({"outputs": [tensor]}, BINARY) == [{"score": 0.9}]
    with pytest.raises(PayloadError) as raised:
        answers({"predictions": [[0.2, 0.8]]}, MANY)
    assert raised.value.code == Trouble.UNKNOWN_OUTPUT


def test_the_outputs_of_seldon_are_a_vector_unless_they_have_names() -> None:
    places = {"data": {"names": ["t:0", "t:1"], "ndarray": [[0.2, 0.8]]}, "meta": {}}
    assert answers(places, BINARY) == [{"score": 0.8}]
    classes = {"data": {"names": ["0", "1", "2"], "tensor": {"shape": [1, 3], "values": [0, 0, 1]}}}
    assert answers(classes, MANY) == [{"scores": {"0": 0, "1": 0, "2": 1}}]
    assert answers({"data": {"names": [], "ndarray": [1, 0]}}, BINARY) == [
        {"prediction": 1},
        {"prediction": 0},
    ]


def test_no_class_is_made_of_a_score_unless_somebody_says_how() -> None:
    payload = {"predictions": [[0.55, 0.45], [0.2, 0.8]]}
    assert answers(payload, BINARY) == [{"score": 0.45}, {"score": 0.8}]
    assert answers(payload, BINARY, decide="argmax") == [
        {"score": 0.45, "prediction": "0"},
        {"score": 0.8, "prediction": "1"},
    ]
    assert answers(payload, BINARY, decide=0.4)[0] == {"score": 0.45, "prediction": "1"}
    assert (
        answers({"predictions": [[0.2, 0.5, 0.3]]}, MANY, decide="argmax")[0]["prediction"] == "1"
    )


def test_the_order_of_probabilities_is_never_guessed() -> None:
    repaid = Task("binary", ("repaid", "default"), "default")
    with pytest.raises(PayloadError) as raised:
        answers({"predictions": [[0.2, 0.8]]}, repaid)
    assert raised.value.code == Trouble.UNKNOWN_ORDER
    assert answers({"predictions": [[0.2, 0.8]]}, repaid, classes=("default", "repaid")) == [
        {"score": 0.2}
    ]
    tenth = Task("multiclass", tuple(map(str, range(11))))
    assert answers({"predictions": [[0.0] * 10 + [1.0]]}, tenth)[0]["scores"]["10"] == 1.0


def test_named_outputs_are_found_by_name_or_mapped() -> None:
    both = {"predictions": [{"score": 0.99, "predicted_label": 1}]}
    assert answers(both, BINARY) == [{"prediction": 1, "score": 0.99}]
    columns = {"predictions": [1], "probabilities": [0.85]}
    assert answers(columns, BINARY, prediction="predictions", score="probabilities") == [
        {"prediction": 1, "score": 0.85}
    ]
    odd = {"predictions": [{"a": 1, "b": 0.9}]}
    with pytest.raises(PayloadError) as raised:
        answers(odd, BINARY)
    assert raised.value.code == Trouble.UNKNOWN_OUTPUT
    assert answers(odd, BINARY, prediction="a", score="b") == [{"prediction": 1, "score": 0.9}]
    with pytest.raises(PayloadError):
        answers(odd, BINARY, prediction="c")
    by_class = {"predictions": [{"0": 0.1, "1": 0.2, "2": 0.7}]}
    assert answers(by_class, MANY) == [{"scores": {"0": 0.1, "1": 0.2, "2": 0.7}}]


def test_a_regression_has_a_number_and_no_scores() -> None:
    assert answers({"predictions": [[12.5], [7]]}, REGRESSION) == [
        {"prediction": 12.5},
        {"prediction": 7},
    ]
    with pytest.raises(PayloadError) as raised:
        answers({"predictions": [[1.0, 2.0]]}, REGRESSION)
    assert raised.value.code == Trouble.UNKNOWN_OUTPUT


def test_what_is_read_can_be_written_as_json() -> None:
    assert json.dumps(answers({"predictions": [[0.2, 0.8]]}, BINARY, decide="argmax"))
