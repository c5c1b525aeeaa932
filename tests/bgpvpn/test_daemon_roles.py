"""The daemon with clients in its configuration: their roles, and a TCP port that wants a token."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx

from tests.bgpvpn.test_daemon import Machine, machine

__all__ = ["machine"]

OPERATOR, OWNER = "token-of-the-operator", "token-of-a-tenant-here"


def test_a_daemon_knows_its_clients_by_their_tokens_and_says_in_its_log_who_did_what(
    machine: Machine, tmp_path: Path
) -> None:
    for name, token in (("operator", OPERATOR), ("owner", OWNER)):
        (tmp_path / name).write_text(f"{token}\n")
        (tmp_path / name).chmod(0o600)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lines = [
        f'socket = "{machine.socket}"',
        f'tcp = "127.0.0.1:{port}"',
        '[[api.client]]\ntoken_file = "operator"\nrole = "operator"',
        '[[api.client]]\ntoken_file = "owner"\nrole = "owner"\nproject = "blue"',
    ]
    machine.configure(api="\n".join(lines))
    process = machine.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:

        def ask(method: str, path: str, token: str = "", **options: object) -> httpx.Response:
            headers = {"authorization": f"Bearer {token}"} if token else {}
            return client.request(method, path, headers=headers, **options)  # type: ignore[arg-type]

        assert ask("GET", "/v1/status").status_code == 401
        (node,) = ask("GET", "/v1/nodes", OPERATOR).json()
        assert (node["router_id"], node["local_as"], node["label_range"]) == ("192.0.2.1", 64512, [16000, 31999])
        assert node["techniques"] == ["ipvpn", "evpn-prefix", "evpn"]
        vpn = {"name": "vpn", "project_id": "blue", "route_targets": ["64512:1"], "allowed_prefixes": ["10.8.0.0/16"]}
        assert ask("POST", "/v1/bgpvpns", OPERATOR, json=vpn).status_code == 201
        assert ask("GET", "/v1/status", OWNER).status_code == 403
        port_ = {"name": "vm", "mac_address": "02:00:00:00:00:01", "ip_addresses": ["10.1.0.5/24"]}
        assert ask("POST", "/v1/ports", OWNER, json=port_).status_code == 201
        for prefix, status in (("10.9.0.0/24", 400), ("10.8.1.0/24", 201)):
            bound = {"port_id": "vm", "routes": [{"type": "prefix", "prefix": prefix}]}
            assert ask("POST", "/v1/bgpvpns/vpn/associations", OWNER, json=bound).status_code == status
        explained = ask("GET", "/v1/explain?port=vm", OWNER)
        assert (explained.status_code, "64512:1" in explained.text) == (200, False)
        assert {each["nlri"] for each in explained.json()["own"]} == {"10.1.0.5/32", "10.8.1.0/24"}
        assert "64512:1" in ask("GET", "/v1/explain?port=vm", OPERATOR).text
        assert ask("GET", "/v1/bgpvpns/vpn", OWNER).json()["route_targets"] == []
    process.terminate()
    assert process.wait(20) == 0
    log = machine.log.read_text()
    assert "refused=401" in log
    assert "port made: " in log
    assert "caller='token owner'" in log
    assert "refused=403 caller=\"token owner, owner of project 'blue'\" request='GET /v1/status'" in log
    assert not [token for token in (OPERATOR, OWNER) if token in log]
