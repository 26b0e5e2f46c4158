"""What deploy/ promises: it fits the code, keeps its secrets, and the real tools accept it."""

import os
import re
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.broker.topology import HOLD_LIMIT
from shared.messages import MAX_BODY_BYTES
from shared.settings import PREFIX, Settings
from shared.supervisor import SERVICES

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE_TEXT = (DEPLOY / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
EXAMPLE_TEXT = (DEPLOY / ".env.example").read_text(encoding="utf-8")
DOCKERFILE_TEXT = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
GUIDE_TEXT = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
SERVERS = ("postgres", "rabbitmq")
MONITORS = ("prometheus", "grafana")


def seconds(duration: str) -> int:
    """Read a duration such as ``75s``."""
    number, unit = re.fullmatch(r"(\d+)(s|m|h)", duration).groups()
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]


def rabbitmq_conf() -> dict[str, str]:
    lines = (DEPLOY / "rabbitmq.conf").read_text(encoding="utf-8").splitlines()
    pairs = [line.split(" = ", 1) for line in lines if line and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs)
    assert len({key for key, _ in pairs}) == len(pairs), "a key is given twice"
    return dict(pairs)


def tool(name: str) -> str:
    """Return the path of a command-line tool that the development dependencies bring."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    path = shutil.which(name, path=os.pathsep.join(places))
    if path is None and os.environ.get("CI"):
        pytest.fail(f"{name} is not installed, and CI is set")
    return path or pytest.skip(f"{name} is not installed: pip install -e '.[dev]'")


@pytest.fixture
def compose(tmp_path):
    """Run ``docker-compose`` on a copy of deploy/, so that a developer's own .env has no part in it."""
    command = tool("docker-compose")
    shutil.copytree(DEPLOY, tmp_path / "deploy", ignore=shutil.ignore_patterns(".env", "sources"))

    def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [command, "--file", "deploy/docker-compose.yml", *arguments],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_every_service_of_the_suite_is_there_and_nothing_unknown():
    assert set(COMPOSE["services"]) == {*SERVICES, *SERVERS, *MONITORS, "migrate"}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_started_as_the_documentation_says(service):
    assert COMPOSE["services"][service]["command"] == ["python", "-m", f"services.{service}"]
    assert f"`python -m services.{service}`" in GUIDE_TEXT
    assert (ROOT / "services" / service / "__main__.py").is_file()


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_waits_for_the_servers_and_for_the_schema(service):
    assert COMPOSE["services"][service]["depends_on"] == {
        "postgres": {"condition": "service_healthy"},
        "rabbitmq": {"condition": "service_healthy"},
        "migrate": {"condition": "service_completed_successfully"},
    }


def test_the_schema_is_brought_up_to_date_once():
    migrate = COMPOSE["services"]["migrate"]
    assert migrate["command"] == ["bowerbird", "migrate"]
    assert migrate["restart"] == "no"
    assert migrate["depends_on"] == {"postgres": {"condition": "service_healthy"}}


@pytest.mark.parametrize("service", [*SERVICES, *SERVERS, *MONITORS])
def test_a_health_check_asks_what_matters(service):
    check = COMPOSE["services"][service]["healthcheck"]
    expected = {
        "api": "/health/ready",
        "postgres": "--host=127.0.0.1",
        "rabbitmq": "check_port_connectivity",
        "prometheus": "/-/ready",
        "grafana": "/api/health",
    }.get(service, f"shared.health {service}")
    assert expected in " ".join(check["test"])
    assert check["retries"] >= 1
    assert seconds(check["timeout"]) <= seconds(check["interval"])


@pytest.mark.parametrize("service", [*SERVICES, *SERVERS, *MONITORS])
def test_a_service_comes_back_after_a_crash_or_a_reboot(service):
    assert COMPOSE["services"][service]["restart"] == "unless-stopped"


@pytest.mark.parametrize("service", [*SERVICES, "migrate"])
def test_a_service_of_the_suite_has_no_more_rights_than_it_needs(service):
    definition = COMPOSE["services"][service]
    assert definition["read_only"] is True
    assert definition["cap_drop"] == ["ALL"]
    assert definition["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "user", "network_mode", "pid"} & set(definition)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_given_longer_to_stop_than_it_takes(service):
    definition = COMPOSE["services"][service]
    assert seconds(definition["stop_grace_period"]) > float(definition["environment"]["BOWERBIRD_GRACE_SECONDS"])


def test_files_are_shared_and_the_api_only_reads_them():
    for service in SERVICES:
        mounts = COMPOSE["services"][service]["volumes"]
        mode = ":ro" if service == "api" else ""
        assert mounts[0] == f"data:{COMPOSE['x-service']['environment']['BOWERBIRD_DATA_DIR']}{mode}"
    assert set(COMPOSE["volumes"]) == {"postgres", "rabbitmq", "data", *MONITORS}


def test_whoever_reads_settings_has_the_files_that_they_name():
    for service in (*SERVICES, "migrate"):
        assert "${CONFIG_DIR:-./config}:/etc/bowerbird:ro" in COMPOSE["services"][service]["volumes"]


def test_only_the_api_is_reachable_and_only_from_this_host_unless_asked_otherwise():
    published = {name: definition.get("ports") for name, definition in COMPOSE["services"].items()}
    assert published.pop("api") == ["${API_ADDRESS:-127.0.0.1}:${API_PORT:-8080}:8080"]
    for monitor, port in (("prometheus", 9090), ("grafana", 3000)):
        assert published.pop(monitor) == [f"127.0.0.1:${{{monitor.upper()}_PORT:-{port}}}:{port}"]
    assert not any(published.values())
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    for server in SERVERS:
        assert COMPOSE["services"][server]["networks"] == ["inside"]


def test_every_service_can_have_replicas():
    assert not any("container_name" in definition for definition in COMPOSE["services"].values())
    assert [name for name in COMPOSE["services"] if "hostname" in COMPOSE["services"][name]] == ["rabbitmq"]


def test_passwords_have_no_default():
    uses = re.findall(r"\$\{([A-Z_]*PASSWORD[A-Z_]*)([^}]*)\}", COMPOSE_TEXT)
    assert {name for name, _ in uses} == {"POSTGRES_PASSWORD", "RABBITMQ_PASSWORD"}
    assert {rest for _, rest in uses} == {":?set it in .env"}
    for name in ("POSTGRES_PASSWORD", "RABBITMQ_PASSWORD"):
        assert re.search(rf"^{name}=$", EXAMPLE_TEXT, re.MULTILINE)
    for definition in COMPOSE["services"].values():
        for name, value in definition.get("environment", {}).items():
            if "PASS" in name or "URL" in name:
                assert ":?set it in .env}" in value


def test_the_example_names_every_variable_that_the_compose_file_reads():
    read = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", COMPOSE_TEXT))
    explained = set(re.findall(r"^(?:# )?([A-Z_]+)=", EXAMPLE_TEXT, re.MULTILINE))
    assert not read - explained
    assert all(name in read or name.startswith((PREFIX, "OTEL_")) for name in explained)


def test_every_setting_that_deploy_names_exists():
    texts = [path.read_text(encoding="utf-8") for path in DEPLOY.rglob("*") if path.is_file()]
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]+\b", "\n".join([*texts, GUIDE_TEXT])))
    assert "BOWERBIRD_DATABASE_URL" in named
    assert not named - {PREFIX + name.upper() for name in Settings.model_fields}


def test_images_are_named_by_version():
    defaults = dict(re.findall(r"\$\{([A-Z]+_IMAGE):-([^}]+)\}", COMPOSE_TEXT))
    defaults |= re.findall(r"^ARG (PYTHON_IMAGE)=(.+)$", DOCKERFILE_TEXT, re.MULTILINE)
    assert set(defaults) == {"POSTGRES_IMAGE", "RABBITMQ_IMAGE", "PYTHON_IMAGE", "PROMETHEUS_IMAGE", "GRAFANA_IMAGE"}
    for image in defaults.values():
        assert re.fullmatch(r"[a-z/]+:v?\d+(\.\d+)*(-[a-z]+)*", image), f"{image} names no version"
    assert "latest" not in COMPOSE_TEXT + DOCKERFILE_TEXT
    assert {definition["image"] for definition in COMPOSE["services"].values()} == {
        "bowerbird:${IMAGE_TAG:-local}",
        *(f"${{{name}:-{image}}}" for name, image in defaults.items() if name != "PYTHON_IMAGE"),
    }


def test_one_service_builds_the_image_of_all():
    builders = {name: definition["build"] for name, definition in COMPOSE["services"].items() if "build" in definition}
    assert builders == {"migrate": {"context": "..", "dockerfile": "deploy/Dockerfile"}}


def test_the_image_runs_without_root_and_without_build_tools():
    runtime = DOCKERFILE_TEXT.rpartition("FROM ")[2]
    assert "USER 10001:10001" in runtime
    assert "STOPSIGNAL SIGTERM" in runtime
    assert "pip install" not in runtime
    assert "apt-get" not in runtime
    assert f"BOWERBIRD_DATA_DIR={COMPOSE['x-service']['environment']['BOWERBIRD_DATA_DIR']}" in runtime


def test_nothing_but_the_program_is_sent_to_the_builder():
    ignored, *kept = [
        line
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert ignored == "*"
    names = {line.removeprefix("!") for line in kept if line.startswith("!")}
    assert names == {"requirements.txt", "pyproject.toml", "README.md", "LICENSE", "services", "shared"}
    assert all((ROOT / name).exists() for name in names)


def test_rabbitmq_is_configured_for_long_work_and_small_messages():
    conf = rabbitmq_conf()
    assert timedelta(milliseconds=int(conf["consumer_timeout"])) >= HOLD_LIMIT
    assert int(conf["max_message_size"]) >= MAX_BODY_BYTES
    assert 0 < int(conf["heartbeat"]) <= 60
    assert conf["disk_free_limit.absolute"] == "2GB"
    assert 0 < float(conf["vm_memory_high_watermark.relative"]) <= 0.6
    assert int(conf["raft.wal_max_size_bytes"]) == 64 * 1024**2
    assert conf["log.console.level"] == "info"
    assert conf["listeners.tcp.default"] == "5672"
    assert conf["loopback_users.guest"] == "true"


def test_rabbitmq_reads_the_configuration_last_and_keeps_its_name():
    rabbitmq = COMPOSE["services"]["rabbitmq"]
    assert "./rabbitmq.conf:/etc/rabbitmq/conf.d/90-bowerbird.conf:ro" in rabbitmq["volumes"]
    assert rabbitmq["hostname"] == "rabbitmq"


def test_docker_compose_accepts_the_file_and_services_get_the_settings_of_dot_env(compose, tmp_path):
    example = EXAMPLE_TEXT.replace("PASSWORD=", "PASSWORD=s3cret").replace("# BOWERBIRD_", "BOWERBIRD_")
    (tmp_path / "deploy" / ".env").write_text(f"{example}\nBOWERBIRD_LEASE_SECONDS=45\nBOWERBIRD_GRACE_SECONDS=1\n")

    result = compose("config", "--format", "json")

    assert result.returncode == 0, result.stderr
    assert not result.stderr
    environment = yaml.safe_load(result.stdout)["services"]["exporter"]["environment"]
    assert environment["BOWERBIRD_DATABASE_URL"] == "postgresql://bowerbird:s3cret@postgres:5432/bowerbird"
    assert environment["BOWERBIRD_BROKER_URL"] == "amqp://bowerbird:s3cret@rabbitmq:5672/bowerbird"
    assert environment["BOWERBIRD_PUBLIC_URL"] == "https://data.example.org"
    assert environment["BOWERBIRD_LEASE_SECONDS"] == "45"
    assert environment["BOWERBIRD_GRACE_SECONDS"] == COMPOSE["x-service"]["environment"]["BOWERBIRD_GRACE_SECONDS"]
    settings = {name.removeprefix(PREFIX).lower(): value for name, value in environment.items() if PREFIX in name}
    Settings(**settings)


@pytest.mark.parametrize("missing", ["POSTGRES_PASSWORD", "RABBITMQ_PASSWORD"])
def test_nothing_starts_without_a_password(compose, missing):
    passwords = {"POSTGRES_PASSWORD": "s3cret", "RABBITMQ_PASSWORD": "s3cret"} | {missing: ""}

    result = compose("config", "--quiet", **passwords)

    assert result.returncode != 0
    assert f"required variable {missing} is missing a value: set it in .env" in result.stderr


def test_monitoring_runs_only_if_asked_for_and_reads_the_files_that_are_there():
    for monitor in MONITORS:
        definition = COMPOSE["services"][monitor]
        assert definition["profiles"] == ["monitoring"]
        files = [mount.split(":")[0] for mount in definition["volumes"] if mount.startswith("./")]
        assert files
        assert all((DEPLOY / file).is_file() for file in files)
    assert not any("profiles" in COMPOSE["services"][name] for name in (*SERVICES, *SERVERS, "migrate"))


def test_prometheus_asks_every_service_where_it_answers():
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    (asked,) = [job for job in prometheus["scrape_configs"] if job["job_name"] == "bowerbird"]
    ports = {name: found["port"] for found in asked["dns_sd_configs"] for name in found["names"]}
    environment = COMPOSE["x-service"]["environment"]
    assert ports == {
        service: int(environment["BOWERBIRD_METRICS_PORT"]) if service != "api" else 8080 for service in SERVICES
    }
    assert environment["BOWERBIRD_METRICS_HOST"] == "0.0.0.0"


def test_hadolint_has_nothing_to_say_about_the_dockerfile():
    result = subprocess.run([tool("hadolint"), str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
