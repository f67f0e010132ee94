"""What the demo shows: colours in a terminal, plain lines anywhere else."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from rich.status import Status

_COLOURS: Final = {"ok": "green", "alert": "bold red", "insufficient_data": "dim"}
_SHORT: Final = {"insufficient_data": "too little data"}
_FAMILIES: Final = ("quality", "drift", "estimated_performance", "performance")
_MOST_FEATURES: Final = 4


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
        """Print a judged window and its verdicts."""
        verdicts = window["verdicts"]
        cells = [f"{name} {_verdict(verdicts[name])}" for name in _FAMILIES if name in verdicts]
        line = f"{window['start'][:10]}  {window['rows']:>6,} rows  {'  '.join(cells)}"
        moved = [*window.get("drifted_features", ()), *window.get("alerting_metrics", ())]
        if moved:
            more = f" +{len(moved) - _MOST_FEATURES}" if len(moved) > _MOST_FEATURES else ""
            line += f"  {escape(', '.join(moved[:_MOST_FEATURES]))}{more}"
        self._print(line)

    def request(self, request: Mapping[str, Any], url: str) -> None:
        """Print an open retraining request, and where it can be read."""
        self._end_progress()
        title = f"Retraining request {request['id']} is {request['state']}"
        self._print("")
        self._print(f"[bold red]{escape(title)}[/]: {escape(str(request['reason']))}")
        self._print(f"  {url}/v1/retraining-requests/{request['id']}")
        self._print(f"  {url}/v1/models/{escape(request['model'])}/windows")

    def _print(self, line: str) -> None:
        self._console.print(line)
        self._console.file.flush()

    def _end_progress(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def _verdict(verdict: str) -> str:
    colour = _COLOURS.get(verdict, "default")
    return f"[{colour}]{escape(_SHORT.get(verdict, verdict))}[/]"
