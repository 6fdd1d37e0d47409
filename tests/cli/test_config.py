"""`chappe config show | validate | schema`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chappe import cli
from chappe.config import load as read


@pytest.fixture
def layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of /etc/chappe with two files, and an environment above it."""
    folder = tmp_path / "etc"
    (folder / "conf.d").mkdir(parents=True)
    (folder / "chappe.toml").write_text('[device]\nid = "tower-1"\n[mqtt]\nhost = "a"\nport = 1\nprefix = "p"\n')
    (folder / "conf.d/10.toml").write_text('[mqtt]\nhost = "b"\nport = 2\n')
    monkeypatch.setenv("CHAPPE_MQTT__HOST", "c")
    monkeypatch.setattr("chappe.config.load", lambda file, overrides: read(file, etc=folder, overrides=overrides))
    return folder


@pytest.mark.feature("OPS-03", breaks="chappe.config.load:Loaded.where")
def test_show_says_which_layer_set_each_value(chappe: Any, layers: Path) -> None:
    """Four layers and the defaults: for each value the last that set it, files with their line."""
    told = chappe("config", "show", "--origin", "--json", "--set", "vision.hands=2").json
    assert told["mqtt.prefix"] == {"value": "p", "origin": f"{layers}/chappe.toml:6"}
    assert told["mqtt.port"] == {"value": 2, "origin": f"{layers}/conf.d/10.toml:3"}
    assert told["mqtt.host"] == {"value": "c", "origin": "environment"}
    assert told["vision.hands"] == {"value": 2, "origin": "command line"}
    assert told["mqtt.keepalive"] == {"value": "20s", "origin": "default"}


def test_show_prints_values_as_they_are_written(chappe: Any, layers: Path) -> None:
    """Plain: a line for each value, durations as text, with --origin its layer behind it."""
    lines = chappe("config", "show").out.splitlines()
    assert 'mqtt.host = "c"' in lines
    assert 'mqtt.keepalive = "20s"' in lines
    lines = chappe("config", "show", "--origin").out.splitlines()
    assert 'mqtt.host = "c"  # environment' in lines
    assert f'device.id = "tower-1"  # {layers}/chappe.toml:2' in lines


def test_what_show_prints_can_be_read_again(chappe: Any, configure: Any, tmp_path: Path) -> None:
    """Without --origin the lines are a TOML document of the same configuration."""
    text = '[sensors.tick]\ndriver = "simulated"\n[streams.tick]\nclass = "latest"\n[camera]\nhold = "1s"\n'
    file = configure(text + 'elide = { policy = "latest", every = "1s" }\n'.replace("elide", "# elide"))
    copy = tmp_path / "copy.toml"
    copy.write_text(chappe("config", "show", "--config", file).out)
    assert read(copy, environ={}).config == read(file, environ={}).config


def test_show_with_json_is_the_whole_configuration(chappe: Any, configure: Any) -> None:
    """Nested as in the file, unset keys as null."""
    told = chappe("config", "show", "--json", "--config", configure("")).json
    assert told["device"]["id"] == "tower-1"
    assert told["camera"]["hold"] is None


@pytest.mark.feature("OPS-03", breaks="chappe.config.convert:convert")
def test_validate_tells_every_error_at_once(chappe: Any, configure: Any) -> None:
    """Three errors: exit 78, each with file, line and key, and "did you mean host"."""
    file = configure('[mqtt]\nhots = "broker"\nport = "1883"\n[camera]\nsource = "picamera"\n')
    ran = chappe("config", "validate", file)
    assert (ran.code, ran.out) == (78, "")
    assert f"{file}:2: mqtt.hots: unknown key; did you mean host?" in ran.err
    assert f"{file}:3: mqtt.port: " in ran.err
    assert f"{file}:5: camera.source: " in ran.err
    assert "remedy: correct all 3" in ran.err


SHIPPED = sorted((Path(__file__).resolve().parents[2] / "config").rglob("*.toml"))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_what_we_ship_is_valid_to_the_last_job(chappe: Any, file: Path) -> None:
    """Sample, demo and examples, the times of their jobs included."""
    assert chappe("config", "validate", file).code == 0


def test_the_time_of_a_job_is_told_with_its_line(chappe: Any, configure: Any) -> None:
    """Only the scheduler knows what makes sense; its word is told like any other error."""
    file = configure('[jobs.night]\ncron = "0 25 * * *"\nmark = "x"\n')
    ran = chappe("config", "validate", file)
    assert ran.code == 78
    assert f"{file}:2: jobs.night.cron: " in ran.err


def test_validate_with_json_gives_the_problems_on_stdout(chappe: Any, configure: Any) -> None:
    """For programs: still exit 78, and nothing on stderr."""
    file = configure('[mqtt]\nhots = "broker"\n')
    ran = chappe("config", "validate", "--json", file)
    assert (ran.code, ran.err) == (78, "")
    (problem,) = ran.json["problems"]
    assert ran.json["ok"] is False
    assert (problem["path"], problem["code"], problem["file"], problem["line"]) == (
        "mqtt.hots",
        "unknown_key",
        str(file),
        2,
    )


def test_validate_names_the_files_that_it_read(chappe: Any, layers: Path) -> None:
    """A good configuration: exit 0 and its layers."""
    wanted = [f"{layers}/chappe.toml", f"{layers}/conf.d/10.toml", "environment"]
    assert chappe("config", "validate").out == f"ok: {', '.join(wanted)}\n"
    assert chappe("config", "validate", "--json").json == {"ok": True, "layers": wanted}


def test_without_any_layer_the_defaults_are_valid(chappe: Any, tmp_path: Path) -> None:
    """An empty file is a configuration."""
    file = tmp_path / "empty.toml"
    file.write_text("")
    assert chappe("config", "validate", file).out == "ok: built-in defaults only\n"


@pytest.mark.feature("OPS-03", breaks="chappe.cli.config:run_schema")
def test_schema_prints_the_tracked_file(chappe: Any, checkout: Path) -> None:
    """Byte for byte."""
    assert chappe("config", "schema").out == (checkout / "config/chappe.schema.json").read_text(encoding="utf-8")


def test_the_configuration_file_may_be_named_by_the_environment(
    chappe: Any, configure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CHAPPE_CONFIG stands in for --config."""
    monkeypatch.setenv("CHAPPE_CONFIG", str(configure("[device]\nid = 'by-environment'\n")))
    assert chappe("config", "show", "--json").json["device"]["id"] == "by-environment"


@pytest.mark.parametrize("key", ["password", "token"])
def test_a_secret_in_a_file_is_told_without_being_shown(chappe: Any, configure: Any, key: str) -> None:
    """Neither stdout nor stderr repeats it, plain or as JSON."""
    file = configure(f'[mqtt]\n{key} = "hunter2"\n')
    for words in (["config", "validate", file], ["config", "validate", "--json", file], ["check", "--config", file]):
        ran = chappe(*words)
        assert "hunter2" not in ran.out + ran.err
        assert f"{key}_file" in ran.out + ran.err


def test_the_parser_can_be_walked(chappe: Any) -> None:
    """Manual page and completion are made from it: every command has a line of help."""
    parser = cli.build_parser()
    (commands,) = (action for action in parser._actions if action.dest == "==SUPPRESS==" and action.choices)
    assert json.dumps(sorted(commands.choices or ()))
    assert len(list(commands._get_subactions())) == len(list(commands.choices or ()))
    assert all(action.help for action in commands._get_subactions())
