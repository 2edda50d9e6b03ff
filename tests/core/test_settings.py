from pathlib import Path

import pytest

from harbourmaster.core.errors import ConfigError
from harbourmaster.core.settings import Settings


def test_the_environment_wins_over_config_toml_which_wins_over_the_defaults(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Settings.load().gateway_port == 8811
    home.mkdir()
    (home / "config.toml").write_text("gateway_port = 9001\nbuild_jobs = 3\n")
    assert Settings.load().gateway_port == 9001
    monkeypatch.setenv("HM_GATEWAY_PORT", "9002")
    assert (Settings.load().gateway_port, Settings.load().build_jobs) == (9002, 3)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("gateway_port = 70000", "gateway_port"),
        ("gateway_prot = 9001", "gateway_prot"),
        ("gateway_port = ", "config.toml"),
    ],
)
def test_a_wrong_setting_names_itself_and_what_to_do(home: Path, text: str, names: str) -> None:
    home.mkdir()
    (home / "config.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        Settings.load()
    assert names in caught.value.message
    assert caught.value.remedy


def test_reading_settings_creates_nothing(home: Path) -> None:
    settings = Settings.load()
    assert settings.oci_dir == home / "oci"
    assert not home.exists()


def test_a_setting_that_does_not_exist_is_named_with_its_file(home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("nosuch = 1\n")
    with pytest.raises(ConfigError, match="no setting nosuch") as e:
        Settings.load()
    assert str(home / "config.toml") in e.value.remedy


def test_a_log_level_that_does_not_exist_is_refused_and_capitals_are_not(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HM_LOG_LEVEL", "DEBUG")
    assert Settings.load().log_level == "debug"
    monkeypatch.setenv("HM_LOG_LEVEL", "loud")
    with pytest.raises(ConfigError, match="log_level"):
        Settings.load()
