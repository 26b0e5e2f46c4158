"""The API's listening socket."""

import socket

from services.api.__main__ import listen


def test_answers_are_sent_without_waiting_for_an_acknowledgement():
    # Not set, a kept-alive connection takes 40 ms for each answer: head and body are sent one after the other.
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
