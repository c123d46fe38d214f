"""The environment, read once; each error names its variable."""

import base64
from datetime import datetime, timezone
from pathlib import Path

import pytest

from vector_backup_pipeline.parameters.table_names import split_tables
from vector_backup_pipeline.settings import SettingsError, load_settings
from vector_backup_pipeline_tests.faults.watching import all_that_it_tells
from vector_backup_pipeline_tests.fix_backup import LANGCHAIN


def test_an_empty_environment_gives_defaults_that_work() -> None:
    settings = load_settings({})

    assert settings.root == "data_pipeline/training_data"
    assert settings.directory == "vector_bak"
    assert settings.tables == LANGCHAIN
    assert settings.truncate_tables == ("langchain_pg_embedding",)
    assert settings.timezone == "UTC"
    assert settings.cron == "0 2 * * *"
    assert settings.part_size is None
    assert settings.lock_timeout == 30
    assert not (settings.schedule_enabled or settings.sensor_enabled or settings.sensor_backfill)
    moment = datetime(2025, 7, 21, 23, 49, 14, tzinfo=timezone.utc)
    assert settings.timestamps.stamp(moment) == "20250721_234914"


def test_every_variable_is_read() -> None:
    settings = load_settings(
        {
            "VECTOR_BACKUP_ROOT": "/backups",
            "VECTOR_BACKUP_DIRECTORY": "bak",
            "VECTOR_BACKUP_TABLES": ' docs , app.images,"a,b"',
            "VECTOR_BACKUP_TRUNCATE_TABLES": "docs",
            "VECTOR_BACKUP_TIMESTAMP_FORMAT": "%Y-%m-%dT%H%M%S",
            "VECTOR_BACKUP_TIMEZONE": "Asia/Shanghai",
            "VECTOR_BACKUP_CRON": "0 3 * * *",
            "VECTOR_BACKUP_SCHEDULE_ENABLED": "TRUE",
            "VECTOR_BACKUP_SENSOR_ENABLED": "1",
            "VECTOR_BACKUP_SENSOR_BACKFILL": "yes",
            "VECTOR_BACKUP_LOCK_TIMEOUT": "2.5",
        }
    )

    assert (settings.root, settings.directory) == ("/backups", "bak")
    assert settings.tables == ("docs", "app.images", '"a,b"')
    assert settings.truncate_tables == ("docs",)
    moment = datetime(2025, 7, 21, 23, 49, 14, tzinfo=timezone.utc)
    assert settings.timestamps.stamp(moment) == "2025-07-22T074914"
    assert settings.cron == "0 3 * * *"
    assert settings.schedule_enabled
    assert settings.sensor_enabled
    assert settings.sensor_backfill
    assert settings.lock_timeout == 2.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ROOT", "ftp://server/prefix"),
        ("ROOT", "s3://"),
        ("ROOT", "s3://key:secret@bucket/prefix"),
        ("PART_SIZE", "4"),
        ("PART_SIZE", "6000"),
        ("PART_SIZE", "8.5"),
        ("DIRECTORY", "../elsewhere"),
        ("DIRECTORY", "a/b"),
        ("DIRECTORY", ".."),
        ("TABLES", "a,a"),
        ("TABLES", ","),
        ("TRUNCATE_TABLES", "a."),
        ("TIMESTAMP_FORMAT", "%d%m%Y_%H%M%S"),
        ("TIMESTAMP_FORMAT", "%Y%m%d"),
        ("TIMESTAMP_FORMAT", "%Y/%m/%d %H:%M:%S"),
        ("TIMEZONE", "Mars/Olympus"),
        ("SCHEDULE_ENABLED", "perhaps"),
        ("SENSOR_ENABLED", "2"),
        ("SENSOR_BACKFILL", "maybe"),
        ("LOCK_TIMEOUT", "soon"),
        ("LOCK_TIMEOUT", "0"),
        ("LOCK_TIMEOUT", "-1"),
        ("LOCK_TIMEOUT", "nan"),
        ("LOCK_TIMEOUT", "inf"),
    ],
)
def test_a_value_that_makes_no_sense_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^VECTOR_BACKUP_{name}: .*[^.]\\.$") as raised:
        load_settings({f"VECTOR_BACKUP_{name}": value})
    assert raised.value.error_type == "INVALID_PARAMS"
    assert "secret" not in str(raised.value)
    assert raised.value.__context__ is None


@pytest.mark.parametrize("root", ["s3://bucket/prefix", "gs://bucket", "az://container/a/b"])
def test_a_root_may_be_a_url_of_object_storage(root: str) -> None:
    settings = load_settings({"VECTOR_BACKUP_ROOT": root, "VECTOR_BACKUP_PART_SIZE": "64"})
    assert (settings.root, settings.part_bytes) == (root, 64 << 20)


def test_a_blank_variable_counts_as_unset() -> None:
    blank = {
        f"VECTOR_BACKUP_{name}": "  "
        for name in ("ROOT", "TABLES", "TIMEZONE", "CRON", "LOCK_TIMEOUT", "SENSOR_ENABLED")
    }
    assert load_settings(blank) == load_settings({})


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("a", ("a",)),
        ("a, b ,", ("a", "b")),
        ('"x,y",app."p.q"', ('"x,y"', 'app."p.q"')),
        ('"say ""a,b""",c', ('"say ""a,b"""', "c")),
        ("", ()),
    ],
)
def test_a_list_of_tables_is_split_at_commas_outside_of_quotes(
    text: str, tables: tuple[str, ...]
) -> None:
    assert split_tables(text) == tables


def test_retention_is_read_rule_by_rule_and_off_by_default() -> None:
    assert not load_settings({}).keep
    assert not load_settings({}).prune_after_backup
    settings = load_settings(
        {
            "VECTOR_BACKUP_KEEP_LAST": "3",
            "VECTOR_BACKUP_KEEP_DAILY": "7",
            "VECTOR_BACKUP_KEEP_WEEKLY": "5",
            "VECTOR_BACKUP_KEEP_MONTHLY": "12",
            "VECTOR_BACKUP_KEEP_YEARLY": "2",
            "VECTOR_BACKUP_KEEP_WITHIN": "1y6m",
            "VECTOR_BACKUP_PRUNE_AFTER_BACKUP": "true",
        }
    )
    assert settings.prune_after_backup
    assert str(settings.keep) == (
        "keep_last 3, keep_daily 7, keep_weekly 5, keep_monthly 12, keep_yearly 2, keep_within 1y6m"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEEP_LAST", "-1"),
        ("KEEP_DAILY", "1.5"),
        ("KEEP_WEEKLY", "all"),
        ("KEEP_YEARLY", "9999999"),
        ("KEEP_WITHIN", "two weeks"),
        ("PRUNE_SCHEDULE_ENABLED", "perhaps"),
        ("PRUNE_AFTER_BACKUP", "perhaps"),
    ],
)
def test_a_retention_setting_that_makes_no_sense_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"^VECTOR_BACKUP_{name}: "):
        load_settings({f"VECTOR_BACKUP_{name}": value})


def test_a_prune_after_each_backup_needs_a_rule() -> None:
    with pytest.raises(SettingsError, match=r"^VECTOR_BACKUP_PRUNE_AFTER_BACKUP: .*KEEP_LAST"):
        load_settings({"VECTOR_BACKUP_PRUNE_AFTER_BACKUP": "true", "VECTOR_BACKUP_KEEP_LAST": "0"})


def test_the_apis_settings_have_defaults_that_ask_for_nothing() -> None:
    settings = load_settings({})

    assert settings.dagster_url == "http://127.0.0.1:3000"
    assert settings.dagster_location is None
    assert settings.api_token is None
    assert settings.secret_key is None


def test_the_apis_settings_are_read_and_show_no_secret() -> None:
    # Its base64 has a character of each alphabet's own two.
    key = b"\xfb\xef\xff" * 10 + b"\xfb\xef"
    settings = load_settings(
        {
            "VECTOR_BACKUP_DAGSTER_URL": " https://u:hunter2@dagster.example.com:8443/prefix/ ",
            "VECTOR_BACKUP_DAGSTER_LOCATION": "backups",
            "VECTOR_BACKUP_API_TOKEN": " to-ken~!\u0022 ",
            "VECTOR_BACKUP_SECRET_KEY": base64.b64encode(key).decode(),
            "VECTOR_BACKUP_MANIFEST_KEY": " any text ",
        }
    )

    assert settings.dagster_url == "https://u:hunter2@dagster.example.com:8443/prefix"
    assert settings.dagster_location == "backups"
    assert settings.api_token is not None
    assert settings.api_token.reveal() == 'to-ken~!"'
    assert settings.secret_key is not None
    assert settings.secret_key.reveal() == base64.urlsafe_b64encode(key).decode()
    assert settings.manifest_key is not None
    assert settings.manifest_key.reveal() == "any text"
    shown = repr(settings)
    assert not any(
        secret in shown
        for secret in ("hunter2", "to-ken", settings.secret_key.reveal(), "any text")
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DAGSTER_URL", "u:hunter2@dagster:3000"),
        ("DAGSTER_URL", "ftp://u:hunter2@dagster"),
        ("DAGSTER_URL", "http://u:hunter2@"),
        ("DAGSTER_URL", "http://u:hunter2@dagster:port"),
        ("DAGSTER_URL", "http://u:hunter2@dagster:99999"),
        ("DAGSTER_URL", "http://u:hunter2@dagster:0"),
        ("DAGSTER_URL", "http://u:hunter2@dagster/?a=b"),
        ("DAGSTER_URL", "http://u:hunter2@dagster/#a"),
        ("DAGSTER_URL", "http://u:hunter2@[::1/"),
        ("DAGSTER_URL", "http://u:hunter2@dag ster/"),
        ("DAGSTER_URL", "http://u:hunter2@dagster\x7f/"),
        ("API_TOKEN", "hunter2 and more"),
        ("API_TOKEN", "hunter2\nx"),
        ("API_TOKEN", "hunter2\u00e4"),
        ("SECRET_KEY", "hunter2"),
        ("SECRET_KEY", base64.b64encode(b"hunter2" * 4).decode()),
        ("SECRET_KEY", base64.b64encode(b"h" * 33).decode()),
        ("SECRET_KEY", base64.b64encode(b"h" * 32).decode().rstrip("=")),
        ("SECRET_KEY", "=" + base64.b64encode(b"h" * 32).decode()),
        ("SECRET_KEY", "h\u00e4" * 22),
    ],
)
def test_a_setting_of_the_api_that_makes_no_sense_is_not_repeated(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^VECTOR_BACKUP_{name}: .*[^.]\\.$") as refusal:
        load_settings({f"VECTOR_BACKUP_{name}": value})
    told = all_that_it_tells(refusal.value)
    assert "hunter2" not in told
    assert value not in told


def test_blank_settings_of_the_api_count_as_unset() -> None:
    names = ("DAGSTER_URL", "DAGSTER_LOCATION", "API_TOKEN", "SECRET_KEY", "MANIFEST_KEY")
    assert load_settings({f"VECTOR_BACKUP_{name}": " " for name in names}) == load_settings({})


def test_the_environment_precedes_dotenv_files_and_those_the_yaml_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    config = tmp_path / "backup.yaml"
    config.write_text("root: /yaml\ntables: [docs, 'a,b']\ntimezone: Asia/Tokyo\nkeep_last: 3\n")
    (home / ".env").write_text("VECTOR_BACKUP_ROOT=/home\nVECTOR_BACKUP_DIRECTORY=home\n")
    (here / ".env").write_text(
        "VECTOR_BACKUP_ROOT=/here\nOTHER=1\nVECTOR_BACKUP_CRON='0 1 * * *'\n"
    )
    monkeypatch.setenv("VECTOR_BACKUP_CONFIG", str(config))
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("VECTOR_BACKUP_CRON", "0 5 * * *")
    monkeypatch.chdir(here)

    settings = load_settings()

    assert (settings.cron, settings.root, settings.directory) == ("0 5 * * *", "/here", "home")
    assert (settings.timezone, settings.keep_last) == ("Asia/Tokyo", 3)
    assert settings.tables == ("docs", "a,b")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot read"),
        ("a: [", "is not valid YAML"),
        ("- a", "must hold keys and values"),
        ("tabels: [a]\nroot: /x", "unknown keys: tabels"),
    ],
)
def test_a_yaml_file_that_can_not_be_used_is_refused(
    text: str | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "backup.yaml"
    if text is not None:
        config.write_text(text)
    monkeypatch.setenv("VECTOR_BACKUP_CONFIG", str(config))

    with pytest.raises(SettingsError, match=f"^VECTOR_BACKUP_CONFIG: .*{reason}"):
        load_settings()
