"""Posts messages to one URL that an operator has set, signed. The receiver is not trusted."""

from __future__ import annotations

import io
import time
from contextlib import closing
from http import HTTPStatus
from typing import TYPE_CHECKING

import gevent
from requests import Request

from ridges_proxy.errors import UpstreamFailedError, UpstreamTimeoutError
from ridges_proxy.runtime.webhook_signature import webhook_headers
from ridges_proxy.upstream.body_reader import drain
from ridges_proxy.upstream.errors import LIBRARY_ERRORS, error_of_exception
from ridges_proxy.upstream.http.adapter import NO_RETRIES, Adapter

if TYPE_CHECKING:
    from collections.abc import Callable

    from requests import PreparedRequest, Response

CONNECT_TIMEOUT_SECONDS = 5.0
IDLE_TIMEOUT_SECONDS = 10.0
TOTAL_TIMEOUT_SECONDS = 10.0
"""Limit of one delivery, from the look-up of the name to the head of the answer, however slowly it comes."""

HEADERS = {
    "Accept-Encoding": "identity",
    "Connection": "close",  # alerts are rare: an idle connection would only be found closed
    "Content-Type": "application/json",
    "User-Agent": "ridges-proxy",
}


class Webhook:
    """The receiver of messages. One per process, created after the fork.

    No redirect is followed, and no proxy, cookie or .netrc is used. A name and password in the URL are sent
    as basic authentication. The URL may contain a secret: it is in no error and in no log line.
    """

    def __init__(self, url: str, key: bytes | None, clock: Callable[[], float] = time.time) -> None:
        """Prepare for the URL. Raises ValueError if it is not valid. Without a key nothing is signed."""
        try:
            Request("POST", url).prepare()
        except ValueError:
            raise ValueError("the URL of the webhook is not valid") from None
        self._url = url
        self._key = key
        self._clock = clock
        self._adapter = Adapter(1, NO_RETRIES)

    def post(self, message_id: str, body: bytes) -> None:
        """Deliver a message of JSON. Returns if the receiver has taken it: its status was 2xx.

        Raises UpstreamError otherwise. Then the receiver may have taken the message or not. Takes at most
        TOTAL_TIMEOUT_SECONDS and the quarter of a second in which the body of the answer is read.
        """
        headers = HEADERS | webhook_headers(message_id, int(self._clock()), body, self._key)
        request = Request("POST", self._url, headers=headers, data=body).prepare()
        request.body = io.BytesIO(body)  # type: ignore[assignment] # the connections read files only
        try:
            with closing(self._send(request)) as response:
                if not HTTPStatus.OK <= response.status_code < HTTPStatus.MULTIPLE_CHOICES:
                    raise UpstreamFailedError(response.status_code)
                drain(response)  # some receivers stop their work when the connection closes early
        except LIBRARY_ERRORS as error:
            raise error_of_exception(error, sent=False) from None  # its text may quote the URL

    def _send(self, request: PreparedRequest) -> Response:
        """Return the response with its head. Its body has not been read."""
        timeouts = (CONNECT_TIMEOUT_SECONDS, IDLE_TIMEOUT_SECONDS)
        with gevent.Timeout(TOTAL_TIMEOUT_SECONDS, UpstreamTimeoutError()):
            return self._adapter.send(request, stream=True, timeout=timeouts)
