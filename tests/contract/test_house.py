"""The house rules: lint, types, import contracts, pins, and the files that run the service."""

import ast
import io
import re
import shutil
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from service.settings import Settings

ROOT = Path(__file__).parents[2]
LINT_IMPORTS = (
    *("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"),
    "--no-cache",
)
SETTINGS = {f"MODELWATCH_{name.upper()}" for name in Settings.model_fields}
SOURCES = [
    path
    for folder in ("service", "tests", "client", "migrations", "grafana")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
SUPPRESSION = re.compile(r"#\s*(?:ruff: *)?(?:noqa(?:: *[A-Z0-9, ]+)?|type: *ignore(?:\[[^]]*\])?)")
PRODUCT = ("service", "client")
LONGEST_FILE, LONGEST_FUNCTION = 300, 40
PROMETHEUS = [ROOT / "prometheus" / name for name in ("prometheus.yml", "compose.yml")]

promtool = shutil.which("promtool")


def run(*arguments: str, cwd: Path = ROOT) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=1500,
    )
    return done.returncode, done.stdout


def test_ruff_has_no_complaint() -> None:
    code, output = run("-m", "ruff", "check")
    assert code == 0, output


def test_everything_is_formatted() -> None:
    code, output = run("-m", "ruff", "format", "--check")
    assert code == 0, output


def unreasoned(path: Path) -> list[str]:
    """Return the comments of a file that switch a check off and do not say why."""
    content = path.read_bytes()
    if b"noqa" not in content and b"type: ignore" not in content:
        return []
    return [
        f"{path.relative_to(ROOT)}:{token.start[0]}: {token.string}"
        for token in tokenize.tokenize(io.BytesIO(content).readline)
        if token.type == tokenize.COMMENT
        and (found := SUPPRESSION.search(token.string))
        and not re.search("[a-z]{2}", token.string[found.end() :])
    ]


def test_a_check_that_is_switched_off_says_why() -> None:
    found = [each for path in SOURCES for each in unreasoned(path)]
    assert found == []


def test_no_file_of_the_service_is_long() -> None:
    found = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] in PRODUCT
        and path.read_bytes().count(b"\n") > LONGEST_FILE
    ]
    assert found == []


def lengths_of_functions(path: Path) -> Iterator[tuple[str, int]]:
    """Return the lines of each function's body; what its docstring says does not count."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            length = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            yield f"{path.relative_to(ROOT)}: {node.name}", length


def test_no_function_of_the_service_is_long() -> None:
    found = [
        (name, length)
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] in PRODUCT
        for name, length in lengths_of_functions(path)
        if length > LONGEST_FUNCTION
    ]
    assert found == []


def test_all_types_are_right() -> None:
    code, output = run("-m", "mypy")
    assert code == 0, output


def test_imports_keep_their_contracts() -> None:
    code, output = run(*LINT_IMPORTS)
    assert code == 0, output


def test_a_planted_import_from_detection_to_db_breaks_the_contract(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "service", tmp_path / "service", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / ".importlinter", tmp_path)
    with (tmp_path / "service" / "detection" / "drift.py").open("a") as file:
        file.write("\nimport service.db.engine\n")
    code, output = run(*LINT_IMPORTS, cwd=tmp_path)
    assert code == 1, output
    assert "The statistics are pure" in output
    assert "service.detection.drift -> service.db.engine" in output


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line]
    assert all(len(pair) == 2 for pair in pairs)
    return {canonicalize_name(name): version for name, version in pairs}


def declared() -> list[Requirement]:
    found: list[str] = []
    for path in (ROOT / "pyproject.toml", ROOT / "client" / "pyproject.toml"):
        project = tomllib.loads(path.read_text())["project"]
        found += project.get("dependencies", [])
        found += [
            each for extra in project.get("optional-dependencies", {}).values() for each in extra
        ]
    return [Requirement(each) for each in found]


def test_constraints_pin_what_is_installed_and_hold_no_address() -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert re.fullmatch(r"([A-Za-z0-9._-]+==[A-Za-z0-9.+!]+\n)+", text)
    pinned = pins()
    waiting = declared()
    assert len(waiting) > 30
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{name} is not pinned"
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                below = [Requirement(each) for each in requires(name) or ()]
            except PackageNotFoundError:
                below = []
            waiting += [
                each
                for each in below
                if each.marker is None or each.marker.evaluate({"extra": extra})
            ]
    assert len(seen) > 60


def test_pins_satisfy_what_is_declared() -> None:
    pinned = pins()
    for requirement in declared():
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)])


@pytest.mark.parametrize("path", PROMETHEUS, ids=lambda path: path.name)
def test_prometheus_accepts_its_files(path: Path) -> None:
    document = yaml.safe_load(path.read_text())
    assert isinstance(document, dict)
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    done = subprocess.run(
        # A key that is not made yet is no fault of the file.
        [promtool, "check", "config", "--syntax-only", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
