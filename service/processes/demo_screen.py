"""What the demo shows: colours in a terminal, plain lines anywhere else."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.markup import escape
from rich.text import Text

if TYPE_CHECKING:
    from rich.status import Status

_COLOURS: Final = {"ok": "green", "alert": "bold red", "insufficient_data": "dim"}
_SHORT: Final = {"insufficient_data": "no data", "estimated_performance": "estimate"}
_FAMILIES: Final = ("quality", "drift", "estimated_performance", "performance")
_ACTION_COLOURS: Final = {"none": "dim", "watch": "yellow"}
_WIDTH: Final = 120
_MOST_NAMES: Final = 4


class Screen:
    """One line for each thing that happens, flushed at once."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._status: Status | None = None

    def say(self, text: str) -> None:
        """Print a line."""
        self._end_progress()
        self._print(escape(text))

    def progress(self, done: int, total: int) -> None:
        """Show how far the replay is, in a terminal only."""
        if not self._console.is_terminal:
            return
        text = f"replaying day {done} of {total}"
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        self._status.update(text)

    def window(self, window: Mapping[str, Any]) -> None:
        """Print a judged window: its verdicts, what moved, and what should be done."""
        verdicts = window["verdicts"]
        line = Text(f"{window['start'][:10]}  {window['rows']:>6,} rows")
        for family in _FAMILIES:
            if family in verdicts:
                verdict = verdicts[family]
                line.append(f"  {_SHORT.get(family, family)} ")
                line.append(_SHORT.get(verdict, verdict), _COLOURS.get(verdict, ""))
        action = f"→ {window['action']}"
        moved = [*window.get("drifted_features", ()), *window.get("alerting_metrics", ())]
        line.append(_fitting(moved, _WIDTH - len(line.plain) - len(action) - 2))
        line.append(f"  {action}", _ACTION_COLOURS.get(window["action"], "bold red"))
        self._end_progress()
        self._print(line)

    def request(self, request: Mapping[str, Any], url: str) -> None:
        """Print an open retraining request, and where it can be read."""
        self._end_progress()
        title = f"Retraining request {request['id']} is {request['state']}"
        self._print("")
        self._print(f"[bold red]{escape(title)}[/]: {escape(str(request['reason']))}")
        self._print(f"  {url}/v1/retraining-requests/{request['id']}")
        self._print(f"  {url}/v1/models/{escape(request['model'])}/windows")
        self._print(f"  {url}/v1/incidents?model={escape(request['model'])}")

    def _print(self, line: str | Text) -> None:
        self._console.print(line)
        self._console.file.flush()

    def _end_progress(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def _fitting(names: Sequence[str], width: int) -> str:
    """Return the first of the names, as many as fit, and how many there are beyond."""
    for said in range(min(len(names), _MOST_NAMES), 0, -1):
        more = f" +{len(names) - said}" if len(names) > said else ""
        text = f"  {', '.join(names[:said])}{more}"
        if len(text) <= width:
            return text
    text = f"  {len(names)} moved"
    return text if names and len(text) <= width else ""
