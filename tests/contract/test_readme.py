"""What the READMEs say is what the code does."""

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from service.formats.trouble import Trouble
from service.ingest.verdicts import Code
from service.processes import codes
from service.processes.api import create_app
from service.processes.cli import cli
from service.processes.documentation import document, problems
from service.settings import Settings
from tests.contract.conftest import served

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
SERVICE = ROOT / "service"
COMMAND = "python -m service.processes.documentation > docs/reference.md"
SETTINGS = {f"MODELWATCH_{name.upper()}" for name in Settings.model_fields}
OF_THE_CLIENT = {"MODELWATCH_URL", "MODELWATCH_API_KEY", "MODELWATCH_MODE"}
OF_THE_TESTS = {"MODELWATCH_TEST_SIZE"}


def test_the_reference_is_what_the_code_has() -> None:
    text = (ROOT / "docs" / "reference.md").read_text()
    assert text == document(), f"the reference is stale; write it with: {COMMAND}"


def test_every_setting_says_what_it_means() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_the_pages_name_only_settings_that_exist() -> None:
    named = {name for page in PAGES for name in re.findall(r"MODELWATCH_[A-Z_]+", page.read_text())}
    of_the_proxy = re.findall(r"MODELWATCH_[A-Z_]+", (ROOT / "haproxy/haproxy.cfg").read_text())
    assert named <= SETTINGS | OF_THE_CLIENT | OF_THE_TESTS | set(of_the_proxy)


def anchors(page: Path) -> set[str]:
    """Return what a link may name behind ``#``: headings, as they are shown on the web."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_link_between_pages_leads_somewhere() -> None:
    links = [
        (page, link)
        for page in PAGES
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())
        if not link.startswith("http")
    ]
    assert len(links) > len(PAGES)
    for page, link in links:
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), (page.name, link)
        assert not anchor or anchor in anchors(target), (page.name, link)


def test_every_benchmark_and_test_that_the_pages_name_exists() -> None:
    text = "".join(page.read_text() for page in PAGES)
    modules = re.findall(r"python -m (tests[\w.]+)", text)
    named = {f"{module.replace('.', '/')}.py" for module in modules}
    named |= set(re.findall(r"(?<![\w/])tests/[\w/]+(?:\.\w+)?", text))
    assert len(named) > len(modules) > 0
    assert not [name for name in named if not any(ROOT.glob(f"{name}*"))]


def trees() -> Iterator[ast.AST]:
    for path in SERVICE.rglob("*.py"):
        yield ast.parse(path.read_text())


def named_codes() -> set[str]:
    """Return every literal that a failure gets as its code."""
    found = set()
    for tree in trees():
        for node in ast.walk(tree):
            values: list[ast.expr | None] = []
            if isinstance(node, ast.Call):
                values = [each.value for each in node.keywords if each.arg == "code"]
            elif isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                values = [
                    each.value
                    for each in node.body
                    if (isinstance(each, ast.Assign) and "code" in ast.dump(each.targets[0]))
                    or (isinstance(each, ast.AnnAssign) and "code" in ast.dump(each.target))
                ]
            found |= {v.value for v in values if isinstance(v, ast.Constant)}
    return {str(code) for code in found if isinstance(code, str)}


def test_every_code_of_a_problem_is_documented() -> None:
    found = named_codes()
    assert {"bad-gzip", "unknown-window", "invalid-request"} <= found
    assert found <= problems().keys()
    # Routing and the protocol have their codes in tables of their own.
    in_tables = {"head-too-large", "malformed-http", "method-not-allowed", "not-found"}
    assert problems().keys() - found <= in_tables | {"stalled-head"}


def test_every_verdict_that_costs_a_row_is_documented() -> None:
    assert codes.REFUSALS.keys() == set(Code)
    assert codes.FOREIGN.keys() == set(Trouble)


def literals(path: str) -> set[str]:
    return {
        node.value
        for node in ast.walk(ast.parse((SERVICE / path).read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"[a-z]+(-[a-z]+)+", node.value)
    }


def values_of_code(path: str) -> set[str]:
    """Return the literals beside the key ``code`` in the dicts of a module."""
    return {
        value.value
        for node in ast.walk(ast.parse((SERVICE / path).read_text()))
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and key.value == "code"
        if isinstance(value, ast.Constant) and isinstance(value.value, str)
    }


def test_every_warning_is_documented() -> None:
    of_references = literals("runs/reference_warnings.py") | values_of_code(
        "runs/reference_work.py"
    )
    assert codes.REFERENCE_WARNINGS.keys() == of_references
    names = ("evaluation/window", "evaluation/maturity", "evaluation/quality_rows", "runs/overfit")
    of_windows = (f"{name}.py" for name in names)
    assert codes.WINDOW_WARNINGS.keys() == set().union(*map(values_of_code, of_windows))
    given = {
        node.args[2].value
        for tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "warn"
        and isinstance(node.args[2], ast.Constant)
    }
    assert codes.ROW_WARNINGS.keys() == given


WORDS = re.compile("[a-z]+(_[a-z]+)*")


def statistics() -> list[ast.Module]:
    packages = (SERVICE / "detection", SERVICE / "evaluation")
    return [ast.parse(path.read_text()) for part in packages for path in part.glob("*.py")]


def texts(node: ast.AST) -> set[str]:
    literals = (each.value for each in ast.walk(node) if isinstance(each, ast.Constant))
    return {value for value in literals if isinstance(value, str) and WORDS.fullmatch(value)}


def reasons(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield what is given as a reason, or kept in a variable of that name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "reason":
            yield node.value
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("reason", "missing"):
            yield node.value


def test_every_code_of_a_reason_is_documented_and_given() -> None:
    known = statistics()
    given = set().union(*(texts(reason) for tree in known for reason in reasons(tree)))
    assert given <= codes.REASONS.keys()
    assert codes.REASONS.keys() <= set().union(*map(texts, known))


def blocks(path: Path, language: str, *, until: str = "\0") -> list[str]:
    text = path.read_text().partition(until)[0]
    # Closing fences look like opening ones: all have to be read, in order.
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [content for marked, content in fenced if marked == language]


def test_the_two_commands_are_those_that_everything_is_tested_with() -> None:
    commands = re.findall(r"^pip install .*$", README.read_text(), re.MULTILINE)
    assert commands == [
        "pip install -c constraints.txt ./client . && modelwatch up --demo",
        "pip install -c constraints.txt ./client -e '.[test]' && pytest",
    ]


def commands(block: str) -> Iterator[list[str]]:
    """Return the words of each ``curl`` and each ``modelwatch replay`` of a block."""
    words = shlex.split(block.replace("\\\n", ""), comments=True)
    starts = [at for at, word in enumerate(words) if word in {"curl", "modelwatch"}]
    for start, end in pairwise([*starts, len(words)]):
        if words[start] == "curl" or words[start + 1] == "replay":
            yield words[start:end]


def request(words: list[str], base: str) -> httpx.Request:
    """Return what ``curl`` would send; a file is read where the commands are run."""
    method, address, headers, body = "", "", {}, b""
    rest = iter(words)
    for word in rest:
        if word == "-X":
            method = next(rest)
        elif word == "-H":
            name, _, value = next(rest).partition(": ")
            headers[name] = value
        elif word in {"-d", "--data-binary"}:
            text = next(rest)
            # The examples are of days to which the clock that runs this may not have come.
            last_year = text.replace("2026-", f"{datetime.now(UTC).year - 1}-").encode()
            body = Path(text[1:]).read_bytes() if text.startswith("@") else last_year
        else:
            address = word
    url = f"{base}{address.removeprefix('localhost:8080')}"
    return httpx.Request(method or ("POST" if body else "GET"), url, headers=headers, content=body)


@pytest.fixture
def api(database_url: str) -> Iterator[str]:
    """Serve what `up` does, which has made its keys."""
    key = SecretStr("k" * 40)
    settings = Settings(database_url=SecretStr(database_url), secret_key=key, pii_key=key)
    with served(create_app(settings, keyless=True)) as url:
        yield url


def test_what_the_pages_say_to_type_does_what_they_say(
    api: str, client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELWATCH_URL", api)
    files, *examples = blocks(README, "python")
    examples += blocks(ROOT / "client" / "README.md", "python")[:1]
    exec(files, {})
    Path("monitor.yaml").write_text("\n".join(blocks(README, "yaml")))
    answers = []
    for words in (each for page in PAGES for block in blocks(page, "") for each in commands(block)):
        if words[0] == "modelwatch":
            assert cli.main(words[1:], standalone_mode=False) == 0
        else:
            answer = client.send(request(words[1:], api))
            assert answer.is_success, (words, answer.text)
            answers.append(answer.json())
    assert [answer["accepted"] for answer in answers if "accepted" in answer][:2] == [1, 1]
    assert client.get("/v1/models/loans/predictions/a-1").json()["label"] == "1"
    assert client.get("/v1/models/loans/monitor").json()["fairness"]

    assert len(examples) == 2
    for example in examples:
        namespace: dict[str, Any] = {}
        exec(example.replace("http://127.0.0.1:8080", api), namespace)
        assert namespace["monitor"].flush(20)
        stats = namespace["monitor"].stats()
        assert (stats["accepted"], stats["rejected"], stats["errors"]) == (2, 0, 0)
        logged = client.get(f"/v1/models/loans/predictions/{namespace['prediction_id']}").json()
        assert logged["label"] == "1"


def test_the_monitor_with_every_default_is_what_is_in_force_when_nothing_is_said(
    client: httpx.Client,
) -> None:
    assert client.put("/v1/models/loans", json={"task": "binary"}).is_success
    (shown,) = blocks(ROOT / "docs" / "monitor.md", "yaml")
    kind = {"Content-Type": "application/yaml"}
    said = client.put("/v1/models/loans/monitor", content=shown, headers=kind).json()
    assert client.put("/v1/models/loans/monitor", json={}).json() | {"revision": 1} == said


def test_the_wheel_is_to_hold_the_migrations() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included == {"migrations": "service/_migrations"}
    assert (ROOT / "migrations" / "env.py").exists()
    assert "_migrations" in (SERVICE / "db" / "revisions.py").read_text()
