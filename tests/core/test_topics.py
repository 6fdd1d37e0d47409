"""The topics of a device, and exact topic filters."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from chappe.core.topics import (
    LONGEST,
    Incoming,
    Subscription,
    Topics,
    compiled,
    matches,
    validate_filter,
    validate_id,
    validate_topic,
)

MATCHES = "chappe.core.topics:matches"

PAIRS = [
    ("a/b", "a/b", True),
    ("a/b", "a/b/c", False),
    ("a/b", "A/b", False),
    ("a/+", "a/b", True),
    ("a/+", "a/b/c", False),
    ("a/+", "a", False),
    ("a/+", "a/", True),
    ("a/+/c", "a/b/c", True),
    ("a/+/c", "a/b/x/c", False),
    ("a/+/c", "a//c", True),
    ("+", "a", True),
    ("+", "/a", False),
    ("+/+", "/a", True),
    ("/+", "/a", True),
    ("#", "a/b/c", True),
    ("#", "$SYS/x", False),
    ("a/#", "a", True),
    ("a/#", "a/b/c", True),
    ("a/#", "ab", False),
    ("a/+/#", "a", False),
    ("a/+/#", "a/b", True),
    ("a/+/#", "a/b/c/d", True),
    ("+/b/#", "a/b", True),
    ("a.b", "axb", False),
    ("+/x", "$SYS/x", False),
    ("$SYS/#", "$SYS/x", True),
    ("a//c", "a//c", True),
    ("a/b/", "a/b", False),
    ("chappe/+/stream/#", "chappe/cam-01/stream/gesture", True),
]


@pytest.mark.feature("MQT-08", breaks=MATCHES)
@pytest.mark.parametrize(("text", "topic", "expected"), PAIRS)
def test_a_filter_matches_exactly_what_mqtt_says(text, topic, expected):
    assert matches(text, topic) is expected


@pytest.mark.feature("MQT-08", breaks="chappe.core.topics:validate_filter")
def test_an_invalid_filter_is_refused_not_matched():
    with pytest.raises(ValueError, match=r"must fill its level"):
        matches("a/b+", "a/b+")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a/b+",
        "+a",
        "a/#/b",
        "#/a",
        "a/b#",
        "##",
        "++",
        "a\0b",
        "a/\ud800",
        "$share/g",
        "$share/g/",
        "$share//a",
        "$share/+/a",
        "$share/g#/a",
        "$share/g/a+",
        "x" * (LONGEST + 1),
        "ä" * (LONGEST // 2 + 1),
    ],
    ids=lambda text: repr(text[:20]),
)
def test_every_kind_of_invalid_filter_is_refused(text):
    with pytest.raises(ValueError, match="filter"):
        validate_filter(text)


@pytest.mark.parametrize(
    "text", ["a", "/", "+", "#", "a/+/#", "$SYS/#", "$share/g/#", "$sharing/x", "$share", "a b/ä", "x" * LONGEST]
)
def test_valid_filters_are_accepted(text):
    validate_filter(text)
    assert compiled(text).text == text


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a#", "a\0", "\udfff", "x" * (LONGEST + 1)])
def test_a_topic_nobody_can_publish_on_is_refused(topic):
    with pytest.raises(ValueError, match="topic"):
        validate_topic(topic)


def test_a_topic_with_a_wildcard_matches_nothing():
    assert not matches("#", "a/+")
    assert not matches("a/+", "a/#")
    assert not matches("#", "")


@pytest.mark.parametrize(
    ("text", "topic", "expected"),
    [
        ("$share/g/a/+", "a/b", True),
        ("$share/g/a/+", "a/b/c", False),
        ("$share/g/#", "$SYS/x", False),
        ("$share/g/#", "$share/g/x", False),
        ("$share/g/$SYS/#", "$SYS/x", True),
        ("$share/chappe-hall/chappe/_group/hall/one/+", "chappe/_group/hall/one/reboot", True),
    ],
)
def test_a_shared_subscription_matches_by_the_filter_inside(text, topic, expected):
    assert matches(text, topic) is expected


# -- against a plain reference, and against paho -------------------------------------------------------------------------------


def by_levels(levels: list[str], topic: list[str]) -> bool:
    """MQTT 5.0 section 4.7.1, word by word."""
    if levels == ["#"]:
        return True
    if not levels or not topic:
        return not levels and not topic
    return levels[0] in ("+", topic[0]) and (
        by_levels(levels[1:], topic[1:]) or (levels[1:] == ["#"] and topic[1:] == [])
    )


def reference(text: str, topic: str) -> bool:
    if topic.startswith("$") and text[0] in "+#":
        return False
    return by_levels(text.split("/"), topic.split("/"))


words = st.sampled_from(["", "a", "b", "ab", "$SYS", "a.b", ".", "\n", "ä", "[a]"])
topics = st.lists(words, min_size=1, max_size=5).map("/".join).filter(bool)
filters = st.builds(
    lambda levels, tail: "/".join([*levels, *tail]),
    st.lists(st.one_of(words, st.just("+")), min_size=1, max_size=5),
    st.sampled_from([[], ["#"]]),
).filter(bool) | st.just("#")


@pytest.mark.feature("MQT-08", breaks="chappe.core.topics:Filter.matches")
@settings(max_examples=400, deadline=None)
@given(text=filters, topic=topics)
@example(text="/#", topic="/")
@example(text="a//#", topic="a/")
@example(text="a//#", topic="a")
@example(text="+/#", topic="$SYS")
def test_a_plain_recursive_reference_agrees_on_every_filter_and_topic(text, topic):
    assert matches(text, topic) is reference(text, topic)


@settings(max_examples=200, deadline=None)
@given(text=filters, topic=topics)
def test_paho_agrees_where_the_filter_is_valid(text, topic):
    assert matches(text, topic) is topic_matches_sub(text, topic)


@settings(max_examples=100, deadline=None)
@given(topic=topics)
def test_every_topic_reaches_itself_and_its_own_tree(topic):
    assert matches(topic, topic)
    assert matches(f"{topic}/#", topic)


# -- the topics of one device ------------------------------------------------------------------------------------------------

TOWER = Topics("chappe", "tower-1")


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        (TOWER.state, "chappe/tower-1/state"),
        (TOWER.info, "chappe/tower-1/info"),
        (TOWER.health, "chappe/tower-1/health"),
        (TOWER.signal, "chappe/tower-1/signal"),
        (TOWER.desired, "chappe/tower-1/config/desired"),
        (TOWER.reported, "chappe/tower-1/config/reported"),
        (TOWER.stream("gesture"), "chappe/tower-1/stream/gesture"),
        (TOWER.req("identify"), "chappe/tower-1/req/identify"),
        (TOWER.res("identify"), "chappe/tower-1/res/identify"),
        (TOWER.receipt("alert"), "chappe/tower-1/receipt/alert"),
        (TOWER.model("hands-lite"), "chappe/tower-1/model/hands-lite"),
        (TOWER.group_desired("hall"), "chappe/_group/hall/config/desired"),
        (Topics("acme", "x").stream("tick"), "acme/x/stream/tick"),
    ],
)
def test_topics_are_those_of_the_contract(topic, expected):
    assert topic == expected
    validate_topic(topic)


def test_the_device_listens_to_requests_wishes_receipts_and_its_own_state():
    assert TOWER.subscriptions(["hall", "east"]) == (
        Subscription("chappe/tower-1/req/+", retain_as_published=True, retain_handling=2),
        Subscription("chappe/tower-1/config/desired"),
        Subscription("chappe/_group/hall/config/desired"),
        Subscription("chappe/_group/east/config/desired"),
        Subscription("chappe/tower-1/receipt/+"),
        Subscription("chappe/tower-1/state"),
    )
    assert all(subscription.qos == 1 for subscription in TOWER.subscriptions())


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("chappe/tower-1/req/identify", Incoming("req", "identify")),
        ("chappe/tower-1/receipt/alert", Incoming("receipt", "alert")),
        ("chappe/tower-1/config/desired", Incoming("desired")),
        ("chappe/tower-1/state", Incoming("state")),
        ("chappe/_group/hall/config/desired", Incoming("group_desired", "hall")),
        ("chappe/tower-1/config/reported", None),
        ("chappe/tower-1/req", None),
        ("chappe/tower-1/req/a/b", None),
        ("chappe/tower-2/req/identify", None),
        ("other/tower-1/req/identify", None),
        ("chappe/_group/hall/config", None),
        ("chappe", None),
        ("", None),
    ],
)
def test_an_arrived_topic_is_understood_or_ignored(topic, expected):
    assert TOWER.incoming(topic) == expected


def test_everything_subscribed_to_is_understood():
    for subscription in TOWER.subscriptions(["hall"]):
        assert TOWER.incoming(subscription.filter.replace("+", "x")) is not None


@pytest.mark.parametrize("text", ["a", "tower-1", "0", "a_b", "x" * 64])
def test_valid_ids_are_accepted(text):
    assert validate_id(text) is None
    validate_topic(text)


@pytest.mark.parametrize("text", ["", "-a", "_a", "Tower", "a b", "a/b", "a.b", "ä", "a\n", "x" * 65, "a+"])
def test_invalid_ids_are_refused(text):
    with pytest.raises(ValueError, match="not a valid id"):
        validate_id(text)
