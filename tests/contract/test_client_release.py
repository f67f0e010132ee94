"""The service goes on taking what the last release of the client sends."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WIRE = "tests/contract/test_client_and_api.py"


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


def last_release() -> str | None:
    """Return the newest tag of a client, such as ``client-0.1.0``, where there are tags."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        return None
    tags = git("tag", "--list", "client-*", "--sort=-version:refname").decode().split()
    return tags[0] if tags else None


def test_the_wire_tests_of_the_last_release_pass_with_this_service(tmp_path: Path) -> None:
    release = last_release()
    if release is None:
        pytest.skip("no client-* tag is here: there is no release yet, or the clone has no tags")
    with tarfile.open(fileobj=io.BytesIO(git("archive", release))) as archive:
        archive.extractall(tmp_path, filter="data")
    for name in ("service", "migrations"):
        shutil.rmtree(tmp_path / name)
        (tmp_path / name).symlink_to(ROOT / name)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", WIRE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{tmp_path / 'client' / 'src'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, f"{release}:\n{done.stdout[-5_000:]}"
