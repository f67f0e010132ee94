"""Cases 89 and 90: webhooks that would smuggle a header in, or lead to the inside."""

import json
from typing import Any

from tests.system.catalogue.case import Case
from tests.system.catalogue.wire import request

_URL = "https://hooks.example.com/"
# Written as in the ten classic ways; what has more than one reading is no URL.
_ADDRESSES = (
    *("https://127.0.0.1/", "https://localhost/", "https://0.0.0.0/", "https://10.0.0.1/"),
    *("https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[64:ff9b::a9fe:a9fe]/"),
    *("https://169.254.169.254/latest/meta-data/", "https://192.168.1.1/"),
    *("https://8.8.8.8:22/", "http://8.8.8.8/"),
)
_SPELLINGS = (
    *("https://2130706433/", "https://0177.0.0.1/", "https://0x7f.1/", "https://127.1/"),
    *("https://hooks.example.com@127.0.0.1/", "file:///etc/passwd"),
)


def _put(number: int, name: str, code: str, **content: Any) -> Case:
    body = json.dumps({"url": _URL, **content}).encode()
    sent = request("/v1/webhooks/ci", body, method="PUT")
    return Case(number=number, name=name, sent=sent, status=422, code=code, secret=b"smuggled")


_BAD = "invalid-document"

INWARD = (
    _put(89, "line in a url", _BAD, url=f"{_URL}\r\nX-A: smuggled"),
    _put(89, "line feed in a url", _BAD, url=f"{_URL}\nsmuggled"),
    _put(89, "line in a header", _BAD, headers={"X-A": "1\r\nX-B: smuggled"}),
    _put(89, "line feed in a header", _BAD, headers={"X-A": "1\nsmuggled"}),
    _put(89, "line in a name", _BAD, headers={"X-A: 1\r\nX-B": "smuggled"}),
    *(_put(90, f"private {url}", "forbidden-address", url=url) for url in _ADDRESSES),
    *(_put(90, f"spelt {url}", _BAD, url=url) for url in _SPELLINGS),
)
