"""What becomes of personal data before anything of it is stored or logged.

A *policy* is ``keep``, ``hash`` or ``drop``.  A hash is HMAC-SHA256 under a key of the project, so
that equal values stay equal and nobody without the key can guess them.
"""

import hmac
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from service.errors import InvalidDocumentError, ServiceError
from service.registry.values import DROP, HASH, VersionSpec
from service.settings import Settings

Policy = Literal["keep", "hash", "drop"]

SUBJECT: Final = "subject"
_PREFIX = "hmac:"
_HEX = 32
_HASHED = re.compile(rf"{_PREFIX}[0-9a-f]{{{_HEX}}}")


class KeyNeededError(InvalidDocumentError):
    """The document asks for hashes, and this process has no key for them."""

    code = "pii-key-needed"
    title = "Key needed"

    def __init__(self) -> None:
        super().__init__("hashing needs the setting MODELWATCH_PII_KEY, which is not set")


class KeyMissingError(ServiceError):
    """Values are to be hashed, and this process has no key: it must not store them."""

    status = 503
    code = "pii-key-missing"
    title = "Key missing"
    retry_after = 30

    def __init__(self) -> None:
        super().__init__("personal data is hashed here, and MODELWATCH_PII_KEY is not set")


class WrongKeyError(ServiceError):
    """The process has another key than the one that personal data is hashed under."""

    status = 503
    code = "pii-key-wrong"
    title = "Wrong key"
    retry_after = 30

    def __init__(self) -> None:
        super().__init__("MODELWATCH_PII_KEY is not the key that personal data is hashed under")


class Pseudonyms:
    """Hashes under the project's key; equal texts of one field have equal hashes."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def __repr__(self) -> str:
        return "Pseudonyms()"

    @property
    def fingerprint(self) -> str:
        """Return what tells this key from others, and nothing else about it."""
        return self.digest("fingerprint", "").hex()

    def of(self, field: str, value: str) -> str:
        """Return the hash of a field's text; what is a hash already stays what it is.

        >>> key = Pseudonyms("a key of the project")
        >>> key.of("subject", "customer-17") == key.of("subject", "customer-17")
        True
        >>> key.of("subject", key.of("subject", "customer-17")) == key.of("subject", "customer-17")
        True
        """
        if value.startswith(_PREFIX) and is_hash(value):
            return value
        return _PREFIX + self.digest(field, value).hex()

    def digest(self, field: str, value: str) -> bytes:
        """Return the sixteen bytes of a hash."""
        return hmac.digest(self._key, f"{field}\0{value}".encode(), "sha256")[: _HEX // 2]


def pseudonyms_of(settings: Settings) -> Pseudonyms | None:
    """Return the project's hashes, if it has a key."""
    key = settings.pii_key
    return None if key is None else Pseudonyms(key.get_secret_value())


def is_hash(value: str) -> bool:
    """Say whether a text looks like one of our hashes."""
    return _HASHED.fullmatch(value) is not None


def treat_record(
    record: Mapping[str, Any], version: VersionSpec, pseudonyms: Pseudonyms | None
) -> dict[str, Any]:
    """Return a prediction record as it may be kept, whatever else is wrong with it.

    For what is put aside before it becomes a row: dead letters, halves of a pair.  Treating it
    twice changes nothing, so it may go the usual way later.
    """
    if version.hashes and pseudonyms is None:
        raise KeyMissingError
    treated = dict(record)
    features = treated.get("features")
    if isinstance(features, Mapping):
        policies = {own.name: own.pii for own in (*version.features, *version.dropped)}
        treated["features"] = _treat(features, policies, pseudonyms, "")
    attributions = treated.get("attributions")
    if isinstance(attributions, Mapping):
        dropped = {own.name: DROP for own in version.dropped}
        treated["attributions"] = _treat(attributions, dropped, pseudonyms, "")
    tags = treated.get("tags")
    if isinstance(tags, Mapping):
        treated["tags"] = _treat(tags, dict(version.tags), pseudonyms, "tags.")
    subject = treated.get(SUBJECT)
    if pseudonyms is not None and subject is not None:
        treated[SUBJECT] = pseudonyms.of(SUBJECT, str(subject))
    return treated


def _treat(
    values: Mapping[str, Any],
    policies: Mapping[str, str],
    pseudonyms: Pseudonyms | None,
    prefix: str,
) -> dict[str, Any]:
    found = {}
    for name, value in values.items():
        policy = policies.get(name)
        if policy == DROP:
            continue
        if policy == HASH and value is not None:
            assert pseudonyms is not None
            # What is no text would be refused; here it must not stay readable either.
            found[name] = pseudonyms.of(f"{prefix}{name}", str(value))
        else:
            found[name] = value
    return found
