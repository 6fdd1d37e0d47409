"""The JSON Schema of configuration files: tracked, valid, and as strict as the loader where a schema can be."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from chappe.config import loads
from chappe.config.schema import json_schema
from chappe.errors import ConfigError


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json_schema())


def complaints(validator: jsonschema.Draft202012Validator, text: str) -> list[str]:
    return [".".join(map(str, error.absolute_path)) for error in validator.iter_errors(tomllib.loads(text))]


def test_it_is_a_schema() -> None:
    """Valid against the metaschema of the draft that it names."""
    schema = json_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.feature("OPS-03", breaks="chappe.config.schema:json_schema")
def test_the_tracked_schema_is_the_one_that_the_structs_give(checkout: Path) -> None:
    """`chappe config schema > config/chappe.schema.json` would change nothing."""
    tracked = (checkout / "config/chappe.schema.json").read_text(encoding="utf-8")
    assert tracked == json.dumps(json_schema(), indent=2) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        "[mqtt]\nhots = 'a'",
        "[mqtt]\nport = 0",
        "[mqtt]\nport = 70000",
        "[mqtt]\nport = '1883'",
        "[mqtt]\nport = 1.5",
        "[mqtt]\npassword = 'hunter2'",
        "[device]\nid = 'Tower One'",
        "[device]\ngroups = 'hall'",
        "[camera]\nsource = 'picamera'",
        "[camera]\nrotate = 45",
        "[camera]\nhold = 5",
        "[camera]\nhold = 'soon'",
        "[vision]\npresence = 1.5",
        "[sensors.a]\nevery = '1s'",
        "[sensors.a]\ndriver = 'sysfs'\npoints = [[1]]",
        "[streams.a]\nclass = 'logs'",
        "[streams.a]\nclass_ = 'log'",
        "[streams.a]\nelide = { policy = 'lates' }",
        "[indicators]\nstatus = 99",
        "[indicators]\nprivacy = true",
        "[indicators]\nquiet = 'at night'",
        "[buttons]\nmain = '26'",
        "[outputs.relay]\nsafe = 'low'",
        "[rules.a]\ncamera = 'of'",
        "[jobs.a]\nsun = 'midnight'",
        "mqtt = 5",
        "[nowhere]\nx = 1",
    ],
)
def test_what_the_loader_rejects_the_schema_rejects(validator: jsonschema.Draft202012Validator, text: str) -> None:
    """An editor shows unknown keys, wrong types, ranges, words and missing keys before the file is used."""
    with pytest.raises(ConfigError):
        loads(text)
    assert complaints(validator, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[camera]\nhold = '1h30m'\nrotate = 90",
        "[indicators]\nprivacy = false\nquiet = ''",
        "[indicators]\nprivacy = 27",
        "[streams.a]\nelide = 'none'",
        "[streams.a]\nclass = 'latest'\nelide = { policy = 'deadband', abs = 1, heartbeat = '5m' }",
        "[sensors.a]\ndriver = 'plug-in'\noptions = { anything = [1, { goes = true }] }",
        "[sensors.a]\ndriver = 'simulated'\nscale = 2\noffset = -1",
        "[signals]\nVictory = 'BUY'",
    ],
)
def test_what_the_loader_takes_the_schema_takes(validator: jsonschema.Draft202012Validator, text: str) -> None:
    """Nothing that works is underlined in red."""
    loads(text)
    assert complaints(validator, text) == []


def test_defaults_are_shown_as_they_are_written() -> None:
    """Durations as text, nested sections with their own defaults."""
    definitions = json_schema()["$defs"]
    mqtt: dict[str, Any] = definitions["Mqtt"]["properties"]
    assert mqtt["keepalive"]["default"] == "20s"
    assert mqtt["port"] == {"type": "integer", "minimum": 1, "maximum": 65535, "default": 1883}
    assert definitions["Stream"]["properties"]["class"]["default"] is None
    assert definitions["Sensor"]["required"] == ["driver"]
