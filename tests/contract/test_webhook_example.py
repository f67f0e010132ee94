"""What the page on webhooks tells a receiver to do verifies what is sent."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import WebhookVerificationError

from service.clock import now
from service.webhooks.events import ping_event
from service.webhooks.presets import PRESETS
from service.webhooks.signature import generated_secret, signed_headers, signing_key

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()


def test_the_receiver_of_the_page_verifies_what_is_sent() -> None:
    (block,) = re.findall(r"```python\n(from standardwebhooks.*?)```", PAGE, re.DOTALL)
    secret = generated_secret()
    names: dict[str, Any] = {}
    exec(block.replace("whsec_…", secret), names)
    event = ping_event("ci", datetime(2026, 11, 20, tzinfo=UTC))
    body = PRESETS["cloudevent"].render(event, {})
    headers = signed_headers([signing_key(secret)], event["id"], now(), body)
    assert names["receive"](headers, body) == event
    with pytest.raises(WebhookVerificationError):
        names["receive"](headers, body.replace(b"ci", b"cd"))


def test_the_page_describes_every_preset() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \| .* \| .* \|$", PAGE, re.MULTILINE))
    assert rows >= PRESETS.keys()
