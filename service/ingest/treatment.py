"""A row's personal fields, treated before it is encoded."""

from typing import NamedTuple

import msgspec

from service.ingest.decode import Record
from service.ingest.examine import Fields
from service.registry.privacy import SUBJECT, KeyMissingError, Pseudonyms, treat_record
from service.registry.values import DROP, HASH, FeatureSpec, VersionSpec


class Treatment(NamedTuple):
    """What of a version's rows is hashed or dropped; features are by their place among texts."""

    pseudonyms: Pseudonyms | None
    texts: tuple[tuple[int, str], ...]
    tags: tuple[tuple[str, str], ...]

    def treat(self, fields: Fields) -> None:
        """Replace what is not kept as it is."""
        pseudonyms = self.pseudonyms
        if pseudonyms is not None and fields.subject is not None:
            fields.subject = pseudonyms.of(SUBJECT, fields.subject)
        if self.texts:
            fields.texts = self._hashed(fields.texts)
        if self.tags and fields.tags is not None:
            fields.tags = self._tags(fields.tags)

    def _hashed(self, texts: tuple[str | None, ...]) -> tuple[str | None, ...]:
        assert self.pseudonyms is not None
        treated = list(texts)
        for place, name in self.texts:
            text = treated[place]
            if text is not None:
                treated[place] = self.pseudonyms.of(name, text)
        return tuple(treated)

    def _tags(self, encoded: bytes) -> bytes | None:
        tags: dict[str, str] = msgspec.json.decode(encoded)
        for name, policy in self.tags:
            if name not in tags:
                continue
            if policy == DROP:
                del tags[name]
            elif policy == HASH:
                assert self.pseudonyms is not None
                tags[name] = self.pseudonyms.of(f"tags.{name}", tags[name])
        return msgspec.json.encode(tags, order="deterministic") if tags else None


def treat_raw(raw: Record, version: VersionSpec, pseudonyms: Pseudonyms | None) -> Record:
    """Return a record as it may be kept before it is a row; see ``treat_record``."""
    if pseudonyms is None and not version.hashes and not version.dropped and not version.tags:
        return raw
    return msgspec.json.encode(treat_record(msgspec.json.decode(raw), version, pseudonyms))


def treatment_of(
    version: VersionSpec, texts: tuple[FeatureSpec, ...], pseudonyms: Pseudonyms | None
) -> Treatment | None:
    """Return how a version's rows are treated, or ``None`` where all of it is kept.

    Raises
    ------
    KeyMissingError
        If something is to be hashed, and there is no key.
    """
    if version.hashes and pseudonyms is None:
        raise KeyMissingError
    hashed = tuple((place, own.name) for place, own in enumerate(texts) if own.pii == HASH)
    treatment = Treatment(pseudonyms, hashed, version.tags)
    return treatment if any(treatment) else None
