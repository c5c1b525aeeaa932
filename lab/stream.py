"""A numbered stream: UDP packets at a steady rate that are sent back, so that each lost one is known by its number.

    python -m lab.stream echo ADDRESS PORT              sends back what comes, until it is ended
    python -m lab.stream send ADDRESS PORT RATE SECONDS prints how many packets were sent and the numbers of the lost

Packets are sent by the clock: where timers are coarse (10 ms inside user-mode-linux) several go out together.
"""

from __future__ import annotations

import json
import socket
import sys
import time

LAST_S = 2.0  # how long the last packets are waited for


def echo(address: str, port: int) -> None:
    """Send every packet back to where it came from; never returns."""
    with _socket(address) as endpoint:
        endpoint.bind((address, port))
        while True:
            packet, source = endpoint.recvfrom(64)
            endpoint.sendto(packet, source)


def send(address: str, port: int, rate: float, seconds: float) -> dict[str, object]:
    """Send `rate` packets a second; {"sent": N, "lost": [numbers]}. Packets that cannot be sent at all are lost."""
    count = int(rate * seconds)
    missing = set(range(count))
    began = time.monotonic()
    sent = 0
    with _socket(address) as endpoint:
        endpoint.connect((address, port))
        while missing and time.monotonic() < began + seconds + LAST_S:
            due = min(count, int((time.monotonic() - began) * rate) + 1)
            for number in range(sent, due):
                try:
                    endpoint.send(number.to_bytes(8, "big"))
                except OSError:  # refused or unreachable, at this moment
                    continue
            sent = due
            endpoint.settimeout(max(began + sent / rate - time.monotonic(), 0.001) if sent < count else 0.1)
            try:
                while True:
                    missing.discard(int.from_bytes(endpoint.recv(64), "big"))
                    endpoint.settimeout(0.0001)
            except OSError:
                continue
    return {"sent": count, "lost": sorted(missing)}


def _socket(address: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["echo", address, port]:
            echo(address, int(port))
        case ["send", address, port, rate, seconds]:
            print(json.dumps(send(address, int(port), float(rate), float(seconds))))
        case _:
            sys.exit(__doc__)
