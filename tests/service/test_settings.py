from pathlib import Path

import pytest
from pydantic import ValidationError

from service import keys, server
from service.connections import MAX_PIPELINED
from service.request_heads import MAX_HEAD_BYTES, MAX_HEAD_S
from service.settings import ENV_PREFIX, Settings, SettingsError, misspelt, read_settings
from tests.service import settings_page


def test_the_defaults_clients_rely_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(ENV_PREFIX + name.upper(), raising=False)
    settings = read_settings()
    assert (settings.host, settings.port, settings.provider) == ("127.0.0.1", 8000, "auto")
    assert (settings.classify_model, settings.segment_model) == ("digits", "streets")
    assert settings.models_dir == Path(__file__).resolve().parents[2] / "models"
    assert settings.max_body_bytes == 10_000_000
    assert settings.max_body_memory_bytes == 256_000_000
    assert settings.max_pictures_per_request == 32
    limits = settings.picture_limits
    assert (limits.max_pixels, limits.max_side, limits.max_aspect) == (25_000_000, 8192, 20)
    assert (settings.body_timeout_s, settings.request_timeout_s, settings.shutdown_grace_s) == (15, 10, 10)
    assert (settings.unread_answer_timeout_s, settings.run_timeout_s, settings.first_run_timeout_s) == (20, 60, 300)
    assert (MAX_HEAD_S, MAX_HEAD_BYTES, MAX_PIPELINED) == (20, 65_536, 100)
    assert server._KEEP_ALIVE_S == 75
    assert keys._LOOK_AGAIN_S <= 1
    assert settings.max_batch_size("segmentation", "cpu") == 1
    assert settings.max_batch_size("segmentation", "cuda") > 1


def test_every_setting_is_read_and_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_PORT", "9000")
    monkeypatch.setenv("SIGHTLINE_SEGMENT_MAX_BATCH_SIZE", "3")
    settings = read_settings()
    assert settings.port == 9000
    assert settings.max_batch_size("segmentation", "cpu") == 3
    assert all(field.description for field in Settings.model_fields.values())


def test_the_page_of_settings_is_of_those_there_are() -> None:
    """`python -m tests.service.settings_page` writes it anew."""
    text = settings_page.PAGE.read_text(encoding="utf-8")
    assert settings_page.page(text) == text
    assert text.count("\n| `SIGHTLINE_") >= len(Settings.model_fields)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "70000"), ("PORT", "http"), ("PROVIDER", "tpu"), ("MAX_PIXELS", "-1"), ("REQUEST_TIMEOUT_S", "0")]
    + [(f"{name}_S", "inf") for name in ("RUN_TIMEOUT", "FIRST_RUN_TIMEOUT", "DECODE_TIMEOUT", "SHUTDOWN_GRACE")]
    + [("RUN_TIMEOUT_S", "1e10"), ("MAX_WAIT_MS", "inf"), ("RUN_TIMEOUT_S", "0.01"), ("DECODE_TIMEOUT_S", "0.01")]
    + [(f"{name}_THREADS", "3000000000") for name in ("DECODE", "CLASSIFY_INTRA_OP", "SEGMENT_INTRA_OP")],
)
def test_a_bad_value_is_one_line_naming_the_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"SIGHTLINE_{name}", value)
    with pytest.raises(SettingsError) as failure:
        read_settings()
    message = str(failure.value)
    assert message.startswith(f"SIGHTLINE_{name}={value}: ")
    assert "\n" not in message


@pytest.mark.parametrize("name", ["HOST", "METRICS_HOST", "PORT"])
def test_a_value_of_several_lines_is_shown_in_one(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"SIGHTLINE_{name}", "a\nb\x1b[31m")
    with pytest.raises(SettingsError) as failure:
        read_settings()
    assert str(failure.value).startswith(rf"SIGHTLINE_{name}='a\nb\x1b[31m': ")
    assert str(failure.value).isprintable()


def test_what_kubernetes_says_of_a_service_named_sightline_is_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_PORT", "tcp://10.96.14.7:80")
    monkeypatch.setenv("SIGHTLINE_METRICS_PORT", "tcp://10.96.14.8:8001")
    settings = read_settings()
    assert (settings.port, settings.metrics_port) == (8000, None)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (
            {"MAX_BODY_BYTES": "3000000", "MAX_BODY_MEMORY_BYTES": "5999999"},
            "less than twice SIGHTLINE_MAX_BODY_BYTES=3000000",
        ),
        ({"MAX_BODY_BYTES": "500000000"}, "SIGHTLINE_MAX_BODY_MEMORY_BYTES=256000000 is less than twice"),
        ({"METRICS_HOST": "127.0.0.1"}, "the address of a SIGHTLINE_METRICS_PORT, and none is set"),
    ],
)
def test_settings_that_cannot_be_meant_together(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], complaint: str
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"SIGHTLINE_{name}", value)
    with pytest.raises(SettingsError, match=complaint):
        read_settings()


def test_empty_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `--help` prints those that have no default. But an empty variable must not do away with keys."""
    for name in ("METRICS_PORT", "CLASSIFY_MAX_BATCH_SIZE", "PORT"):
        monkeypatch.setenv(f"SIGHTLINE_{name}", "")
    settings = read_settings()
    assert (settings.metrics_port, settings.classify_max_batch_size, settings.port) == (None, None, 8000)
    monkeypatch.setenv("SIGHTLINE_API_KEYS_FILE", "")
    with pytest.raises(SettingsError, match="SIGHTLINE_API_KEYS_FILE is empty: name a file of keys, or unset it"):
        read_settings()


def test_a_misspelt_setting_is_noticed() -> None:
    names = {"SIGHTLINE_API_KEY_FILE": "SIGHTLINE_API_KEYS_FILE", "SIGHTLINE_API_KEY": "SIGHTLINE_API_KEYS_FILE"}
    names |= {"SIGHTLINE_PORTT": "SIGHTLINE_PORT", "SIGHTLINE_MAX_BODY": "SIGHTLINE_MAX_BODY_BYTES"}
    others = ["SIGHTLINE_SERVICE_HOST", "SIGHTLINE_PORT_80_TCP_ADDR", "SIGHTLINE_TEST_GPU", "SIGHTLINE_DATA", "API_KEY"]
    others += ["SIGHTLINE_METRICS_SERVICE_PORT_HTTP", "SIGHTLINE_METRICS_PORT_8001_TCP"]
    right = [ENV_PREFIX + name.upper() for name in Settings.model_fields]
    assert misspelt([*names, *others, *right]) == names


def test_a_wait_that_outlasts_every_request_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_MAX_WAIT_MS", "10000")
    with pytest.raises(SettingsError, match="SIGHTLINE_MAX_WAIT_MS=10000 is all of SIGHTLINE_REQUEST_TIMEOUT_S=10"):
        read_settings()


def test_a_queue_that_no_full_request_fits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_SEGMENT_MAX_QUEUE_SIZE", "16")
    with pytest.raises(SettingsError, match="SIGHTLINE_SEGMENT_MAX_QUEUE_SIZE=16 could never take"):
        read_settings()
