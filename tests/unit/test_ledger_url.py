from __future__ import annotations

import pytest

from ridges_proxy.config.ledger_url import RedisUrl, check, is_of_several_servers, redacted, redis_url
from tests.support.table import check_rows

REDIS_URLS = [
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


def test_a_redis_url_is_parsed() -> None:
    def check_row(row: tuple[str, RedisUrl]) -> None:
        url, expected = row
        assert redis_url(url) == expected
        assert check(url) == url

    check_rows(REDIS_URLS, check_row)


def test_the_other_forms_are_not_changed() -> None:
    urls = [
        "memory://",
        "sqlite:///a.db",
        "sqlite:////var/lib/a b.db",
        "sqlite:///memory",
        "sqlite:///memory:",
    ]

    assert [check(url) for url in urls] == urls


def test_an_invalid_url_is_refused_and_not_quoted() -> None:
    rows = [
        ("memory:///", "must be memory://"),
        ("sqlite://a.db", "must be memory://"),
        ("sqlite:///", "must be memory://"),
        ("sqlite:///a?mode=ro", "must be memory://"),
        (
            "sqlite:///:memory:",
            "SQLite's memory and no file: each worker would have its own budgets. Use memory://",
        ),
        ("sqlite:////:memory:", "SQLite's memory"),
        ("sqlite:///:MEMORY:", "SQLite's memory"),
        ("sqlite:///file::memory:", "SQLite's memory"),
        ("sqlite:///x/:memory:", "SQLite's memory"),
        ("sqlite://:memory:", "must be memory://"),
        ("sqlite:///a?mode=memory", "must be memory://"),
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
    ]

    def check_row(row: tuple[str, str]) -> None:
        url, message = row
        with pytest.raises(ValueError, match=message) as error:
            check(url.replace("//", "//user:hidden-password@") if url.startswith("redis") else url)
        assert "hidden" not in str(error.value)

    check_rows(rows, check_row)


def test_a_redacted_url_has_no_user_no_password_and_no_options() -> None:
    rows = [
        ("memory://", "memory://"),
        ("sqlite:////a/b@c.db", "sqlite:////a/b@c.db"),
        ("redis://u:p@h:1/2", "redis://h:1/2"),
        ("redis+cluster://u:p@a,b", "redis+cluster://a,b"),
        ("redis+sentinel://a/s?sentinel_password=p", "redis+sentinel://a/s"),
        ("redis://u:p@w@h", "redis://h"),
    ]

    def check_row(row: tuple[str, str]) -> None:
        url, expected = row
        assert redacted(url) == expected

    check_rows(rows, check_row)


def test_only_a_ledger_in_redis_is_of_several_servers() -> None:
    rows = [
        ("memory://", False),
        ("sqlite:////a/b.db", False),
        ("redis://h", True),
        ("redis+cluster://a,b", True),
    ]

    def check_row(row: tuple[str, bool]) -> None:
        url, expected = row
        assert is_of_several_servers(url) == expected

    check_rows(rows, check_row)
