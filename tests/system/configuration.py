"""Processes beside the service, and what is shipped to configure them."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

PROMETHEUS = Path(__file__).parents[2] / "prometheus"


@contextmanager
def process(log: Path, *command: str) -> Iterator[None]:
    with log.open("w") as output:
        started = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield
        assert started.poll() is None, log.read_text()[-2000:]
    finally:
        started.terminate()
        started.wait(timeout=60)


def shipped(name: str) -> Any:
    return yaml.safe_load((PROMETHEUS / name).read_text())


def write(path: Path, document: Any) -> Path:
    path.write_text(yaml.safe_dump(document))
    return path


def hurried_rules(folder: Path) -> list[str]:
    """Return the shipped rules, without their patience."""
    written = []
    for path in sorted((PROMETHEUS / "rules").glob("*.yml")):
        document = yaml.safe_load(path.read_text())
        for group in document["groups"]:
            for rule in group["rules"]:
                rule.pop("for", None)
                rule.pop("keep_firing_for", None)
        written.append(str(write(folder / path.name, document)))
    return written
