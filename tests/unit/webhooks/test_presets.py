"""Each preset sends the request that its system documents, whatever an event says."""

import json
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from urllib.parse import parse_qs

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.retraining.events import requested_event
from service.webhooks.events import ping_event
from service.webhooks.presets import PRESETS, kind_of
from service.webhooks.schemas import PresetName

AT = datetime(2026, 11, 20, 10, tzinfo=UTC)
OPTIONS = {"kfp": {"pipeline_id": "p-1", "pipeline_version_id": "v-2", "experiment_id": "e-3"}}


def an_event(reason: str = "the model got worse") -> dict[str, Any]:
    return requested_event(
        request_id=12,
        opened_at=AT,
        model="loans",
        version="7",
        action="retrain",
        reason=reason,
        window=(AT, AT + timedelta(days=1)),
        signals=[{"metric": "roc_auc", "value": 0.8, "threshold": 0.89, "n": 5000}],
    )


def sent(preset: str, event: dict[str, Any]) -> Any:
    return json.loads(PRESETS[preset].render(event, OPTIONS.get(preset, {})))


def test_the_documents_know_all_presets() -> None:
    assert set(get_args(PresetName)) == PRESETS.keys()


def test_by_default_the_event_itself_is_sent() -> None:
    assert PRESETS["cloudevent"].content_type == "application/cloudevents+json"
    assert sent("cloudevent", an_event()) == an_event()


def test_github_gets_a_repository_dispatch() -> None:
    body = sent("github", an_event())
    assert body.keys() == {"event_type", "client_payload"}
    assert body["event_type"] == "modelwatch.retraining.requested"
    assert 1 <= len(body["event_type"]) <= 100
    assert len(body["client_payload"]) <= 10
    assert body["client_payload"]["event"]["data"]["model"] == "loans"
    assert PRESETS["github"].headers["Accept"] == "application/vnd.github+json"


def test_gitlab_gets_a_form_of_variables() -> None:
    preset = PRESETS["gitlab"]
    assert preset.content_type == "application/x-www-form-urlencoded"
    form = parse_qs(preset.render(an_event("a&b=c\nd"), {}).decode(), strict_parsing=True)
    assert all(key.startswith("variables[MODELWATCH_") for key in form)
    assert form["variables[MODELWATCH_MODEL]"] == ["loans"]
    assert form["variables[MODELWATCH_REASON]"] == ["a&b=c\nd"]
    assert form["variables[MODELWATCH_EVENT_ID]"] == ["retraining-request-12-opened"]
    assert form["variables[MODELWATCH_EVENT]"] == ["retraining.requested"]


# What GitLab's own ExpandVariables replaces, or its runner by Go's os.Expand.
EXPANDED = re.compile(r"\$|%[a-zA-Z_]\w*%", re.ASCII)


@given(st.lists(st.sampled_from(["$", "%", "{", "}", "CI_TOKEN", "_", "1", " ", "40", "é"])))
@example(["%", "CI_TOKEN", "%", "CI_TOKEN", "%"])
@example(["${", "CI_TOKEN", "}"])
def test_gitlab_expands_nothing_that_an_event_says(parts: list[str]) -> None:
    reason = "".join(parts)
    body = PRESETS["gitlab"].render(an_event(reason), {}).decode()
    for values in parse_qs(body, strict_parsing=True).values():
        for value in values:
            assert not EXPANDED.search(value)


def test_what_gitlab_would_not_expand_is_sent_as_it_is() -> None:
    body = PRESETS["gitlab"].render(an_event("rejects 40 % of them, and 7%."), {}).decode()
    assert parse_qs(body)["variables[MODELWATCH_REASON]"] == ["rejects 40 % of them, and 7%."]
    assert parse_qs(body)["variables[MODELWATCH_WINDOW_START]"] == ["2026-11-20T10:00:00Z"]


def test_airflow_gets_a_run_with_an_id_and_a_null_date() -> None:
    body = sent("airflow3", an_event())
    assert body.keys() == {"logical_date", "dag_run_id", "conf"}
    assert body["logical_date"] is None
    assert body["dag_run_id"] == "retraining-request-12-opened"
    assert body["conf"] == an_event()
    assert 409 in PRESETS["airflow3"].done


def test_argo_gets_any_json() -> None:
    assert PRESETS["argo"].content_type == "application/json"
    assert sent("argo", an_event()) == an_event()


def test_kfp_gets_a_run_of_a_pipeline() -> None:
    assert sent("kfp", an_event()) == {
        "display_name": "retraining-request-12-opened",
        "experiment_id": "e-3",
        "pipeline_version_reference": {"pipeline_id": "p-1", "pipeline_version_id": "v-2"},
        "runtime_config": {"parameters": {"event": an_event()}},
    }
    assert PRESETS["kfp"].required == {"pipeline_id"}
    least = json.loads(PRESETS["kfp"].render(an_event(), {"pipeline_id": "p-1"}))
    assert least["pipeline_version_reference"] == {"pipeline_id": "p-1"}
    assert "experiment_id" not in least


def test_prefect_gets_a_flow_run_with_an_idempotency_key() -> None:
    assert sent("prefect", an_event()) == {
        "parameters": {"event": an_event()},
        "idempotency_key": "retraining-request-12-opened",
        "tags": ["modelwatch", "retraining.requested", "loans@7"],
    }


def test_dagster_gets_an_observation() -> None:
    body = sent("dagster", an_event())
    assert body.keys() == {"description", "metadata"}
    assert body["description"] == "the model got worse"
    assert json.loads(body["metadata"]["event"]) == an_event()


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_tried(preset: str) -> None:
    event = ping_event("ci", AT)
    assert kind_of(event) == "ping"
    assert event["id"].encode() in PRESETS[preset].render(event, OPTIONS.get(preset, {})) or (
        preset == "github"
    )


@given(reason=st.text(), preset=st.sampled_from(sorted(PRESETS)))
def test_no_text_changes_the_shape_of_a_request(reason: str, preset: str) -> None:
    reason = reason.encode("utf-8", "replace").decode()
    body = PRESETS[preset].render(an_event(reason), OPTIONS.get(preset, {}))
    assert body == PRESETS[preset].render(an_event(reason), OPTIONS.get(preset, {}))
    if preset == "gitlab":
        found = parse_qs(body.decode(), keep_blank_values=True, strict_parsing=True)
        ((told,),) = [found["variables[MODELWATCH_REASON]"]]
        assert unicodedata.normalize("NFKC", told) == unicodedata.normalize("NFKC", reason)
        assert len(found) == 10
    else:
        assert json.loads(body).keys() == sent(preset, an_event()).keys()
