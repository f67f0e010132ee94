"""The part of a monitor document that says how long rows are kept."""

from datetime import timedelta
from typing import Annotated, ClassVar

from pydantic import Field

from service.registry.documents import Document
from service.registry.monitor_values import Duration

SHORTEST = timedelta(days=1)


class Retention(Document):
    """How long rows and their labels are kept; for ever by default.

    Older ones are refused, and go month by month, once the whole of a month is older.  Profiles,
    windows and measurements stay.
    """

    part: ClassVar[str] = "retention."

    rows: Annotated[Duration, Field(ge=SHORTEST)] | None = None
