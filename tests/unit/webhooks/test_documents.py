"""A document that could do harm is refused with a reason, and nothing of it is repeated."""

from typing import Any

import pytest
from pydantic import SecretStr

from service.errors import InvalidDocumentError
from service.registry.documents import read
from service.settings import Settings
from service.webhooks.schemas import WebhookDocument
from service.webhooks.sealing import (
    UnreadableSealError,
    key_from,
    seal,
    unseal,
)

URL = "https://hooks.example.com/retrain?token=s3cret"


def test_a_url_is_all_that_it_takes() -> None:
    document = read(WebhookDocument, {"url": URL})
    assert document.events == ("retraining.requested",)
    assert (document.preset, document.models, document.secret) == ("cloudevent", None, None)


@pytest.mark.parametrize(
    "change",
    [
        {"url": "https://hooks.example.com/\r\nX-Evil: s3cret"},
        {"url": "https://hooks.example.com/\ns3cret"},
        {"url": "ftp://s3cret.example/"},
        {"url": 7},
        {"headers": {"X-A": "s3cret\r\nX-Evil: 1"}},
        {"headers": {"X-A": "s3cret\n"}},
        {"headers": {"X-A\r\nX-Evil": "s3cret"}},
        {"headers": {"X-A:": "s3cret"}},
        {"headers": {"": "s3cret"}},
        {"headers": {"X-A": "s3crét"}},
        {"headers": {"X-A": "1", "x-a": "s3cret"}},
        {"headers": {"Host": "s3cret"}},
        {"headers": {"transfer-encoding": "s3cret"}},
        {"headers": {"Content-Length": "s3cret"}},
        {"headers": {"Webhook-Id": "s3cret"}},
        {"headers": {f"X-{n}": "s3cret" for n in range(21)}},
        {"secret": "s3cret"},
        {"secret": "whsec_s3cret"},
        {"events": ["s3cret"]},
        {"events": []},
        {"models": ["S3cret/.."]},
        {"preset": "s3cret"},
        {"preset": "kfp"},
        {"preset": "github", "options": {"s3cret": "x"}},
        {"preset": "kfp", "options": {"pipeline_id": "s3cret\n"}},
        {"template": "{{ s3cret }}"},
    ],
    ids=str,
)
def test_what_could_do_harm_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidDocumentError) as refused:
        read(WebhookDocument, {"url": URL, **change})
    said = f"{refused.value.detail} {refused.value.rejected}"
    assert "s3cret" not in said or "options" in said


def test_what_was_sealed_opens_under_its_key_and_its_name_alone() -> None:
    key, other = b"k" * 32, b"o" * 32
    content = {"url": URL, "secrets": []}
    sealed = seal(key, "ci", content)
    assert b"s3cret" not in sealed
    assert sealed != seal(key, "ci", content)
    assert unseal(key, "ci", sealed) == content
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    wrong = [(other, "ci", sealed), (key, "cd", sealed), (key, "ci", changed), (key, "ci", b"")]
    for under, name, text in wrong:
        with pytest.raises(UnreadableSealError):
            unseal(under, name, text)


def test_the_key_is_the_services() -> None:
    assert key_from(Settings()) is None
    one, other = (key_from(Settings(secret_key=SecretStr(c * 40))) for c in "ab")
    assert one is not None
    assert (len(one), one != other) == (32, True)
