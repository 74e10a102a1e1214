"""Variables: settings, what others set, and what nobody reads."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation import cli
from moderation.config import ServeConfig, TuneConfig
from moderation.errors import ConfigError
from moderation.flags import merge, warn_of_variables
from moderation.options import flatten, settings_of
from moderation.variables import OTHERS, PREFIX, sort_variables

ROOT = Path(__file__).parents[1]
SETTINGS = list(settings_of(ServeConfig))

KUBERNETES = {
    "MODERATION_SERVICE_HOST": "10.0.0.1",
    "MODERATION_SERVICE_PORT": "8000",
    "MODERATION_SERVICE_PORT_HTTP": "8000",
    "MODERATION_PORT": "tcp://10.0.0.1:8000",
    "MODERATION_PORT_8000_TCP": "tcp://10.0.0.1:8000",
    "MODERATION_PORT_8000_TCP_PROTO": "tcp",
    "MODERATION_PORT_8000_TCP_PORT": "8000",
    "MODERATION_PORT_8000_TCP_ADDR": "10.0.0.1",
    "MODERATION_FEEDBACK_DB_SERVICE_HOST": "10.0.0.2",
    "MODERATION_FEEDBACK_DB_PORT": "tcp://[fd00::2]:5432",
    "MODERATION_FEEDBACK_DB_PORT_5432_TCP_ADDR": "fd00::2",
    "MODERATION_DNS_PORT_53_UDP": "udp://10.0.0.3:53",
}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MODERATION_RATELIMIT", "MODERATION_RATE_LIMIT"),
        ("MODERATION_KEY", "MODERATION_KEYS"),
        ("MODERATION_API_KEYS", "MODERATION_KEYS"),
        ("MODERATION_PORTS", "MODERATION_PORT"),
        ("MODERATION_MAX_TEXT", "MODERATION_MAX_TEXTS"),
        ("MODERATION_FEEDBACK", None),
        ("MODERATION_LOGLEVEL", "MODERATION_LOG_LEVEL"),
        ("MODERATION_CACHE_DIR", "MODERATION_CACHE"),
        ("MODERATION_Port", "MODERATION_PORT"),
        ("MODERATION_COLOUR_OF_THE_SKY", None),
        ("MODERATION_", None),
    ],
)
def test_a_variable_that_is_not_a_setting_is_refused_with_a_suggestion(name: str, meant: str | None) -> None:
    with pytest.raises(ConfigError) as refused:
        merge(ServeConfig, {}, {name: "secret value", "MODERATION_HOST": "::1"})
    assert f"{name}: no such setting." in str(refused.value)
    assert "secret value" not in str(refused.value)
    if meant:
        assert f"Did you mean {meant}?" in str(refused.value)


def test_all_wrong_variables_come_in_one_message() -> None:
    wrong = {
        "MODERATION_PORT": "many",
        "MODERATION_AUTHS": "1",
        "MODERATION_BACKEND": "fastest",
        "MODERATION_AUTH": "?",
    }
    with pytest.raises(ConfigError) as refused:
        merge(ServeConfig, {}, wrong)
    for part in ("MODERATION_PORT: expected int", "MODERATION_AUTHS: no such", "MODERATION_BACKEND: expected auto |"):
        assert part in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1 + len(wrong)


def test_kubernetes_variables_of_a_service_with_this_name_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    assert merge(ServeConfig, {}, KUBERNETES) == ServeConfig()
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("MODERATION_PORT contains the address of a service")
    assert "--port" in line
    assert "enableServiceLinks: false" in line
    assert merge(ServeConfig, {"port": 9000}, KUBERNETES).port == 9000


def test_a_docker_link_with_that_name_is_ignored() -> None:
    link = {
        "MODERATION_PORT": "tcp://172.17.0.2:8000",
        "MODERATION_NAME": "/web/moderation",
        "MODERATION_ENV_PATH": "x",
    }
    assert merge(ServeConfig, {}, link) == ServeConfig()
    with pytest.raises(ConfigError, match="MODERATION_NAME"):
        merge(ServeConfig, {}, {"MODERATION_NAME": "/web/moderation"})


@pytest.mark.parametrize(
    ("variable", "value", "setting", "expected"),
    [
        ("MODERATION_PORT", " 9000\r", "port", 9000),
        ("MODERATION_TIMEOUT_S", "12", "timeout_s", 12.0),
        ("MODERATION_AUTH", "Off", "auth", False),
        ("MODERATION_AUTH", "on", "auth", True),
        (
            "MODERATION_CORS",
            "https://a.example ,https://b.example,",
            "cors",
            ("https://a.example", "https://b.example"),
        ),
        ("MODERATION_CORS", "", "cors", ()),
        ("MODERATION_KEYS", "keys.json", "keys", Path("keys.json")),
        ("MODERATION_LOG_LEVEL", "debug", "log_level", "debug"),
        ("MODERATION_HOST", "", "host", "127.0.0.1"),
        ("MODERATION_BACKEND", "", "backend", "auto"),
        ("MODERATION_RATE_LIMIT", "", "rate_limit", None),
        ("MODERATION_THREADS", "", "threads", None),
        ("MODERATION_FEEDBACK_URL", "", "feedback_url", ""),
    ],
)
def test_a_value_of_every_kind_is_read(variable: str, value: str, setting: str, expected: object) -> None:
    assert flatten(merge(ServeConfig, {}, {variable: value}))[setting] == expected


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MODERATION_PORT", "8000.5"),
        ("MODERATION_PORT", "http"),
        ("MODERATION_TIMEOUT_S", "30s"),
        ("MODERATION_AUTH", "maybe"),
        ("MODERATION_LOG_LEVEL", "loud"),
        ("MODERATION_TIMEOUT_S", "nan"),
        ("MODERATION_WORKERS", "0"),
    ],
)
def test_an_impossible_value_is_refused_by_name(variable: str, value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        merge(ServeConfig, {}, {variable: value})
    flag = "--" + variable.removeprefix(PREFIX).lower().replace("_", "-")
    assert variable in str(refused.value) or flag in str(refused.value)


@given(st.text(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789")), st.text(max_size=9))
def test_every_variable_of_the_prefix_is_read_named_or_known(suffix: str, value: str) -> None:
    found = sort_variables({PREFIX + suffix: value, "PATH": "/bin", "XMODERATION_PORT": "1"}, SETTINGS)
    is_setting = suffix.lower() in SETTINGS
    assert is_setting == (suffix.lower() in found.settings) or suffix.lower() in found.linked
    assert found.settings.keys() <= {suffix.lower()}
    assert found.unknown.keys() <= {PREFIX + suffix}


def test_a_verb_that_reads_no_variables_reports_what_it_ignores(caplog: pytest.LogCaptureFixture) -> None:
    environment = {
        "MODERATION_SEED": "1",
        "MODERATION_PORT": "8000",
        "MODERATION_CACHE": "x",
        "MODERATION_CONFIG": "serve.toml",
        "MODERATION_CASHE": "x",
        **KUBERNETES,
    }
    warn_of_variables(TuneConfig, environment, {"serve": ServeConfig})
    assert [record.getMessage() for record in caplog.records] == [
        "MODERATION_CONFIG is only read by moderation serve; use --config here.",
        "MODERATION_CASHE is set, but nothing reads it. Did you mean MODERATION_CACHE?",
        "MODERATION_SEED is set, but nothing reads it.",
    ]


def test_a_variable_for_threads_is_reported_as_the_servers(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MODERATION_THREADS", "1")
    assert cli.main(["verify", str(tmp_path / "none")]) == 1
    assert "MODERATION_THREADS is only read by moderation serve; use --threads here." in caplog.messages


def test_every_variable_that_this_project_names_is_a_setting_or_known() -> None:
    """Or the server would refuse what a document tells to set."""
    files = [ROOT / "README.md", ROOT / "Dockerfile", ROOT / "compose.yaml", ROOT / "CONTRIBUTING.md"]
    files += [path for folder in ("moderation", "docs", "tests", "examples") for path in (ROOT / folder).rglob("*.*")]
    wrong = {"variables.py", "test_variables.py", "test_perspective_clients.py"}  # of clients, or wrong by intention
    words: set[str] = set()
    for path in files:
        if path.suffix in (".py", ".md", ".yaml", "") and path.name not in wrong:
            words |= set(re.findall(r"\bMODERATION_([A-Z][A-Z_]*[A-Z])\b", path.read_text(encoding="utf-8")))
    assert words <= {name.upper() for name in SETTINGS} | {*OTHERS}
