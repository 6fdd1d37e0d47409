"""Keys that are valid alone and contradict each other."""

from __future__ import annotations

import pytest

from chappe.config import loads
from chappe.config.check import cross_check
from chappe.errors import ConfigError

SENSOR = '[sensors.door]\ndriver = "simulated"\n'

WRONG = {
    "a pin used twice": ("[indicators]\nstatus = 17\n[buttons]\nmain = 17", "buttons.main", "conflict"),
    "an output on a lamp's pin": (
        "[indicators]\nred = 6\n[outputs.relay]\npin = 6",
        "outputs.relay.pin",
        "conflict",
    ),
    "elision of a log": (
        '[streams.a]\nclass = "log"\nelide = { policy = "latest", every = "1s" }',
        "streams.a.elide",
        "conflict",
    ),
    "elision of a stream that is a log by birth": (
        '[streams.fault]\nelide = { policy = "latest", every = "1s" }',
        "streams.fault.elide",
        "conflict",
    ),
    "debounce without a longest wait": (
        '[streams.a]\nclass = "latest"\nelide = { policy = "debounce", quiet = "1s" }',
        "streams.a.elide.max_wait",
        "missing",
    ),
    "a signal for a gesture that is none": ('[signals]\nThumbs_Up = "BUY"', "signals.Thumbs_Up", "unknown_key"),
    "a signal for the gesture None": ('[signals]\nNone = "BUY"', "signals.None", "unknown_key"),
    "a rule without a cause": ('[rules.a]\nmark = "x"', "rules.a", "conflict"),
    "a rule with two causes": ('[rules.a]\ngesture = "Victory"\npress = "short"\nmark = "x"', "rules.a", "conflict"),
    "a rule on a gesture that is none": ('[rules.a]\ngesture = "Wave"\nmark = "x"', "rules.a.gesture", "range"),
    "a rule on a signal that nothing gives": ('[rules.a]\nsignal = "BUY"\nmark = "x"', "rules.a.signal", "range"),
    "a rule on a press that is none": ('[rules.a]\npress = "triple"\nmark = "x"', "rules.a.press", "range"),
    "a rule that does nothing": ('[rules.a]\ngesture = "Victory"', "rules.a", "missing"),
    "a rule for an output that is none": ('[rules.a]\npress = "short"\noutput = "relay"', "rules.a.output", "range"),
    "a job without a time": ('[jobs.a]\nmark = "x"', "jobs.a", "conflict"),
    "a job with two times": ('[jobs.a]\nevery = "1s"\ncron = "0 0 * * *"\nmark = "x"', "jobs.a", "conflict"),
    "sun times of nowhere": ('[jobs.a]\nsun = "dawn"\nmark = "x"', "jobs.a.sun", "missing"),
    "files without a folder": ('[camera]\nsource = "files"', "camera.path", "missing"),
    "a certificate without its key": ('[mqtt]\ntls = true\ncert_file = "a"', "mqtt.cert_file", "conflict"),
    "authorities without TLS": ('[mqtt]\nca_file = "a"', "mqtt.ca_file", "conflict"),
    "a sensor that is never due": (SENSOR + 'every = "0s"', "sensors.door.every", "range"),
    "two calibrations": (SENSOR + "scale = 2.0\npolynomial = [0.0, 1.0]", "sensors.door.scale", "conflict"),
    "a sensor on a stream of the daemon's own": (
        '[sensors.fault]\ndriver = "simulated"',
        "sensors.fault",
        "conflict",
    ),
}


@pytest.mark.parametrize(("text", "path", "code"), WRONG.values(), ids=WRONG.keys())
def test_a_contradiction_is_one_problem_at_its_key(text: str, path: str, code: str) -> None:
    """Each is told once, at the key that has to give way, with a line."""
    with pytest.raises(ConfigError) as caught:
        loads(text)
    (found,) = caught.value.problems
    assert (found.path, found.code) == (path, code)
    assert found.line is not None


def test_all_contradictions_are_told_together() -> None:
    """Every check runs, whatever the ones before it found."""
    texts = ("[mqtt]\nca_file = 'a'", "[camera]\nsource = 'files'", "[rules.a]\nmark = 'x'", "[jobs.a]\nmark = 'x'")
    with pytest.raises(ConfigError) as caught:
        loads("\n".join(texts))
    assert {found.path for found in caught.value.problems} == {"mqtt.ca_file", "camera.path", "rules.a", "jobs.a"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        '[streams.a]\nelide = "none"',
        '[streams.a]\nclass = "latest"\nelide = { policy = "throttle_first", every = "1s" }',
        "[indicators]\nprivacy = false\nstatus = 0\n[buttons]\nmain = 1",
        '[signals]\nVictory = "BUY"\n[rules.a]\nsignal = "BUY"\ncamera = "off"\n[rules.b]\nsignal = "-"\nmark = "none"',
        '[site]\nlatitude = 48.8\nlongitude = 2.3\n[jobs.a]\nsun = "dawn"\nmark = "x"',
        '[mqtt]\ntls = true\nca_file = "a"\ncert_file = "b"\nkey_file = "c"',
    ],
)
def test_what_does_not_contradict_itself_passes(text: str) -> None:
    """The checks find nothing in configurations that come close to what they look for."""
    assert cross_check(loads(text).config) == []
