"""Settings from the environment, `.env` files and YAML; each error names its variable."""

import base64
from datetime import datetime, timezone
from pathlib import Path

import pytest
from pyrage import x25519

from vector_backup_pipeline.settings import SettingsError, load_settings
from vector_backup_pipeline_tests.faults.watching import all_that_it_tells
from vector_backup_pipeline_tests.fix_backup import LANGCHAIN

KEY = b"\xfb\xef\xff" * 10 + b"\xfb\xef"  # Its base64 differs between the two alphabets.
MOMENT = datetime(2025, 7, 21, 23, 49, 14, tzinfo=timezone.utc)


def set_environment(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"VECTOR_BACKUP_{name}", value)


def test_every_setting_has_a_default_that_works() -> None:
    settings = load_settings()

    assert (settings.root, settings.directory) == ("data_pipeline/training_data", "vector_bak")
    assert settings.tables == LANGCHAIN
    assert settings.truncate_tables == ("langchain_pg_embedding",)
    assert (settings.timezone, settings.lock_timeout) == ("UTC", 30)
    assert (settings.cron, settings.verify_cron) == ("0 2 * * *", "0 4 * * 0")
    assert (settings.prune_cron, bool(settings.keep_rules)) == ("30 4 * * *", False)
    assert settings.dagster_url == "http://127.0.0.1:3000"
    assert settings.timestamps.stamp(MOMENT) == "20250721_234914"
    unset = ("part_size", "dagster_location", "api_token", "secret_key", "manifest_key", "db_url")
    assert [getattr(settings, name) for name in unset] == [None] * len(unset)
    switches = ("schedule", "verify_schedule", "prune_schedule", "sensor", "requests")
    assert not any(getattr(settings, f"{name}_enabled") for name in switches)
    assert not (settings.sensor_backfill or settings.prune_after_backup)


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    set_environment(
        monkeypatch,
        ROOT="s3://bucket/prefix",
        PART_SIZE="64",
        TABLES=' docs , app.images,"a,b"',
        TIMESTAMP_FORMAT="%Y-%m-%dT%H%M%S",
        TIMEZONE="Asia/Shanghai",
        SCHEDULE_ENABLED="TRUE",
        SENSOR_ENABLED="1",
        SENSOR_BACKFILL="yes",
        LOCK_TIMEOUT="2.5",
        KEEP_LAST="3",
        KEEP_WITHIN="1y6m",
    )

    settings = load_settings()

    assert settings.root == "s3://bucket/prefix"
    assert (settings.part_size, settings.lock_timeout) == (64, 2.5)
    assert settings.tables == ("docs", "app.images", '"a,b"')
    directory = load_settings(root=str(tmp_path)).open_root().open(None)
    assert directory.timestamps.stamp(MOMENT) == "2025-07-22T074914"
    assert settings.schedule_enabled and settings.sensor_enabled and settings.sensor_backfill
    assert str(settings.keep_rules) == "keep_last 3, keep_within 1y6m"


def test_secrets_are_read_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(
        monkeypatch,
        DAGSTER_URL=" https://u:hunter2@dagster.example.com:8443/prefix/ ",
        API_TOKEN=' to-ken~!" ',
        SECRET_KEY=base64.b64encode(KEY).decode(),
        MANIFEST_KEY=" any text ",
    )

    settings = load_settings()

    assert settings.dagster_url == "https://u:hunter2@dagster.example.com:8443/prefix"
    assert settings.api_token and settings.secret_key and settings.manifest_key
    assert settings.api_token.reveal() == 'to-ken~!"'
    assert settings.secret_key.reveal() == base64.urlsafe_b64encode(KEY).decode()
    assert settings.manifest_key.reveal() == "any text"
    secrets = ("hunter2", "to-ken", settings.secret_key.reveal(), "any text")
    assert not any(secret in repr(settings) for secret in secrets)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ROOT", "ftp://server/prefix"),
        ("ROOT", "s3://"),
        ("ROOT", "s3://key:hunter2@bucket/prefix"),
        ("PART_SIZE", "4"),
        ("PART_SIZE", "8.5"),
        ("DIRECTORY", "../elsewhere"),
        ("DIRECTORY", ".."),
        ("TABLES", "a,a"),
        ("TABLES", ","),
        ("TRUNCATE_TABLES", "a."),
        ("TIMESTAMP_FORMAT", "%d%m%Y_%H%M%S"),
        ("TIMESTAMP_FORMAT", "%Y%m%d"),
        ("TIMESTAMP_FORMAT", "%Y/%m/%d %H:%M:%S"),
        *(("TIMEZONE", zone) for zone in ("Mars/Olympus", "Asia", "../etc/passwd", "+8")),
        ("SCHEDULE_ENABLED", "perhaps"),
        ("LOCK_TIMEOUT", "soon"),
        ("LOCK_TIMEOUT", "0"),
        ("LOCK_TIMEOUT", "nan"),
        ("KEEP_LAST", "-1"),
        ("KEEP_DAILY", "1.5"),
        ("KEEP_YEARLY", "9999999"),
        ("KEEP_WITHIN", "two weeks"),
        ("DAGSTER_URL", "u:hunter2@dagster:3000"),
        ("DAGSTER_URL", "ftp://u:hunter2@dagster"),
        ("DAGSTER_URL", "http://u:hunter2@"),
        ("DAGSTER_URL", "http://u:hunter2@dagster:port"),
        ("DAGSTER_URL", "http://u:hunter2@dagster/?a=b"),
        ("DAGSTER_URL", "http://u:hunter2@[::1/"),
        ("DAGSTER_URL", "http://u:hunter2@dag ster/"),
        ("API_TOKEN", "hunter2 and more"),
        ("API_TOKEN", "hunter2\u00e4"),
        ("SECRET_KEY", "hunter2"),
        ("SECRET_KEY", base64.b64encode(b"h" * 33).decode()),
        ("SECRET_KEY", base64.b64encode(b"h" * 32).decode().rstrip("=")),
        ("SECRET_KEY", "h\u00e4" * 22),
        ("ENCRYPT_TO", "age1hunter2"),
        ("ENCRYPT_TO", "/hunter2"),
        ("ENCRYPT_TO", "/dev/null"),
        ("ENCRYPT_TO", "ssh-ed25519 hunter2"),
        ("IDENTITY_FILE", "AGE-SECRET-KEY-1hunter2"),
        ("IDENTITY_FILE", "/dev/null"),
        ("IDENTITY_FILE", __file__),
        ("ALERT_URLS", "json://a/hunter2, hunter2"),
        ("HEARTBEAT_URL", "http:hunter2"),
    ],
)
def test_an_invalid_value_names_its_variable_and_no_secret(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, **{name: value})

    with pytest.raises(SettingsError, match=f"^VECTOR_BACKUP_{name}: .*[^.]\\.$") as raised:
        load_settings()

    assert raised.value.error_type == "INVALID_PARAMS"
    text = all_that_it_tells(raised.value)
    assert "hunter2" not in text
    assert name != "SECRET_KEY" or value not in text


def test_recipients_are_a_list_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = x25519.Identity.generate()
    recipient = str(own.to_public())
    ssh = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAG7OoVKddRg+Guac4G87+IdAPxEoh2h1JxZZPiUOut3 me@host"
    listed = tmp_path / "recipients.txt"
    listed.write_text(f"# ours\n{recipient}\n\n{ssh}\n")
    (tmp_path / "identity.txt").write_text(f"# of {recipient}\n{own}\n")

    for value in (f"{recipient}, {ssh}", str(listed)):
        set_environment(monkeypatch, ENCRYPT_TO=value, IDENTITY_FILE=str(tmp_path / "identity.txt"))
        settings = load_settings(root=str(tmp_path))
        assert settings.encryption.recipients == (recipient, ssh)
        assert settings.open_root().open(None).encryption == settings.encryption
        assert str(own) not in repr(settings)


def test_a_blank_value_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("CONFIG", "ROOT", "TABLES", "LOCK_TIMEOUT", "API_TOKEN", "SECRET_KEY")
    defaults = load_settings()
    set_environment(monkeypatch, **dict.fromkeys(names, "  "))
    assert load_settings() == defaults


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
        f"VECTOR_BACKUP_ROOT=/here\nOTHER=1\nVECTOR_BACKUP_CRON='0 1 * * *'\n"
        f"VECTOR_BACKUP_CONFIG={config}\n"
    )
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("VECTOR_BACKUP_CRON", "0 5 * * *")
    monkeypatch.chdir(here)

    settings = load_settings()

    assert (settings.cron, settings.root, settings.directory) == ("0 5 * * *", "/here", "home")
    assert (settings.timezone, settings.keep_last) == ("Asia/Tokyo", 3)
    assert settings.tables == ("docs", "a,b")


def test_secrets_are_read_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted, credentials = tmp_path / "mounted", tmp_path / "credentials"
    mounted.mkdir()
    credentials.mkdir()
    (mounted / "vector_backup_db_url").write_text("postgresql://mounted\n")
    (mounted / "VECTOR_BACKUP_API_TOKEN").write_text("mounted\n")
    (mounted / "vector_backup_manifest_key").write_text("mounted\n")
    (mounted / "vector_backup_alert_urls").touch()
    (credentials / "vector_backup_db_url").write_text("postgresql://systemd\n")
    (credentials / "rag_1_url").write_text("postgresql://rag_1\n")
    config, targets = tmp_path / "backup.yaml", tmp_path / "fleet.yaml"
    config.write_text("api_token: from yaml\nroot: /yaml\n")
    targets.write_text("rag-1: {connection: RAG_1_URL}\n")
    monkeypatch.setattr("vector_backup_pipeline.settings._MOUNTED_SECRETS", str(mounted))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    variables = {"MANIFEST_KEY": "environment", "CONFIG": str(config), "TARGETS": str(targets)}
    set_environment(monkeypatch, **variables)

    settings = load_settings()

    assert settings.db_url and settings.api_token and settings.manifest_key
    assert settings.db_url.reveal() == "postgresql://systemd"
    assert settings.api_token.reveal() == "mounted"
    assert settings.manifest_key.reveal() == "environment"
    assert (settings.alert_urls, settings.root) == (None, "/yaml")
    target = settings.for_target("rag-1")
    assert target.db_url and target.db_url.reveal() == "postgresql://rag_1"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot read"),
        ("a: [", "is not YAML with keys and values"),
        ("- a", "is not YAML with keys and values"),
        ("tabels: [a]\nroot: /x", "unknown keys: tabels"),
    ],
)
def test_an_unusable_yaml_file_is_refused(
    text: str | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "backup.yaml"
    if text is not None:
        config.write_text(text)
    monkeypatch.setenv("VECTOR_BACKUP_CONFIG", str(config))

    with pytest.raises(SettingsError, match=f"^VECTOR_BACKUP_CONFIG: .*{reason}"):
        load_settings()
