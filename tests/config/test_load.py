"""Layers, the origin of each value, and what is said about files that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from chappe.config import Loaded, load, loads
from chappe.errors import ConfigError, Exit, Problem

NOTHING = Path("/nonexistent")


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """An empty configuration folder."""
    (tmp_path / "etc" / "conf.d").mkdir(parents=True)
    return tmp_path / "etc"


def problems(text: str, name: str = "text") -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        loads(text, name=name)
    return list(caught.value.problems)


def refused(**layers: object) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        load(**{"etc": NOTHING, "environ": {}, **layers})  # type: ignore[arg-type]
    return list(caught.value.problems)


# ── layers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def layered(etc: Path, count: int) -> Loaded:
    """`mqtt.host` set in the first `count` of the four kinds of layers, to the name of the layer."""
    if count > 0:
        (etc / "chappe.toml").write_text('[mqtt]\nhost = "file"\nport = 1\n')
    if count > 1:
        (etc / "conf.d/10-first.toml").write_text('[mqtt]\nhost = "first"\n')
        (etc / "conf.d/20-second.toml").write_text('\n\n[mqtt]\nhost = "second"\n')
    environ = {"CHAPPE_MQTT__HOST": "environment"} if count > 2 else {}
    return load(etc=etc, environ=environ, overrides=["mqtt.host=command"] if count > 3 else [])


@pytest.mark.feature("OPS-03", breaks="chappe.config.load:_merge_into")
@pytest.mark.parametrize(
    ("count", "value", "place"),
    [
        (0, "127.0.0.1", "default"),
        (1, "file", "{etc}/chappe.toml:2"),
        (2, "second", "{etc}/conf.d/20-second.toml:4"),
        (3, "environment", "environment"),
        (4, "command", "command line"),
    ],
)
def test_the_last_layer_wins_and_is_named(etc: Path, count: int, value: str, place: str) -> None:
    """Defaults, chappe.toml, conf.d in order of name, environment, command line: each beats all before it."""
    loaded = layered(etc, count)
    assert loaded.config.mqtt.host == value
    assert loaded.where("mqtt.host") == place.format(etc=etc)


def test_layers_are_merged_key_by_key(etc: Path) -> None:
    """A later layer that sets one key of a section leaves the others to those before it."""
    loaded = layered(etc, 4)
    assert loaded.config.mqtt.port == 1
    assert loaded.where("mqtt.port") == f"{etc}/chappe.toml:3"
    assert loaded.where("mqtt.keepalive") == "default"


def test_one_file_stands_in_for_the_whole_of_etc(etc: Path, tmp_path: Path) -> None:
    """`--config FILE` is read alone, but environment and command line still lie above it."""
    layered(etc, 2)
    file = tmp_path / "own.toml"
    file.write_text('[device]\nid = "own"\n[mqtt]\nport = 7\n')
    loaded = load(file, etc=etc, environ={"CHAPPE_MQTT__PORT": "8"})
    assert (loaded.config.device.id, loaded.config.mqtt.host, loaded.config.mqtt.port) == ("own", "127.0.0.1", 8)


def test_nothing_at_all_is_a_valid_configuration() -> None:
    """Without any file the built-in defaults hold."""
    loaded = load(etc=NOTHING, environ={})
    assert loaded.config.camera.source == "off"
    assert loaded.origins == {}


def test_other_files_of_the_folder_are_not_read(etc: Path) -> None:
    """An editor's backup in conf.d changes nothing."""
    (etc / "conf.d/10.toml~").write_text("[mqtt]\nport = 7\n")
    assert load(etc=etc, environ={}).config.mqtt.port == 1883


# ── environment and command line ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("broker.example", "mqtt.host", "broker.example"),
        ('"1884"', "mqtt.host", "1884"),
        ("1884", "mqtt.port", 1884),
        ("true", "mqtt.tls", True),
        ('["hall", "roof"]', "device.groups", ("hall", "roof")),
        ("250ms", "mqtt.connect_timeout", 250_000_000),
        ("a = b", "mqtt.username", "a = b"),
    ],
)
def test_values_are_read_as_toml_else_as_text(text: str, path: str, value: object) -> None:
    """In the environment and on the command line alike, and text needs no quotes."""
    section, key = path.split(".")
    by_environment = load(etc=NOTHING, environ={f"CHAPPE_{section.upper()}__{key.upper()}": text})
    by_command = load(etc=NOTHING, environ={}, overrides=[f"{path}={text}"])
    for loaded in (by_environment, by_command):
        assert getattr(getattr(loaded.config, section), key) == value


def test_the_environment_reaches_a_named_section() -> None:
    """CHAPPE_SENSORS__TICK__EVERY sets one key of one sensor."""
    environ = {"CHAPPE_SENSORS__TICK__DRIVER": "simulated", "CHAPPE_SENSORS__TICK__EVERY": "5s"}
    assert load(etc=NOTHING, environ=environ).config.sensors["tick"].every == 5_000_000_000


def test_other_variables_are_no_keys() -> None:
    """The variables that name a file or a folder, and those of other programs, are left alone."""
    environ = {"CHAPPE_CONFIG": "x", "CHAPPE_DATA": "y", "OTHER__KEY": "z", "CHAPPE": "a__b"}
    assert load(etc=NOTHING, environ=environ).origins == {}


def test_a_wrong_variable_is_named_by_its_key() -> None:
    """The environment has no lines, but a key and a suggestion."""
    found = refused(environ={"CHAPPE_MQTT__HOTS": "x"})
    assert [str(one) for one in found] == ["environment: mqtt.hots: unknown key; did you mean host?"]


def test_an_override_without_a_value_is_refused() -> None:
    """`--set mqtt.port` says how to write it."""
    assert refused(overrides=["mqtt.port"]) == [
        Problem("mqtt.port", "syntax", "write it as section.key=value", "command line")
    ]


@pytest.mark.parametrize("pair", [("mqtt.host=a", "mqtt.host.deep=b"), ("mqtt.host.deep=b", "mqtt.host=a")])
def test_a_key_set_both_as_value_and_as_table_is_told(pair: tuple[str, str]) -> None:
    """The later of two that exclude each other counts, as everywhere; here one is good and one is not."""
    if pair[1] == "mqtt.host=a":
        assert load(etc=NOTHING, environ={}, overrides=pair).config.mqtt.host == "a"
    else:
        assert [(one.path, one.code) for one in refused(overrides=pair)] == [("mqtt.host", "type")]


# ── paths ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_relative_paths_are_relative_to_the_file_that_sets_them(
    etc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the daemon is started; what the command line sets is relative to where it is typed."""
    (etc / "chappe.toml").write_text('[camera]\npath = "frames/"\n[mqtt]\npassword_file = "/run/secret"\n')
    (etc / "conf.d/10.toml").write_text('[device]\nstate_dir = "../state"\n')
    monkeypatch.chdir(tmp_path)
    config = load(etc=etc, environ={}, overrides=["models.dir=weights"]).config
    assert config.camera.path == f"{etc}/frames/"
    assert config.mqtt.password_file == "/run/secret"
    assert Path(config.device.state_dir).resolve() == etc / "state"
    assert config.models.dir == str(tmp_path / "weights")


def test_the_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``~/x`` is below HOME; ``~nobody-of-that-name`` is taken for the name of a folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    home = load(etc=NOTHING, environ={}, overrides=["device.state_dir=~/state"])
    assert home.config.device.state_dir == str(tmp_path / "state")
    monkeypatch.chdir(tmp_path)
    other = load(etc=NOTHING, environ={}, overrides=["device.state_dir=~nobody-of-that-name/x"])
    assert other.config.device.state_dir == str(tmp_path / "~nobody-of-that-name/x")


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.feature("OPS-03", breaks="chappe.config.convert:_unknown")
def test_every_error_is_reported_at_once_with_file_line_and_key(etc: Path) -> None:
    """Three errors in two files and one on the command line: four problems, each with its place, the first with a suggestion."""
    (etc / "chappe.toml").write_text('[mqtt]\nhots = "broker"\nport = "1883"\n')
    (etc / "conf.d/10.toml").write_text('# cameras\n\n[camera]\nsource = "picamera"\n')
    found = refused(etc=etc, overrides=["vision.hands=3"])
    assert [(one.file, one.line, one.path, one.code) for one in found] == [
        (f"{etc}/chappe.toml", 2, "mqtt.hots", "unknown_key"),
        (f"{etc}/chappe.toml", 3, "mqtt.port", "type"),
        (f"{etc}/conf.d/10.toml", 4, "camera.source", "range"),
        ("command line", None, "vision.hands", "range"),
    ]
    assert "did you mean host?" in found[0].message
    assert "did you mean 'picamera2'?" in found[2].message


def test_a_configuration_error_ends_with_78_and_a_remedy() -> None:
    """The error carries all problems as text, the exit code of configuration errors, and what to do."""
    with pytest.raises(ConfigError) as caught:
        loads("a = 1\nb = 2")
    assert caught.value.exit_code == Exit.CONFIG == 78
    assert caught.value.message.count("\n") == 1
    assert "all 2" in caught.value.remedy


def test_a_syntax_error_names_its_line_and_hides_no_other_error(etc: Path) -> None:
    """A file that is no TOML is told with its line; the other layers are checked all the same."""
    (etc / "chappe.toml").write_text("[mqtt]\nport = 1\nhost = \n")
    (etc / "conf.d/10.toml").write_text("[mqtt]\nport = 0\n")
    first, second = refused(etc=etc)
    assert (first.file, first.line, first.code) == (f"{etc}/chappe.toml", 3, "syntax")
    assert (second.file, second.line, second.path) == (f"{etc}/conf.d/10.toml", 2, "mqtt.port")


def test_a_syntax_error_in_memory_names_its_line() -> None:
    """So that a document that came over the network is told like a file."""
    assert [(one.file, one.line, one.code) for one in problems("[mqtt]\n\nport", name="desired")] == [
        ("desired", 3, "syntax")
    ]


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path: Path) -> None:
    """A named file must exist (files of /etc need not) and be UTF-8."""
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'[device]\nid = "caf\xe9"\n')
    for file in (tmp_path / "missing.toml", latin, tmp_path):
        (found,) = refused(file=file)
        assert (found.file, found.code) == (str(file), "syntax")
        assert "cannot be read" in found.message


@pytest.mark.parametrize(
    ("key", "named"), [("password", "password_file"), ("token", "token_file"), ("passwrod", "password_file")]
)
@pytest.mark.parametrize("layer", ["file", "environment", "command line"])
def test_a_secret_in_the_configuration_is_refused_and_never_repeated(
    tmp_path: Path, key: str, named: str, layer: str
) -> None:
    """The answer names the key that takes a file, and not the secret."""
    file = tmp_path / "chappe.toml"
    file.write_text(f'[mqtt]\n{key} = "hunter2"\n' if layer == "file" else "")
    environ = {f"CHAPPE_MQTT__{key.upper()}": "hunter2"} if layer == "environment" else {}
    overrides = [f"mqtt.{key}=hunter2"] if layer == "command line" else []
    (found,) = refused(file=file, environ=environ, overrides=overrides)
    assert named in found.message
    assert "hunter2" not in str(found)


def test_a_required_key_is_asked_for_where_its_table_stands() -> None:
    """A sensor without a driver: the line of its header, the key that is missing."""
    (found,) = problems('[mqtt]\nport = 1\n\n[sensors.door]\nevery = "1s"\n')
    assert (found.path, found.code, found.line) == ("sensors.door.driver", "missing", 4)


@pytest.mark.parametrize(
    ("text", "path", "code", "words"),
    [
        ("[mqtt]\nport = true", "mqtt.port", "type", "bool"),
        ("[mqtt]\nport = 0", "mqtt.port", "range", ">= 1 (found 0)"),
        ("mqtt = 5", "mqtt", "type", "found 5"),
        ('[[sensors]]\ndriver = "x"', "sensors", "type", "array"),
        ("[sensors.a]\ndriver = 1", "sensors.a.driver", "type", "found 1"),
        ('[sensors.A]\ndriver = "x"', "sensors.A", "range", "a-z"),
        ('[sensors.a]\ndriver = "x"\nevery = 5', "sensors.a.every", "type", '"250ms"'),
        ('[sensors.a]\ndriver = "x"\nevery = "5 seconds"', "sensors.a.every", "range", '"250ms"'),
        ('[streams.a]\nelide = { policy = "lates" }', "streams.a.elide.policy", "range", "did you mean 'latest'?"),
        ('[streams.a]\nelide = { police = "latest" }', "streams.a.elide.police", "unknown_key", "did you mean policy?"),
        ('[streams.a]\nclass = "lgo"', "streams.a.class", "range", "did you mean 'log'?"),
        ('[signals]\nVictory = 1\nOpen_Palm = "SELL"', "signals.Victory", "type", "found 1"),
        ("[buttons]\nmain = 26\nside = 99", "buttons.side", "range", "found 99"),
        ("[buttons]\nMain = 26", "buttons.Main", "range", "a-z"),
        ('[device]\nid = "Tower One"', "device.id", "range", "Tower One"),
        ("[camera]\nrate_hz = nan", "camera.rate_hz", "range", "found nan"),
    ],
)
def test_what_is_wrong_is_told_at_the_key_itself(text: str, path: str, code: str, words: str) -> None:
    """Wrong types, ranges, names and words, in sections, in named sections and in plain tables."""
    (found,) = problems(text)
    lines = text.splitlines()
    assert (found.path, found.code) == (path, code)
    assert words in found.message
    name = path.rpartition(".")[2]
    assert found.line is not None
    assert name in lines[found.line - 1]
