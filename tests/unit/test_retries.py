"""Attempts and delays by task type, as an operator writes them."""

import pytest

from shared.errors import ConfigurationError
from shared.retries import DEFAULT_RETRIES, RetryPolicy, parse_retries
from shared.settings import Settings, load_settings


def test_what_is_named_goes_before_what_holds_for_all():
    settings = Settings(max_attempts=5, retry_base_seconds=2, retry_cap_seconds=60, retries="collect:attempts=9,cap=2h")
    assert settings.retry_policy("collect") == RetryPolicy(9, 2, 7200)
    assert settings.retry_policy("flatten") == RetryPolicy(5, 2, 60)


def test_a_process_gives_its_children_the_same(monkeypatch):
    settings = Settings(retries="flatten:base=1.5m")
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings
    assert load_settings().retry_policy("flatten").base_seconds == 90


def test_sources_are_tried_for_longer_and_tables_less_often():
    default, settings = parse_retries(DEFAULT_RETRIES), Settings()
    assert default.keys() == {"collect", "flatten"}
    assert settings.retry_policy("collect").attempts > settings.retry_policy("process").attempts
    assert settings.retry_policy("flatten").attempts < settings.retry_policy("process").attempts


def test_spaces_and_an_empty_part_do_no_harm():
    assert parse_retries(" collect : attempts = 2 , base = 3 ; ") == {"collect": {"attempts": 2, "base": 3}}
    assert parse_retries("") == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("colect:attempts=2", "there is no task type 'colect'; there are collect, process, check, export, "),
        ("collect:atempts=2", "'atempts' is no word for collect; there are attempts, base, cap"),
        ("collect:attempts=0", "attempts of collect must be a whole number from 1 to 9999, and not '0'"),
        ("collect:attempts=2.5", "attempts of collect must be a whole number from 1 to 9999, and not '2.5'"),
        ("collect:base=soon", "base of collect must be a time such as 30, 30s, 5m or 2h, and not 'soon'"),
        ("collect:cap=0s", "cap of collect must be a time such as 30, 30s, 5m or 2h, and not '0s'"),
        ("collect:attempts=2;collect:base=1", "collect is there twice"),
        ("collect:base=1,base=2", "collect has base twice"),
        ("collect", "'collect' has no words: write it as in collect:attempts=8,base=5s,cap=2h"),
        ("collect=5", "'collect=5' has no words: write it as in collect:attempts=8,base=5s,cap=2h"),
    ],
)
def test_what_is_wrong_is_named_with_the_variable(monkeypatch, text, sentence):
    monkeypatch.setenv("BOWERBIRD_RETRIES", text)
    with pytest.raises(ConfigurationError) as raised:
        load_settings()
    assert str(raised.value).startswith(f"BOWERBIRD_RETRIES: {sentence}")
