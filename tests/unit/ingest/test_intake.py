"""Whatever is sent, every record is either in the batch or refused."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import BadRequestError, ServiceError, UnknownModelError, UnknownVersionError
from service.ingest.codec import Codec
from service.ingest.decode import read_envelope, read_lines
from service.ingest.intake import Intake, Sent
from service.ingest.labels import LabelSpec
from service.ingest.times import Horizon
from tests.unit.ingest.conftest import SPEC
from tests.unit.ingest.test_codec import RECORDS, VALUES

HORIZON = Horizon.at(datetime(2026, 6, 1, tzinfo=UTC))
CODEC = Codec(SPEC)
LABELS = st.fixed_dictionaries(
    {},
    optional={
        "prediction_id": st.just("a") | VALUES,
        "label": VALUES,
        "label_ts": st.just("2026-01-02T03:04:05Z") | VALUES,
        "model": VALUES,
    },
)


class OneModel:
    """A catalogue that holds one version."""

    async def codec(self, model: str, version: str, *, newer_than: float = 0) -> Codec:
        if model != SPEC.model:
            raise UnknownModelError
        if version != SPEC.version:
            raise UnknownVersionError
        return CODEC

    async def register(self, model: str, version: str, records: Any) -> Codec:
        raise UnknownVersionError

    async def labels(self, model: str, *, newer_than: float = 0) -> LabelSpec:
        if model != SPEC.model:
            raise UnknownModelError
        return LabelSpec(SPEC.model_id, SPEC.model, SPEC.classes)


def an_intake(sent: Sent) -> Intake:
    return Intake(OneModel(), sent, HORIZON)  # type: ignore[arg-type]  # it does what a catalogue does


def take(sent: Sent, kind: str) -> None:
    intake = an_intake(sent)
    try:
        batch = asyncio.run(getattr(intake, kind)())
    except ServiceError:
        # The whole request is refused: nothing of it may be stored.
        return
    taken = {item.index for item in [*batch.rows, *batch.labels]}
    refused = {refusal.at for refusal in intake.verdicts.refusals}
    assert len(taken) == len(batch)
    assert len(refused) == len(intake.verdicts.refusals)
    assert not taken & refused
    assert taken | refused == set(range(intake.verdicts.sent)) == set(range(len(sent.records)))


KINDS = st.sampled_from(["predictions", "labels"])
NAMES = st.sampled_from(["loans", "7", "other", "..%2f", None])


@settings(max_examples=300, deadline=None)
@given(st.lists(RECORDS | LABELS | VALUES, max_size=5), KINDS, NAMES, NAMES)
def test_accepted_and_refused_add_up_in_an_envelope(
    records: Any, kind: str, model: str | None, version: str | None
) -> None:
    envelope = read_envelope(json.dumps({"records": records}).encode())
    take(Sent(envelope.records, model, version, 2, escapes=True, lines=False), kind)


@settings(max_examples=300, deadline=None)
@given(
    st.lists((RECORDS | LABELS | VALUES).map(json.dumps) | st.text(max_size=9), max_size=5),
    *(KINDS, NAMES, NAMES),
)
def test_accepted_and_refused_add_up_in_lines(
    lines: Any, kind: str, model: str | None, version: str | None
) -> None:
    records = read_lines("\n".join(lines).encode(errors="surrogatepass").lstrip(b"\xef\xbb\xbf"))
    take(Sent(records, model, version, 0, escapes=True, lines=True), kind)


def test_a_document_that_is_no_utf8_is_refused_even_where_nobody_would_read_it() -> None:
    body = b'{"records":[{"prediction_id":"a","features":{"region":"\xb2"}}]}'
    envelope = read_envelope(body)
    sent = Sent(envelope.records, None, None, 2, escapes=False, lines=False)
    with pytest.raises(BadRequestError) as fault:
        asyncio.run(an_intake(sent).predictions())
    assert fault.value.code == "malformed-json"
