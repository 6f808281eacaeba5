"""What Prometheus and Grafana are told fits the compose file. Neither runs here: files and names are held together."""

import re
from typing import Any

import pytest

from service.settings import ENV_PREFIX, Settings
from tests.conftest import ROOT

yaml: Any = pytest.importorskip("ruamel.yaml", reason="check-jsonschema brings it")

FOLDER = ROOT / "deploy" / "monitoring"


def read(path: str) -> Any:
    return yaml.YAML(typ="safe").load((ROOT / path).read_text(encoding="utf-8"))


def by_default(text: str) -> str:
    """What compose makes of `text` when no environment variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_prometheus_scrapes_the_replicas_of_the_service() -> None:
    services = read("docker-compose.yml")["services"]
    (job,) = read("deploy/monitoring/prometheus.yml")["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert set(found["names"]) <= set(services)
    # The port that asks nobody for a key, keys or not, and that is published to nobody.
    assert services["api"]["environment"]["SIGHTLINE_METRICS_PORT"] == str(found["port"])
    assert not any(port.endswith(f":{found['port']}") for port in services["api"]["ports"])


def test_grafana_asks_the_prometheus_there_is() -> None:
    services = read("docker-compose.yml")["services"]
    (source,) = read("deploy/monitoring/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    host, _, port = source["url"].removeprefix("http://").partition(":")
    assert services[host]["ports"][0].endswith(f":{port}")


def test_what_is_mounted_is_there() -> None:
    """Paths inside the containers, which both see `deploy/monitoring` as /etc/sightline."""
    services = read("docker-compose.yml")["services"]
    for name in ("prometheus", "grafana"):
        assert "./deploy/monitoring:/etc/sightline:ro" in services[name]["volumes"]
    assert "--config.file=/etc/sightline/prometheus.yml" in services["prometheus"]["command"]
    assert (FOLDER / "prometheus.yml").is_file()
    provisioning = services["grafana"]["environment"]["GF_PATHS_PROVISIONING"]
    assert (FOLDER / provisioning.removeprefix("/etc/sightline/")).is_dir()
    (provider,) = read("deploy/monitoring/grafana/provisioning/dashboards/sightline.yml")["providers"]
    assert provider["options"]["path"] == "/etc/sightline/grafana/dashboards"


@pytest.mark.parametrize("file", ["docker-compose.yml", "compose.cpu.yaml", "compose.keys.yaml"])
def test_every_setting_that_is_given_is_one(file: str) -> None:
    """The service ignores what it does not know, so a name that is misspelt would go unnoticed."""
    given = [name for service in read(file)["services"].values() for name in service.get("environment", {})]
    dockerfile = re.findall(r"\b(SIGHTLINE_[A-Z_]+)=", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    names = {name.removeprefix(ENV_PREFIX).lower() for name in [*given, *dockerfile] if name.startswith(ENV_PREFIX)}
    assert names
    assert names <= set(Settings.model_fields)


def test_the_gpu_is_asked_for_where_there_is_one() -> None:
    gpu, cpu = (read(file)["services"]["api"] for file in ("docker-compose.yml", "compose.cpu.yaml"))
    assert (gpu["environment"]["SIGHTLINE_PROVIDER"], cpu["environment"]["SIGHTLINE_PROVIDER"]) == ("cuda", "cpu")
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert "deploy" not in cpu


def test_the_image_serves_its_models_to_other_machines() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^\s*SIGHTLINE_HOST=0\.0\.0\.0$", dockerfile, re.MULTILINE)
    assert {"COPY service service", "COPY models models"} <= set(dockerfile.splitlines())


@pytest.mark.parametrize("file", ["docker-compose.yml", "compose.cpu.yaml"])
def test_as_many_pictures_as_are_decoded_at_once_fit_the_memory(file: str) -> None:
    """1.1 GB for each of 25 megapixels, and 0.6 for the rest: SECURITY.md."""
    api = read(file)["services"]["api"]
    threads = int(by_default(api["environment"]["SIGHTLINE_DECODE_THREADS"]))
    assert 0.6 + 1.1 * threads <= float(api["mem_limit"].removesuffix("g"))


@pytest.mark.parametrize("file", ["docker-compose.yml", "compose.cpu.yaml"])
def test_every_container_is_locked_down(file: str) -> None:
    for name, service in read(file)["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["pids_limit"], name
        assert service["mem_limit"], name
        assert service["restart"] == "unless-stopped", name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name
        assert service["ports"], name
        for port in service["ports"]:
            assert by_default(port).startswith("127.0.0.1:"), f"{name} is published beyond loopback: {port}"


@pytest.mark.parametrize("file", ["docker-compose.yml", "compose.cpu.yaml"])
def test_what_a_read_only_container_is_given_are_files_that_are_there(file: str) -> None:
    """Compose refuses inline configs in a container whose root is read-only, which the schema does not say."""
    compose = read(file)
    for kind in ("configs", "secrets"):
        assert all(set(each) == {"file"} for each in compose.get(kind, {}).values())
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = by_default(volume).split(":")[0]
            assert not source.startswith("./") or (ROOT / source).exists(), source


def test_a_host_without_a_gpu_has_the_same_edge() -> None:
    assert read("compose.cpu.yaml")["services"]["edge"] == read("docker-compose.yml")["services"]["edge"]


def test_keys_are_a_secret_that_is_never_committed() -> None:
    compose = read("compose.keys.yaml")
    api = compose["services"]["api"]
    (name,) = api["secrets"]
    assert api["environment"] == {"SIGHTLINE_API_KEYS_FILE": f"/run/secrets/{name}"}
    file = compose["secrets"][name]["file"].removeprefix("./")
    assert f"/{file}" in (ROOT / ".gitignore").read_text().splitlines()
    assert f"chown 10001 {file}" in (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("file", ["docker-compose.yml", "compose.cpu.yaml"])
def test_what_compose_tells_the_build_is_asked_for(file: str) -> None:
    """And stands in a label: of which revision, from where and when."""
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    asked = set(re.findall(r"^ARG (\w+)", dockerfile, re.MULTILINE))
    told = read(file)["services"]["api"]["build"]["args"]
    assert set(told) <= asked
    assert by_default(told["REVISION"]) == "unknown"
    for name in ("REVISION", "CREATED", "SOURCE"):
        assert name in told
        assert f'org.opencontainers.image.{name.lower()}="${{{name}}}"' in dockerfile


def test_bodies_are_taken_as_the_variable_says() -> None:
    mounted = [each for each in read("docker-compose.yml")["services"]["edge"]["volumes"] if "bodies" in each]
    assert mounted == ["./deploy/edge/${EDGE_BODIES:-bodies.conf}:/etc/sightline/bodies.conf:ro"]
    said = [(ROOT / "deploy" / "edge" / name).read_text() for name in ("bodies.conf", "bodies-whole.conf")]
    assert [re.findall(r"^proxy_request_buffering (\w+);", each, re.MULTILINE) for each in said] == [["off"], ["on"]]
    assert "EDGE_BODIES=bodies-whole.conf" in (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_the_edge_is_published_where_its_variables_say() -> None:
    ports = read("docker-compose.yml")["services"]["edge"]["ports"]
    assert ports == ["${EDGE_PUBLISH:-127.0.0.1:8080}:8080", "${EDGE_TLS_PUBLISH:-127.0.0.1:8443}:8443"]
    listens = [(ROOT / "deploy" / "edge" / name).read_text() for name in ("compose/listen.conf", "tls.conf.example")]
    assert re.findall(r"^listen (\d+)", "\n".join(listens), re.MULTILINE) == ["8080", "8443"]
