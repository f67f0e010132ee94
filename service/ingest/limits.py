"""What one record may hold; the limits of whole requests are settings."""

from datetime import timedelta

MAX_FEATURES = 320
MAX_TEXT_BYTES = 8_192
# Characters that can never take more bytes than that: a quick test that needs no encoding.
SAFE_TEXT = MAX_TEXT_BYTES // 4
MAX_ID = 128
MAX_TAGS = 32
MAX_DEPTH = 8
MAX_INTEGER = 1 << 63
MAX_WARNINGS = 100
MAX_PROBLEM_ROWS = 100
# Of one request: names that a schema lacks are the sender's, and each makes a row of counts.
MAX_UNKNOWN_NAMES = 20
FUTURE = timedelta(minutes=10)
# Histories are replayed, but 1970 is a clock that was never set.
PAST = timedelta(days=10_958)
MAX_LETTERS = 1_000
"""Dead letters of one model: of more the oldest go."""
LETTER_AGE = timedelta(days=30)
"""A dead letter that nobody has replayed by then goes."""
