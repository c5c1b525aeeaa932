"""Speakers and peers as neutron-dynamic-routing has them."""

from __future__ import annotations

from typing import Any

import pytest

from bgpvpn.objects import Peer
from tests.bgpvpn.api.neutron.asking import Asked, asked
from tests.bgpvpn.api.serving import in_loop
from tests.fakes.node import FakeNode

NOWHERE = "11111111-2222-4333-8444-555555555555"


async def pair(api: Asked, **fields: Any) -> tuple[Any, Any]:
    """Make a speaker and a peer of another AS."""
    speaker = await api.made("bgp-speakers", **{"local_as": 64512, "ip_version": 4, **fields})
    return speaker, await api.made("bgp-peers", peer_ip="192.0.2.1", remote_as=64500, auth_type="none")


async def added(api: Asked, speaker: Any, peer: Any, status: int = 200) -> Any:
    body = {"bgp_peer_id": peer["id"]}
    return await api.ok("PUT", f"bgp-speakers/{speaker['id']}/add_bgp_peer", body, status)


@in_loop
async def test_a_speaker_has_the_defaults_of_neutron_dynamic_routing() -> None:
    async with asked(FakeNode()) as api:
        made = await api.made("bgp-speakers", local_as="4200000000", ip_version="6", name="s")
        expected = {
            "name": "s",
            "local_as": 4200000000,
            "ip_version": 6,
            "advertise_floating_ip_host_routes": True,
            "advertise_tenant_networks": True,
            "advertise_fixed_ip_host_routes": False,
            "networks": [],
            "peers": [],
            "project_id": "default",
            "tenant_id": "default",
        }
        assert made.items() >= expected.items()
        changed = await api.changed("bgp-speakers", made["id"], name="t", advertise_tenant_networks=False)
        assert (changed["name"], changed["advertise_tenant_networks"]) == ("t", False)
        for field, value in (("local_as", 1), ("ip_version", 4), ("peers", [])):
            body: Any = {"bgp_speaker": {field: value}}
            kind, message = await api.refused("PUT", f"bgp-speakers/{made['id']}", 400, body)
            assert (kind, "read-only" in message) == ("HTTPBadRequest", True)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("bgp-speakers", {"ip_version": 4}),
        ("bgp-speakers", {"local_as": 1}),
        ("bgp-speakers", {"local_as": 0, "ip_version": 4}),
        ("bgp-speakers", {"local_as": 1 << 32, "ip_version": 4}),
        ("bgp-speakers", {"local_as": 1, "ip_version": 5}),
        ("bgp-speakers", {"local_as": 1, "ip_version": 4, "advertise_tenant_networks": "perhaps"}),
        ("bgp-peers", {"peer_ip": "192.0.2.1", "remote_as": 1}),
        ("bgp-peers", {"peer_ip": "192.0.2.1", "remote_as": 1, "auth_type": "sha"}),
        ("bgp-peers", {"peer_ip": "192.0.2.1", "remote_as": 1, "auth_type": "none", "password": "x"}),
        ("bgp-peers", {"peer_ip": "192.0.2.1", "remote_as": 1, "auth_type": "md5", "password": "x" * 81}),
        ("bgp-peers", {"peer_ip": "192.0.2.1", "remote_as": 0, "auth_type": "none"}),
        ("bgp-peers", {"peer_ip": "192.0.2.0/24", "remote_as": 1, "auth_type": "none"}),
        ("bgp-peers", {"peer_ip": "nonsense", "remote_as": 1, "auth_type": "none"}),
        ("bgp-peers", {"remote_as": 1, "auth_type": "none"}),
    ],
)
@in_loop
async def test_what_cannot_be_is_refused(path: str, body: dict[str, Any]) -> None:
    async with asked(FakeNode()) as api:
        name = path[:-1].replace("-", "_")
        assert (await api.refused("POST", path, 400, {name: body}))[0] == "HTTPBadRequest"
        assert await api.listed(path) == []


@in_loop
async def test_a_peer_is_down_until_a_speaker_has_it_and_then_speaks_its_family() -> None:
    node = FakeNode()
    async with asked(node) as api:
        speaker, peer = await pair(api)
        assert peer["admin_state_up"] is False
        assert await added(api, speaker, peer) == {"bgp_peer_id": peer["id"]}
        up = node.intent.peers[peer["id"]]
        assert (up.admin_state_up, up.families) == (True, ("ipv4",))
        assert (up.import_policy, up.export_policy) == ("accept", None), "what other peers told is not passed on to it"
        assert (await api.shown("bgp-speakers", speaker["id"]))["peers"] == [peer["id"]]

        other = await api.made("bgp-speakers", local_as=64512, ip_version=6)
        foreign = await api.made("bgp-speakers", local_as=64513, ip_version=6)
        body = {"bgp_peer_id": peer["id"]}
        kind, message = await api.refused("PUT", f"bgp-speakers/{foreign['id']}/add_bgp_peer", 409, body)
        assert (kind, "AS 64513" in message) == ("Conflict", True), "a peer knows the node by one AS"
        await added(api, other, peer)
        assert node.intent.peers[peer["id"]].families == ("ipv4", "ipv6")
        await api.ok("PUT", f"bgp-speakers/{speaker['id']}/remove_bgp_peer", body)
        assert node.intent.peers[peer["id"]].families == ("ipv6",)
        assert node.intent.peers[peer["id"]].admin_state_up
        await api.ok("DELETE", f"bgp-speakers/{other['id']}", status=204)
        assert not node.intent.peers[peer["id"]].admin_state_up
        await api.ok("DELETE", f"bgp-peers/{peer['id']}", status=204)


@in_loop
async def test_a_peer_of_the_speakers_own_as_needs_no_policy() -> None:
    node = FakeNode()
    async with asked(node) as api:
        speaker, _ = await pair(api)
        peer = await api.made("bgp-peers", peer_ip="192.0.2.2", remote_as=64512, auth_type="none")
        await added(api, speaker, peer)
        up = node.intent.peers[peer["id"]]
        assert (up.admin_state_up, up.import_policy, up.export_policy) == (True, None, None)


@in_loop
async def test_a_peer_of_another_as_keeps_the_policies_that_it_has() -> None:
    node = FakeNode()
    node.write([Peer(id="isp", address="192.0.2.4", remote_as=64513, families=("ipv4",), import_policy="reject")])
    async with asked(node) as api:
        speaker = await api.made("bgp-speakers", local_as=64512, ip_version=4)
        await added(api, speaker, {"id": "isp"})
        assert (node.intent.peers["isp"].import_policy, node.intent.peers["isp"].export_policy) == ("reject", None)


@in_loop
async def test_a_peer_of_vpns_stays_one_when_a_speaker_comes_and_goes() -> None:
    node = FakeNode()
    mine = Peer(id="rr", address="192.0.2.3", remote_as=64512, families=("vpnv4",), export_policy="reject")
    node.write([mine])
    async with asked(node) as api:
        speaker = await api.made("bgp-speakers", local_as=64512, ip_version=4)
        await added(api, speaker, {"id": "rr"})
        assert node.intent.peers["rr"].families == ("vpnv4", "ipv4")
        await api.ok("PUT", f"bgp-speakers/{speaker['id']}/remove_bgp_peer", {"bgp_peer_id": "rr"})
        assert node.intent.peers["rr"] == mine


@in_loop
async def test_a_peer_of_the_configuration_file_is_not_changed_here() -> None:
    node = FakeNode(configured=[Peer(id="rr", address="192.0.2.3", remote_as=64512)])
    async with asked(node) as api:
        speaker = await api.made("bgp-speakers", local_as=64512, ip_version=4)
        path = f"bgp-speakers/{speaker['id']}"
        kind, message = await api.refused("PUT", f"{path}/add_bgp_peer", 409, {"bgp_peer_id": "rr"})
        assert (kind, "configuration file" in message) == ("Conflict", True)
        assert (await api.shown("bgp-speakers", speaker["id"]))["peers"] == []


@in_loop
async def test_a_peer_is_in_a_speaker_once_and_one_that_is_not_there_cannot_be_removed() -> None:
    async with asked(FakeNode()) as api:
        speaker, peer = await pair(api)
        path = f"bgp-speakers/{speaker['id']}"
        body = {"bgp_peer_id": peer["id"]}
        assert (await api.refused("PUT", f"{path}/remove_bgp_peer", 404, body))[0] == "BgpSpeakerPeerNotAssociated"
        await added(api, speaker, peer)
        assert (await api.refused("PUT", f"{path}/add_bgp_peer", 409, body))[0] == "DuplicateBgpPeerIpException"
        missing = {"bgp_peer_id": NOWHERE}
        assert (await api.refused("PUT", f"{path}/add_bgp_peer", 404, missing))[0] == "BgpPeerNotFound"
        nowhere = f"bgp-speakers/{NOWHERE}/add_bgp_peer"
        assert (await api.refused("PUT", nowhere, 404, body))[0] == "BgpSpeakerNotFound"
        for wrong in ({}, {"bgp_peer_id": 7}, {"bgp_peer_id": None}):
            assert (await api.refused("PUT", f"{path}/add_bgp_peer", 400, wrong))[0] == "BadRequest"
        again = {"peer_ip": "192.0.2.1", "remote_as": 1, "auth_type": "none"}
        kind, _ = await api.refused("POST", "bgp-peers", 409, {"bgp_peer": again})
        assert kind == "DuplicateBgpPeerIpException"


@in_loop
async def test_a_password_is_kept_and_never_shown_and_none_of_clients_means_nothing() -> None:
    node = FakeNode()
    async with asked(node) as api:
        peer = {"peer_ip": "192.0.2.1", "remote_as": 1, "auth_type": "md5"}
        kind, _ = await api.refused("POST", "bgp-peers", 400, {"bgp_peer": peer})
        assert kind == "InvalidBgpPeerMd5Authentication"
        made = await api.made("bgp-peers", **peer, password="s3cret")
        assert made["auth_type"] == "md5"
        assert "password" not in made
        await api.changed("bgp-peers", made["id"], name="x", password=None)
        assert node.intent.peers[made["id"]].password == "s3cret"
        answer = await api.ask("PUT", f"bgp-peers/{made['id']}", {"bgp_peer": {"password": "n3w"}})
        assert "n3w" not in answer.text
        assert node.intent.peers[made["id"]].password == "n3w"
        answer = await api.client.get("/v2.0/bgp-peers", params={"password": "n3w"})
        assert answer.status_code == 400, "it cannot be guessed by filters"

        bare = await api.made("bgp-peers", peer_ip="192.0.2.2", remote_as=1, auth_type="none")
        body = {"bgp_peer": {"password": "x"}}
        kind, _ = await api.refused("PUT", f"bgp-peers/{bare['id']}", 404, body)
        assert kind == "BgpPeerNotAuthenticated"


@in_loop
async def test_external_networks_are_added_and_removed() -> None:
    async with asked(FakeNode()) as api:
        speaker, _ = await pair(api)
        network = await api.made("networks", router__external=True)
        path = f"bgp-speakers/{speaker['id']}"
        body = {"network_id": network["id"]}
        kind, _ = await api.refused("PUT", f"{path}/remove_gateway_network", 404, body)
        assert kind == "BgpSpeakerNetworkNotAssociated"
        assert await api.ok("PUT", f"{path}/add_gateway_network", body) == body
        assert (await api.shown("bgp-speakers", speaker["id"]))["networks"] == [network["id"]]
        kind, _ = await api.refused("PUT", f"{path}/add_gateway_network", 409, body)
        assert kind == "BgpSpeakerNetworkBindingError"
        assert await api.ok("PUT", f"{path}/remove_gateway_network", body) == body
        inside = {"network_id": (await api.made("networks"))["id"]}
        assert (await api.refused("PUT", f"{path}/add_gateway_network", 400, inside))[0] == "BadRequest"
        gone = {"network_id": NOWHERE}
        assert (await api.refused("PUT", f"{path}/add_gateway_network", 404, gone))[0] == "NetworkNotFound"


@in_loop
async def test_the_routes_of_a_speaker_are_those_that_the_node_tells() -> None:
    node = FakeNode()
    async with asked(node) as api:
        speaker, _ = await pair(api)
        told = {"destination": "192.0.2.9/32", "next_hop": "192.0.2.2"}
        node.advertised_rows[speaker["id"]] = [{**told, "why": "a floating address"}]
        path = f"bgp-speakers/{speaker['id']}/get_advertised_routes"
        assert await api.ok("GET", path) == {"advertised_routes": [told]}
        assert (await api.refused("GET", f"bgp-speakers/{NOWHERE}/get_advertised_routes", 404))[
            0
        ] == "BgpSpeakerNotFound"


@in_loop
async def test_this_node_is_the_one_agent_and_speaks_for_every_speaker() -> None:
    node = FakeNode()
    async with asked(node) as api:
        speaker, _ = await pair(api)
        (agent,) = await api.listed("agents", agent_type="BGP dynamic routing agent")
        assert (agent["host"], agent["alive"], agent["binary"]) == (node.itself()["host"], True, "bgpvpnd")
        assert await api.listed("agents", agent_type="L3 agent") == []
        assert (await api.shown("agents", agent["id"]))["id"] == agent["id"]
        hosting = await api.ok("GET", f"bgp-speakers/{speaker['id']}/bgp-dragents")
        assert [each["id"] for each in hosting["agents"]] == [agent["id"]]
        path = f"agents/{agent['id']}/bgp-drinstances"
        assert [each["id"] for each in (await api.ok("GET", path))["bgp_speakers"]] == [speaker["id"]]
        await api.ok("POST", path, {"bgp_speaker_id": speaker["id"]}, 201)
        assert (await api.refused("POST", path, 404, {"bgp_speaker_id": NOWHERE}))[0] == "BgpSpeakerNotFound"
        kind, message = await api.refused("DELETE", f"{path}/{speaker['id']}", 409)
        assert (kind, "only agent" in message) == ("BgpSpeakerRescheduleError", True)
        assert (await api.refused("GET", f"agents/{NOWHERE}", 404))[0] == "AgentNotFound"
