"""The catalogue of bad input, all 90 cases of it, in one table."""

from tests.system.catalogue.bodies import BODIES
from tests.system.catalogue.inward import INWARD
from tests.system.catalogue.keys import KEYS
from tests.system.catalogue.others import OTHERS
from tests.system.catalogue.rows import ROWS
from tests.system.catalogue.streams import STREAMS

CASES = (*BODIES, *ROWS, *STREAMS, *OTHERS, *KEYS, *INWARD)
