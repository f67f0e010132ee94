"""The tree of deliberate failures.

ServiceError
├── BadRequestError (400)       malformed-json, bad-envelope, empty-batch, bad-gzip …
├── UnauthenticatedError (401)  no key, or none that is known and valid
├── ForbiddenError (403)        the key is not for this
├── NotFoundError (404)         unknown-model, unknown-version, unknown-window …
├── StalledBodyError (408)      the body did not arrive in time
├── ConflictError (409)         the request contradicts what is stored
├── TooLargeError (413)
├── UnsupportedTypeError (415)
├── InvalidDocumentError (422)  a document that can be read but not accepted
│   └── NotImplementedYetError  a part of the interface that this release does not have
├── RateLimitedError (429)      the key has sent its share; sent with Retry-After
├── BusyError (503)             too many rows in flight; sent with Retry-After
├── NotReadyError (503)         about to stop; sent with Retry-After
│   └── NotMigratedError        the tables are not those of this release
├── DatabaseAwayError (503)     sent with Retry-After
└── NotDurableError (503)       the database may lose what it commits

``ModelwatchSetupError`` stands beside it: a process that cannot start.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class ServiceError(Exception):
    """A failure that the caller is told about as ``application/problem+json``."""

    status: ClassVar[int] = 500
    code: str = "internal-error"
    title: str = "Internal error"
    retry_after: int | None = None

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        title: str | None = None,
        rejected: Sequence[Mapping[str, Any]] = (),
        limit: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail[:300]
        self.rejected = tuple(rejected)
        self.limit = limit
        if code is not None:
            self.code = code
            self.title = title or code.replace("-", " ").capitalize()


class BadRequestError(ServiceError):
    """The request cannot be read."""

    status = 400
    code = "bad-request"
    title = "Bad request"


class UnauthenticatedError(ServiceError):
    """The request has no key, or none that is known, unexpired and not revoked."""

    status = 401
    code = "unauthenticated"
    title = "Unauthenticated"

    def __init__(self) -> None:
        # The same words for every reason: which one it is helps nobody but a thief.
        super().__init__("send a valid key: Authorization: Bearer mw_…")


class ForbiddenError(ServiceError):
    """The key is not for this: its scopes, or the models that it is bound to, exclude it."""

    status = 403
    code = "forbidden"
    title = "Forbidden"


class ForeignOriginError(ForbiddenError):
    """Another site's page sent it; or, without keys, it is not addressed to this machine."""

    code = "foreign-origin"
    title = "Foreign origin"

    def __init__(self) -> None:
        super().__init__(
            "another site's page sent this; or `modelwatch up`, without keys, was not addressed as"
            " localhost, 127.0.0.1 or [::1]"
        )


class NotFoundError(ServiceError):
    """What the request names does not exist."""

    status = 404
    code = "not-found"
    title = "Not found"


class UnknownModelError(NotFoundError):
    """No model of that name is registered."""

    code = "unknown-model"
    title = "Unknown model"

    def __init__(self) -> None:
        super().__init__("no model of that name is registered")


class UnknownVersionError(NotFoundError):
    """The model has no version of that name."""

    code = "unknown-version"
    title = "Unknown version"

    def __init__(self) -> None:
        super().__init__("the model has no version of that name")


class UnknownRevisionError(NotFoundError):
    """The model's monitor has no such revision."""

    code = "unknown-revision"
    title = "Unknown revision"

    def __init__(self) -> None:
        super().__init__("the model's monitor has no such revision")


class UnknownRequestError(NotFoundError):
    """No retraining request has that id."""

    code = "unknown-retraining-request"
    title = "Unknown retraining request"

    def __init__(self) -> None:
        super().__init__("no retraining request has that id")


class UnknownIncidentError(NotFoundError):
    """No incident has that id."""

    code = "unknown-incident"
    title = "Unknown incident"

    def __init__(self) -> None:
        super().__init__("no incident has that id")


class StalledBodyError(ServiceError):
    """The body did not arrive in time."""

    status = 408
    code = "stalled-body"
    title = "Stalled body"


class ConflictError(ServiceError):
    """The request contradicts what is stored."""

    status = 409
    code = "conflict"
    title = "Conflict"


class TooLargeError(ServiceError):
    """The request is over a limit."""

    status = 413
    code = "too-large"
    title = "Too large"


class UnsupportedTypeError(ServiceError):
    """The content type, charset or encoding is not one that this route reads."""

    status = 415
    code = "unsupported-type"
    title = "Unsupported media type"


class InvalidDocumentError(ServiceError):
    """The document can be read, but something in it is wrong."""

    status = 422
    code = "invalid-document"
    title = "Invalid document"


class NotImplementedYetError(InvalidDocumentError):
    """A documented part of the interface that this release does not have."""

    code = "not-implemented"
    title = "Not implemented in this release"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not implemented in this release")


class RateLimitedError(ServiceError):
    """The key has sent what it may send a minute."""

    status = 429
    code = "rate-limited"
    title = "Rate limited"

    def __init__(self, retry_after: int) -> None:
        super().__init__("the key has sent what it may send a minute")
        self.retry_after = retry_after


class BusyError(ServiceError):
    """More rows wait for their commit than the process may hold."""

    status = 503
    code = "busy"
    title = "Busy"
    retry_after = 1


class NotReadyError(ServiceError):
    """The process lives, but what it acknowledged now might be lost or never be judged."""

    status = 503
    code = "not-ready"
    title = "Not ready"
    retry_after = 2


class NotMigratedError(NotReadyError):
    """The database has no tables yet, or those of an earlier release."""

    code = "not-migrated"
    title = "Not migrated"

    def __init__(self) -> None:
        super().__init__(
            "the database has not the tables of this release: run `modelwatch migrate`"
        )


class DatabaseAwayError(ServiceError):
    """The database cannot be reached."""

    status = 503
    code = "database-away"
    title = "Database away"
    retry_after = 2

    def __init__(self) -> None:
        super().__init__("the database cannot be reached; sending the request again is safe")


class NotDurableError(ServiceError):
    """The database may lose what it has committed, so that nothing is acknowledged."""

    status = 503
    code = "not-durable"
    title = "Not durable"
    retry_after = 30

    def __init__(self, settings: Sequence[str]) -> None:
        names = ", ".join(settings)
        super().__init__(f"the database may lose what it has committed: {names} off")


class ModelwatchSetupError(Exception):
    """A process cannot start; the message says what to do."""

    exit_code: ClassVar[int] = 2
