"""A misspelt query parameter is an error, not a default."""

import httpx
import pytest


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/v1/models/loans/windows?versoin=7", "version"),
        ("/v1/models/loans/measurements?metric=drift&subjekt=income", "subject"),
        ("/v1/retraining-requests?modell=loans", "model"),
        ("/v1/models?foo=1", None),
    ],
)
def test_a_parameter_that_a_route_does_not_have_is_named(
    client: httpx.Client, path: str, near: str | None
) -> None:
    answer = client.get(path)
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["code"] == "invalid-request"
    assert (f"did you mean {near!r}" in problem["detail"]) is (near is not None)


def test_a_misspelt_column_of_a_reference_stores_nothing(client: httpx.Client) -> None:
    client.put("/v1/models/loans", json={"task": "binary"})
    client.put("/v1/models/loans/versions/7", json={})
    answer = client.put(
        "/v1/models/loans/versions/7/reference?labl=repaid",
        content="income,repaid\n1,0\n2,1\n",
        headers={"Content-Type": "text/csv"},
    )
    assert answer.status_code == 422
    assert "did you mean 'label'" in answer.json()["detail"]
    assert client.get("/v1/models/loans/versions/7").json()["features"] == []


def test_a_monitor_names_features_that_exist(client: httpx.Client) -> None:
    client.put("/v1/models/loans", json={"task": "binary"})
    features = [{"name": "income", "kind": "numeric"}]
    client.put("/v1/models/loans/versions/7", json={"features": features})
    ignored = {"model": "loans", "drift": {"features": {"incom": {"ignore": True}}}}
    answer = client.put("/v1/models/loans/monitor", json=ignored)
    assert answer.status_code == 422
    assert "did you mean 'income'" in answer.json()["detail"]
    ignored["drift"] = {"features": {"income": {"ignore": True}}}
    assert client.put("/v1/models/loans/monitor", json=ignored).status_code == 200
