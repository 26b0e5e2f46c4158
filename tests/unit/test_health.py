"""A service's heartbeat, and the directory it is in."""

import os

import pytest

from shared.errors import ConfigurationError
from shared.health import Heartbeat, is_alive
from shared.settings import Settings


def test_a_service_that_beats_is_alive_and_one_that_stopped_is_not(tmp_path):
    settings = Settings(data_dir=tmp_path / "new" / "data")
    heartbeat = Heartbeat(settings, "exporter")
    assert not is_alive(settings, "exporter")
    heartbeat.beat(connected=True)
    assert is_alive(settings, "exporter")
    heartbeat.stop()
    assert not is_alive(settings, "exporter")


def test_a_data_directory_that_cannot_be_made_is_an_error_of_configuration(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"/file/data cannot be written to \(Not a directory\).*DATA_DIR"):
        Heartbeat(Settings(data_dir=tmp_path / "file" / "data"), "exporter")


def test_a_data_directory_of_another_user_is_an_error_of_configuration(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_arguments: False)  # root may do everything
    with pytest.raises(ConfigurationError, match=r"cannot be written to \(Permission denied\)"):
        Heartbeat(Settings(data_dir=tmp_path), "exporter")
