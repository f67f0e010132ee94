"""Everything in one command: the database, the API and a worker, stopped in reverse order."""

import http.client
import select
import shlex
import signal
import socket
import sys
import time
import webbrowser
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from rich.console import Console

from service.db.postmaster import read_pid_file
from service.errors import ModelwatchSetupError
from service.processes.children import Child, settings_message
from service.processes.database import Provided, migrate, provided, shown
from service.processes.keys import OWN_KEYS, own_key
from service.processes.listening import open_listener, url_of
from service.processes.opening import is_loopback, require_key
from service.processes.stopping import SignalPipe
from service.settings import Settings

ADDRESSES: Final = (
    ("routes", "/docs"),
    ("ready", "/readyz"),
    ("models", "/v1/models"),
    ("retraining requests", "/v1/retraining-requests"),
    ("metrics of this process", "/metrics"),
    ("metrics of the models", "/metrics/models"),
)
# Where commands and clients look unless they are told otherwise.
USUAL_ADDRESS: Final = "http://127.0.0.1:8080"
READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 2.5
MOST_DATABASES: Final = 5
# A demo is watched by somebody, and its month is over in seconds: no late row is waited for.
DEMO_QUIET: Final = timedelta(seconds=1)


class _DatabaseGoneError(Exception):
    """The embedded database ended on its own."""


class Up:
    """Starts the processes, keeps them running, and stops them."""

    def __init__(self, settings: Settings, *, demo: bool, open_pages: bool) -> None:
        self._settings = settings
        self._open_pages = open_pages
        self._console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._signals = SignalPipe(signal.SIGCHLD)
        self._stopping = False
        self._demo = demo
        self._children: list[Child] = []
        self._database: Provided | None = None

    def run(self) -> int:
        """Run until a signal comes, or a process cannot be kept alive."""
        with open_listener(self._settings.host, self._settings.port) as listener:
            for _ in range(MOST_DATABASES):
                try:
                    self._start_children(listener)
                    with provided(self._settings) as database:
                        self._run_on(database, listener)
                except _DatabaseGoneError:
                    self._say("The database ended; all of it starts again.")
                else:
                    again = _command("up", self._settings, "data_dir", "host", "port")
                    self._say(f"Stopped. Start it again with: {again}")
                    return 0
                finally:
                    self._stop_children()
        message = f"the database has ended {MOST_DATABASES} times"
        raise ModelwatchSetupError(message)

    def _start_children(self, listener: socket.socket) -> None:
        """Start the processes, which import while the database starts."""
        roles = [Child("api", pass_fds=[listener.fileno()]), Child("worker")]
        if self._settings.database_url is None:
            roles.append(Child("guard"))
        if self._demo:
            roles.append(Child("demo"))
        self._children = roles
        for child in roles:
            child.start()

    def _run_on(self, database: Provided, listener: socket.socket) -> None:
        self._database = database
        try:
            migrate(database.url)
            self._tell_services(database, listener)
            address = url_of(listener)
            if self._wait_until_ready(address):
                self._show(address)
                for child in self._children:
                    if child.role == "demo":
                        child.tell(
                            {"url": address, "key": settings_message(self._settings)["api_key"]}
                        )
                self._supervise()
            # A terminal has written ^C where the next line would begin.
            end = "\n" if self._console.is_terminal else ""
            self._say(f"{end}Stopping; what was stored stays in {self._place}")
        finally:
            # Before the database, which nothing may still be using when it goes.
            self._stop_children()

    def _tell_services(self, database: Provided, listener: socket.socket) -> None:
        settings = settings_message(self._settings) | {"database_url": database.url}
        # Nothing stands before it that would look elsewhere.
        settings["drain"] = 0
        # Made once, and kept where the database is kept.
        for name, file in OWN_KEYS:
            if settings[name] is None:
                settings[name] = own_key(self._settings.data_dir, file)
        keyless = is_loopback(self._settings.host)
        given = self._settings.model_fields_set
        if "log_level" not in given:
            settings["log_level"] = "WARNING"
        if self._demo and "quiet" not in given:
            settings["quiet"] = DEMO_QUIET.total_seconds()
        for child in self._children:
            if child.role in {"api", "worker"}:
                child.tell(
                    {"settings": settings, "listener": listener.fileno(), "keyless": keyless}
                )
            elif child.role == "guard" and database.embedded is not None:
                child.tell(_guarded(database.embedded.cluster))

    def _wait_until_ready(self, address: str) -> bool:
        """Return True once the API is ready, False when a signal came before."""
        deadline = time.monotonic() + READY_SECONDS
        while not self._stopping:
            if _is_ready(address):
                return True
            if time.monotonic() > deadline:
                message = f"the API was not ready within {READY_SECONDS:.0f} s"
                raise ModelwatchSetupError(message)
            self._tend(0.05)
        return False

    def _supervise(self) -> None:
        while not self._stopping:
            due = [child.due for child in self._children if child.due is not None]
            self._tend(max(0.0, min(due) - time.monotonic()) if due else None)

    def _tend(self, seconds: float | None) -> None:
        """Wait for a signal or the end of a child, and start again what has died."""
        readable, _, _ = select.select([self._signals.reading], [], [], seconds)
        if readable and self._signals.drain():
            self._stopping = True
            return
        if self._database is not None and self._database.is_gone:
            raise _DatabaseGoneError
        for child in self._children:
            if child.due is not None:
                if child.due <= time.monotonic():
                    child.start()
            elif (code := child.exit_code()) is not None:
                self._on_exit(child, code)

    def _on_exit(self, child: Child, code: int) -> None:
        if child.role == "demo":
            self._children.remove(child)
            child.finish(0.0)
            self._demo = False
            return
        delay = child.plan_restart()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        if delay is None:
            message = f"the {child.role} process {how} and has been restarted too often"
            raise ModelwatchSetupError(message)
        self._say(f"The {child.role} process {how}; it starts again in {delay:.1f} s.")

    def _stop_children(self) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        for child in reversed(self._children):
            child.ask_to_stop()
        for child in self._children:
            child.finish(deadline - time.monotonic())
        self._children = []

    def _show(self, address: str) -> None:
        self._say(f"modelwatch is ready at {address}")
        for name, path in ADDRESSES:
            self._say(f"  {name:<24} {address}{path}")
        self._say(f"  {'data':<24} {self._place}")
        if address != USUAL_ADDRESS:
            self._say(f"  {'for other commands':<24} export MODELWATCH_URL={address}")
        self._say("Ctrl-C stops it.")
        # A browser has no key to show.
        if self._open_pages and self._console.is_terminal and is_loopback(self._settings.host):
            _open(f"{address}/docs")

    @property
    def _place(self) -> str:
        """Where the data is, as a user would look for it."""
        if self._settings.database_url is not None:
            return shown(self._settings.database_url.get_secret_value())
        return str(self._settings.data_dir.expanduser())

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False)
        self._console.file.flush()


def run(settings: Settings, *, demo: bool, open_pages: bool) -> int:
    """Run all of it until Ctrl-C."""
    if not is_loopback(settings.host):
        # An address that cannot be had is told before a database is made.
        open_listener(settings.host, settings.port).close()
        with provided(settings) as database:
            migrate(database.url)
            making = _command("key create", settings, "data_dir")
            require_key(database.url, settings.host, making=making)
    return Up(settings, demo=demo, open_pages=open_pages).run()


def _command(command: str, settings: Settings, *names: str) -> str:
    """Return a command with the settings that are not what they are when nothing is said."""
    words = ["modelwatch", *command.split()]
    for name in names:
        value = getattr(settings, name)
        if value != Settings.model_fields[name].get_default():
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def _guarded(cluster: Path) -> dict[str, Any]:
    found = read_pid_file(cluster)
    return {"pid": found.pid if found else 0, "cluster": str(cluster)}


def _is_ready(address: str) -> bool:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=1.0)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def _open(url: str) -> None:
    try:
        browser: Any = webbrowser.get()
    except webbrowser.Error:
        return
    # A plain GenericBrowser is a browser in the terminal, which is ours.
    if type(browser) is not webbrowser.GenericBrowser:
        browser.open(url)
