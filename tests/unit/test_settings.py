"""Settings: defaults that run, and an error that names the variable and the fault."""

import pytest

from shared.errors import ConfigurationError
from shared.settings import load_settings


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    import os  # noqa: PLC0415

    for name in os.environ:
        if name.startswith("BOWERBIRD_"):
            monkeypatch.delenv(name)


def test_defaults_need_no_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    settings = load_settings()
    assert settings.data_dir == tmp_path / "bowerbird"
    assert settings.exports == tmp_path / "bowerbird" / "exports"
    assert settings.database_url is None
    assert settings.broker_url is None


@pytest.mark.parametrize(
    ("variable", "value", "fault"),
    [
        ("BOWERBIRD_API_PORT", "eighty", "BOWERBIRD_API_PORT: .*valid integer"),
        ("BOWERBIRD_DATABASE_URL", "mysql://localhost/x", "BOWERBIRD_DATABASE_URL: must start with postgresql://"),
        ("BOWERBIRD_BROKER_URL", "redis://localhost", "BOWERBIRD_BROKER_URL: must start with amqp://"),
        ("BOWERBIRD_BROKER_PREFIX", "Not OK", "BOWERBIRD_BROKER_PREFIX"),
        ("BOWERBIRD_ALLOWED_NETWORKS", "10.1.0.1/16", "ALLOWED_NETWORKS: .*did you mean 10.1.0.0/16"),
        ("BOWERBIRD_ALLOWED_NETWORKS", "10.1.0.0/33", "'10.1.0.0/33' is no network"),
        ("BOWERBIRD_ALLOWED_NETWORKS", "10.1", "'10.1' is no network"),
        ("BOWERBIRD_ALLOWED_NETWORKS", "http://intranet.example", "is no network .* or host name"),
        ("BOWERBIRD_OUTBOUND_PROXY", "proxy:3128", "BOWERBIRD_OUTBOUND_PROXY: must be an http"),
        ("BOWERBIRD_API_PROT", "80", "No such setting: BOWERBIRD_API_PROT"),
    ],
)
def test_a_wrong_variable_is_named_with_its_fault(monkeypatch, variable, value, fault):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=fault):
        load_settings()


def test_settings_survive_the_way_through_a_childs_environment(monkeypatch, tmp_path):
    settings = load_settings(
        data_dir=tmp_path,
        database_url="postgresql://u:p@h/d",
        job_tasks_plan="collect, process",
        lease_seconds=2.5,
        allowed_networks="127.0.0.1, 10.1.0.0/16,FD00::/8,Intranet.example",
    )
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings
    assert load_settings().job_tasks_plan == ("collect", "process")
    assert load_settings().allowed_networks == ("127.0.0.1/32", "10.1.0.0/16", "fd00::/8", "intranet.example")


def test_an_empty_variable_means_the_default(monkeypatch):
    monkeypatch.setenv("BOWERBIRD_BROKER_URL", "")
    assert load_settings().broker_url is None
