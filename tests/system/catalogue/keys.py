"""Cases 78 to 80 and 88: the same good request, and one that reads, with keys of all sorts."""

from tests.system.catalogue.bodies import GOOD
from tests.system.catalogue.case import PREDICTIONS, Case, predictions, row
from tests.system.catalogue.wire import request

_READ = request("/v1/models/loans", method="GET", media=None, length=False)
_SENT = request(PREDICTIONS, GOOD)
_NAMED = row("79-record", model=b'"loans"', version=b'"7"')

KEYS = (
    Case(number=78, name="no key", sent=_SENT, key="", status=401, code="unauthenticated"),
    Case(number=78, name="bad key", sent=_SENT, key="bad", status=401, code="unauthenticated"),
    Case(number=78, name="read, no key", sent=_READ, key="", status=401, code="unauthenticated"),
    Case(number=79, name="envelope", sent=_SENT, key="another", status=404, code="unknown-model"),
    Case(number=79, name="read", sent=_READ, key="another", status=404, code="unknown-model"),
    Case(
        number=79,
        name="record",
        sent=request(PREDICTIONS, b'{"records":[%s]}' % _NAMED),
        key="another",
        status=422,
        code="all-rejected",
        rows=1,
        verdicts={0: "unknown-model"},
    ),
    Case(number=80, name="ingest key", sent=_READ, key="ingest", status=403, code="forbidden"),
    Case(number=80, name="read key", sent=_SENT, key="read", status=403, code="forbidden"),
    Case(
        number=88,
        name="over-quota",
        before=(predictions(row("88-over-quota-a")),),
        sent=predictions(row("88-over-quota-b")),
        key="slow",
        status=429,
        code="rate-limited",
        headers={"retry-after": "60"},
        stored=("88-over-quota-a",),
    ),
)
