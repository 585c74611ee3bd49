from __future__ import annotations

import pytest

from ridges_proxy.config.ledger_url import RedisUrl, check, redacted, redis_url

GOOD = [
    ("redis://h", RedisUrl("redis", [("h", 6379)])),
    ("redis://h:1/2", RedisUrl("redis", [("h", 1)], database=2)),
    ("redis://[::1]:7", RedisUrl("redis", [("::1", 7)])),
    ("rediss://h", RedisUrl("redis", [("h", 6379)], tls=True)),
    ("redis://:p%40w%2F@h", RedisUrl("redis", [("h", 6379)], password="p@w/")),
    ("redis://u:p@h", RedisUrl("redis", [("h", 6379)], username="u", password="p")),
    (
        "rediss://h?ssl_ca_certs=/a/b.pem&ssl_check_hostname=no",
        RedisUrl(
            "redis",
            [("h", 6379)],
            tls=True,
            options={"ssl_ca_certs": "/a/b.pem", "ssl_check_hostname": "no"},
        ),
    ),
    ("redis+cluster://a,b:2", RedisUrl("cluster", [("a", 6379), ("b", 2)])),
    ("rediss+cluster://u:p@a", RedisUrl("cluster", [("a", 6379)], tls=True, username="u", password="p")),
    ("redis+sentinel://a,b:2/main", RedisUrl("sentinel", [("a", 26379), ("b", 2)], service="main")),
    ("redis+sentinel://a/main/3", RedisUrl("sentinel", [("a", 26379)], service="main", database=3)),
]


@pytest.mark.parametrize(("url", "expected"), GOOD)
def test_a_redis_url_is_taken_apart(url: str, expected: RedisUrl) -> None:
    assert redis_url(url) == expected
    assert check(url) == url


@pytest.mark.parametrize("url", ["memory://", "sqlite:///a.db", "sqlite:////var/lib/a b.db"])
def test_the_other_forms_stay_as_they_are(url: str) -> None:
    assert check(url) == url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("memory:///", "must be memory://"),
        ("sqlite://a.db", "must be memory://"),
        ("sqlite:///", "must be memory://"),
        ("sqlite:///a?mode=ro", "must be memory://"),
        ("REDIS+x://h", "must be memory://"),
        ("redis+sentinels://h/s", "must be memory://"),
        ("redis://h#1", "must be memory://"),
        ("redis://[::1", "must be memory://"),
        ("redis://", "has a host"),
        ("redis://h:0", "has a host"),
        ("redis://h:65536", "has a host"),
        ("redis://h:x", "has a host"),
        ("redis+cluster://a,,b", "has a host"),
        ("redis://a,b", "names several hosts"),
        ("redis://h/x", "has a path"),
        ("redis://h/1/2", "has a path"),
        ("redis+cluster://h/1", "has a path"),
        ("redis+sentinel://h", "needs the name"),
        ("redis+sentinel://h/", "needs the name"),
        ("redis://h?retry_on_timeout=1", "has an unknown option"),
        ("redis://h?socket_timeout=", "has an unknown option"),
    ],
)
def test_what_has_no_form_is_refused_without_being_quoted(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        check(url.replace("//", "//user:hidden-password@") if url.startswith("redis") else url)
    assert "hidden" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("memory://", "memory://"),
        ("sqlite:////a/b@c.db", "sqlite:////a/b@c.db"),
        ("redis://u:p@h:1/2", "redis://h:1/2"),
        ("redis+cluster://u:p@a,b", "redis+cluster://a,b"),
        ("redis+sentinel://a/s?sentinel_password=p", "redis+sentinel://a/s"),
        ("redis://u:p@w@h", "redis://h"),
    ],
)
def test_a_log_shows_neither_who_logs_in_nor_how(url: str, expected: str) -> None:
    assert redacted(url) == expected
