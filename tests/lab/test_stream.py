from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from lab import stream


@pytest.fixture
def answering() -> Iterator[int]:
    """The port of a server on 127.0.0.1 that sends packets back, save those whose number ends in 7."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def answer() -> None:
            while packet := server.recvfrom(64):
                number = int.from_bytes(packet[0], "big")
                if number > 1_000_000:
                    return
                if number % 10 != 7:
                    server.sendto(*packet)

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        server.sendto((1_000_001).to_bytes(8, "big"), server.getsockname())
        thread.join()


def test_lost_packets_are_told_by_their_numbers(answering: int) -> None:
    assert stream.send("127.0.0.1", answering, 400, 0.1) == {"sent": 40, "lost": [7, 17, 27, 37]}


def test_every_packet_is_lost_where_nobody_answers() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        assert stream.send("127.0.0.1", silent.getsockname()[1], 50, 0.1)["lost"] == [0, 1, 2, 3, 4]
