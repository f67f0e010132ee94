"""Signatures are the standard's, retries last long enough, and a gone target is left alone."""

import base64
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from service.clock import now
from service.retraining.events import requested_event
from service.webhooks.delivery import HORIZON, JITTER, RETRY_AFTER, retry_in
from service.webhooks.presets import PRESETS
from service.webhooks.sending import Reply
from service.webhooks.signature import generated_secret, signed_headers, signing_key

SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()


def body_of(event: dict[str, Any]) -> bytes:
    return PRESETS["cloudevent"].render(event, {})


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_the_reference_library_accepts_every_signed_body(event: dict[str, Any]) -> None:
    body = body_of(event)
    headers = signed_headers([signing_key(SECRET)], "message-1", now(), body)
    assert Webhook(SECRET).verify(body, headers) == event


def test_a_signature_by_hand() -> None:
    # printf 'm.1700000000.{}' |
    #   openssl dgst -sha256 -mac HMAC -macopt hexkey:0001…17 -binary | base64
    headers = signed_headers(
        [signing_key(SECRET)], "m", datetime.fromtimestamp(1_700_000_000, UTC), b"{}"
    )
    assert headers["webhook-timestamp"] == "1700000000"
    assert headers["webhook-signature"] == "v1,O21lese4x8AJaoornhgVbHDiFbu6mTQduQcBBYUopoI="


def test_while_a_secret_is_replaced_a_request_verifies_with_either() -> None:
    secrets = [generated_secret(), generated_secret()]
    headers = signed_headers([signing_key(each) for each in secrets], "message-1", now(), b"{}")
    assert len(headers["webhook-signature"].split()) == 2
    for each in secrets:
        assert Webhook(each).verify(b"{}", headers) == {}
    with pytest.raises(WebhookVerificationError):
        Webhook(generated_secret()).verify(b"{}", headers)


@pytest.mark.parametrize(
    "secret",
    [
        *("", "whsec_", "whsec_%%%", "whsec_c2hvcnQ=", "whsec_" + "a" * 92),
        SECRET.removeprefix("whsec_"),
    ],
)
def test_a_secret_that_is_not_one_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(ValueError, match=r"whsec_") as refused:
        signing_key(secret)
    assert not secret.removeprefix("whsec_") or secret not in str(refused.value)


def test_ten_attempts_last_over_a_weekend() -> None:
    assert len(RETRY_AFTER) + 1 == 10
    assert list(RETRY_AFTER) == sorted(RETRY_AFTER)
    total = sum(RETRY_AFTER, timedelta(0))
    assert timedelta(hours=75) < total < timedelta(hours=77)
    # The last retry must not find its own event too old.
    assert total * (1 + JITTER) < HORIZON


@given(st.integers(1, len(RETRY_AFTER)), st.integers(0, 2**32))
def test_the_wait_is_the_tables_within_its_jitter(attempt: int, seed: int) -> None:
    wait = retry_in(attempt, Reply(503, "busy"), random.Random(seed))
    assert wait is not None
    assert abs(wait / RETRY_AFTER[attempt - 1] - 1) <= JITTER + 1e-9


def test_it_ends_after_the_last_retry_and_at_once_when_the_target_is_gone() -> None:
    assert retry_in(len(RETRY_AFTER) + 1, Reply(503, "busy"), random.Random(1)) is None
    assert retry_in(1, Reply(410, "gone"), random.Random(1)) is None
    assert retry_in(1, Reply(404, "not here"), random.Random(1)) is not None


def test_a_target_may_ask_for_more_time_but_not_for_more_than_a_day() -> None:
    patient = retry_in(1, Reply(429, "slow", timedelta(minutes=10)), random.Random(1))
    endless = retry_in(1, Reply(429, "slow", timedelta(days=9)), random.Random(1))
    assert (patient, endless) == (timedelta(minutes=10), timedelta(days=1))


def test_an_event_is_a_cloudevent_with_a_stable_id() -> None:
    at = datetime(2026, 11, 20, 10, tzinfo=UTC)
    event = requested_event(
        request_id=12,
        opened_at=at,
        model="loans",
        version="7",
        action="retrain",
        reason="the model got worse",
        window=(at, at + timedelta(days=1)),
        signals=[{"metric": "roc_auc", "value": 0.8}],
    )
    assert event["id"] == "retraining-request-12-opened"
    assert event["specversion"] == "1.0"
    assert event["type"] == "dev.modelwatch.retrain.requested.v1"
    assert (event["source"], event["subject"]) == ("/monitors/loans", "loans@7")
    assert event["time"] == "2026-11-20T10:00:00Z"
    assert event["data"]["window"] == ["2026-11-20T10:00:00Z", "2026-11-21T10:00:00Z"]
    assert event["data"]["evidence_url"] == "/v1/retraining-requests/12"


@pytest.mark.parametrize(("reason", "told"), [("", 50), ("\N{PILE OF POO}" * 500, 17)])
def test_an_event_names_as_many_signals_as_targets_take_and_says_how_many_there_are(
    reason: str, told: int
) -> None:
    at = datetime(2026, 11, 20, 10, tzinfo=UTC)
    signals = [
        {"metric": "psi", "subject": "x" * 200, "value": n, "reason": reason} for n in range(9000)
    ]
    event = requested_event(
        request_id=12,
        opened_at=at,
        model="loans",
        version="7",
        action="retrain",
        reason="the model got worse",
        window=(at, at),
        signals=signals,
    )
    assert event["data"]["signals"] == signals[:told]
    assert event["data"]["signals_total"] == 9000
    assert len(body_of(event)) < 64_000
