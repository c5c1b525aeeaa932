from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bgpvpn.api.bodies import CREATE
from bgpvpn.objects import KINDS, Bgpvpn, Kind, Network, Peer, Port, Router, Speaker, Subnet
from lab.demo import WISHES
from tests.cli.daemon import Daemon

STAMPS = {"status", "revision", "created_at", "updated_at"}

TWO_OF_A_NAME = """
network create twin --subnet 10.0.0.0/24
port create twin --network twin --interface tap0 --mac 02:00:00:00:00:01 --ip 10.0.0.5
create blue
"""


def told(daemon: Daemon, lines: str) -> None:
    for words in lines.strip().splitlines():
        daemon.say(words)


@pytest.mark.parametrize("node", WISHES)
def test_every_command_of_the_demo_is_done(daemon: Daemon, node: str) -> None:
    lines = WISHES[node].strip().splitlines()
    for words in lines:
        assert daemon.say(words).startswith("field "), words
    for words in ("list", "show routes", "show kernel", "show sessions"):
        assert "  " in daemon.say(words).splitlines()[0], words
    assert daemon.ask("show sessions") == []
    assert daemon.ask("show status")["synced"] is True
    for words in lines:
        if words.startswith("bind "):
            assert daemon.say(f"un{words}") == "", words
    assert {tuple(vpn["networks"]) for vpn in daemon.ask("list")} == {()}


OPTIONS: list[tuple[Kind, str, dict[str, Any]]] = [
    (
        "bgpvpn",
        (
            "create blue --type l2 --route-target 1:1 --route-target 1:2 --import-target 1:3 --export-target 1:4"
            " --route-distinguisher 1:5 --vni 7 --local-pref 5 --disable --project p --technique evpn --aggregate none"
            " --max-prefixes 9 --allowed-prefix 10.0.0.0/8 --allowed-prefix 2001:db8::/32 --local-pref-range 1-10"
        ),
        {
            "name": "blue",
            "project_id": "p",
            "type": "l2",
            "route_targets": ["1:1", "1:2"],
            "import_targets": ["1:3"],
            "export_targets": ["1:4"],
            "route_distinguishers": ["1:5"],
            "vni": 7,
            "local_pref": 5,
            "technique": ["evpn"],
            "aggregate": "none",
            "max_prefixes": 9,
            "allowed_prefixes": ["10.0.0.0/8", "2001:db8::/32"],
            "local_pref_range": [1, 10],
            "admin_state_up": False,
        },
    ),
    (
        "network",
        (
            "network create n --mtu 1400 --project p --subnet 10.0.0.0/24 --external --host-addresses"
            " --fallback-mac 02:00:00:00:00:09"
        ),
        {
            "name": "n",
            "mtu": 1400,
            "project_id": "p",
            "external": True,
            "host_addresses": True,
            "fallback_mac": "02:00:00:00:00:09",
        },
    ),
    (
        "subnet",
        "subnet create inner 10.3.0.0/24 --gateway 10.3.0.1 --address-scope s --name n --project p",
        {
            "network_id": "inner",
            "cidr": "10.3.0.0/24",
            "gateway_ip": "10.3.0.1",
            "address_scope": "s",
            "name": "n",
            "project_id": "p",
        },
    ),
    (
        "router",
        (
            "router create r --subnet inner/10.0.0.0/24 --subnet six --route 10.8.0.0/16=10.0.0.9"
            " --route ::/0=2001:db8::9 --gateway-network outer --gateway-ip 192.0.2.9 --disable --project p"
        ),
        {
            "name": "r",
            "project_id": "p",
            "subnet_ids": ["four", "six"],
            "routes": [
                {"destination": "10.8.0.0/16", "nexthop": "10.0.0.9"},
                {"destination": "::/0", "nexthop": "2001:db8::9"},
            ],
            "gateway_network_id": "outer",
            "gateway_ips": ["192.0.2.9"],
            "admin_state_up": False,
        },
    ),
    (
        "floating_ip",
        "floating-ip create outer 192.0.2.7 --port inner1 --fixed-ip 10.0.0.5 --router way --project p",
        {
            "project_id": "p",
            "network_id": "outer",
            "address": "192.0.2.7",
            "router_id": "way",
            "port_id": "inner1",
            "fixed_ip": "10.0.0.5",
        },
    ),
    (
        "speaker",
        (
            "speaker create s --local-as 64513 --ip-version 6 --no-advertise-floating-ip-host-routes"
            " --no-advertise-tenant-networks --advertise-fixed-ip-host-routes --network outer --peer told --project p"
        ),
        {
            "name": "s",
            "project_id": "p",
            "local_as": 64513,
            "ip_version": 6,
            "advertise_floating_ip_host_routes": False,
            "advertise_tenant_networks": False,
            "advertise_fixed_ip_host_routes": True,
            "networks": ["outer"],
            "peers": ["told"],
        },
    ),
    (
        "advertisement",
        "speaker advertise out 203.0.113.0/24 --next-hop 192.0.2.9",
        {"speaker_id": "out", "destination": "203.0.113.0/24", "next_hop": "192.0.2.9"},
    ),
    (
        "association",
        (
            "bind inner1 red --port --prefix 10.9.0.0/16,local_pref=7 --prefix 2001:db8:9::/48"
            " --leak green,local_pref=8 --leak grey --no-fixed-ips --extra-routes --direction to-port"
        ),
        {
            "bgpvpn_id": "red",
            "network_id": None,
            "router_id": None,
            "port_id": "inner1",
            "advertise_extra_routes": True,
            "advertise_fixed_ips": False,
            "direction": "to-port",
            "routes": [
                {"type": "prefix", "prefix": "10.9.0.0/16", "bgpvpn_id": None, "local_pref": 7},
                {"type": "prefix", "prefix": "2001:db8:9::/48", "bgpvpn_id": None, "local_pref": None},
                {"type": "bgpvpn", "prefix": None, "bgpvpn_id": "green", "local_pref": 8},
                {"type": "bgpvpn", "prefix": None, "bgpvpn_id": "grey", "local_pref": None},
            ],
        },
    ),
    (
        "port",
        (
            "port create p --interface tap0 --netns red --mac 02:00:00:00:00:01 --ip 10.0.0.5/24 --ip 2001:db8::5/64"
            " --gateway 10.0.0.1 --gateway 2001:db8::1 --disable --project p --host h --device-owner compute:nova"
        ),
        {
            "name": "p",
            "project_id": "p",
            "network_id": None,
            "interface": "tap0",
            "netns": "red",
            "host": "h",
            "device_owner": "compute:nova",
            "mac_address": "02:00:00:00:00:01",
            "ip_addresses": ["10.0.0.5/24", "2001:db8::5/64"],
            "gateway_ips": ["10.0.0.1", "2001:db8::1"],
            "admin_state_up": False,
        },
    ),
    (
        "peer",
        (
            "peer create rr --address 192.0.2.2 --remote-as 65000 --port 1790 --local-as 65001"
            " --local-address 192.0.2.1 --family evpn --family rtc --passive --hold-time 30 --restart-time 60"
            " --multihop-ttl 9 --disable --long-lived 3600 --dynamic-limit 7 --import-policy reject"
            " --export-policy evpn=accept --client --add-path-receive evpn --add-path-send evpn --paths-out 2"
            " --role customer --strict-role --prefix-limit 100 --prefix-limit evpn=50:restart:60"
        ),
        {
            "name": "rr",
            "address": "192.0.2.2",
            "remote_as": 65000,
            "port": 1790,
            "local_as": 65001,
            "local_address": "192.0.2.1",
            "families": ["evpn", "rtc"],
            "passive": True,
            "hold_time_s": 30,
            "restart_time_s": 60,
            "multihop_ttl": 9,
            "admin_state_up": False,
            "long_lived_s": 3600,
            "dynamic_limit": 7,
            "import_policy": "reject",
            "export_policy": {"evpn": "accept"},
            "route_reflector_client": True,
            "add_path_receive": ["evpn"],
            "add_path_send": ["evpn"],
            "paths_out": 2,
            "role": "customer",
            "strict_role": True,
            "prefix_limits": {
                "all": {"most": 100, "warn_percent": 80, "action": "block", "restart_s": 300.0},
                "evpn": {"most": 50, "warn_percent": 80, "action": "restart", "restart_s": 60.0},
            },
        },
    ),
]


IN_TESTS_OF_THEIR_OWN: dict[Kind, set[str]] = {
    "network": {"subnets"},
    "port": {"ovs"},
    "peer": {"password", "tcp_ao", "ttl_security_hops"},
}


def around(daemon: Daemon) -> None:
    """Make what the objects of OPTIONS refer to, with ids like names."""
    daemon.node.write(
        [
            Network(id="inner"),
            Subnet(id="four", network_id="inner", cidr="10.0.0.0/24"),
            Subnet(id="six", name="six", network_id="inner", cidr="2001:db8::/64"),
            Port(id="inner1", network_id="inner", mac_address="02:00:00:00:00:05", ip_addresses=("10.0.0.5",)),
            Network(id="outer", external=True),
            Router(id="way", gateway_network_id="outer"),
            *(Bgpvpn(id=id_) for id_ in ("red", "green", "grey")),
            Peer(id="told", address="192.0.2.1", remote_as=64512, families=("ipv6",)),
            Speaker(id="out", local_as=64512),
        ]
    )


@pytest.mark.parametrize(("kind", "words", "wanted"), OPTIONS, ids=[kind for kind, _, _ in OPTIONS])
def test_create_has_an_option_for_every_field(daemon: Daemon, kind: Kind, words: str, wanted: dict[str, Any]) -> None:
    around(daemon)
    made = daemon.ask(words)
    assert {field: made[field] for field in wanted} == wanted
    assert wanted.keys() == set(CREATE[kind].__struct_fields__) - {"id"} - IN_TESTS_OF_THEIR_OWN.get(kind, set())
    asked = [word for word in words.split() if word.startswith("--")]
    command = words.split("--")[0].split()
    help_ = daemon.say(" ".join([*command[: 1 if command[0] in ("bind", "create") else 2], "--help"]))
    for option in asked:
        assert f" {option}" in help_ or f"/ {option}" in help_, option


def test_every_kind_has_its_options_tested() -> None:
    assert {kind for kind, _, _ in OPTIONS} == set(KINDS) - {"policy"}, "policies are written in files"


def test_set_replaces_what_is_given_and_leaves_the_rest(daemon: Daemon) -> None:
    told(daemon, WISHES["node1"])
    daemon.say("peer create rr --address 192.0.2.2 --remote-as 65000 --local-as 65001 --ttl-security-hops 1")
    for before, words, changed in [
        ("show blue", "set blue --route-target 1:1 --route-target 1:2", {"route_targets": ["1:1", "1:2"]}),
        ("show blue", "set blue --no-route-target --local-pref 9", {"route_targets": [], "local_pref": 9}),
        ("show seg", "set seg --no-vni --import-target 1:3", {"vni": None, "import_targets": ["1:3"]}),
        ("show seg", "set seg --local-pref 7 --disable", {"local_pref": 7, "admin_state_up": False}),
        ("show seg", "set seg --no-local-pref --enable", {"local_pref": None, "admin_state_up": True}),
        ("network show seg-net", "network set seg-net --mtu 1400", {"mtu": 1400}),
        ("network show seg-net", "network set seg-net --no-mtu", {"mtu": None}),
        ("port show seg1", "port set seg1 --ip 10.2.0.13", {"ip_addresses": ["10.2.0.13"]}),
        ("port show seg1", "port set seg1 --no-ip --netns red", {"ip_addresses": [], "netns": "red"}),
        ("port show seg1", "port set seg1 --no-ip --ip 10.2.0.14", {"ip_addresses": ["10.2.0.14"]}),
        ("port show seg1", "port set seg1 --host h --device-owner x", {"host": "h", "device_owner": "x"}),
        ("show blue", "set blue --no-route-target --route-target 1:9", {"route_targets": ["1:9"]}),
        (
            "show blue",
            "set blue --local-pref-range 5-10 --max-prefixes 3",
            {"local_pref_range": [5, 10], "max_prefixes": 3},
        ),
        (
            "show blue",
            "set blue --no-local-pref-range --no-max-prefixes",
            {"local_pref_range": None, "max_prefixes": None},
        ),
        ("peer show rr", "peer set rr --no-local-as --hold-time 30", {"local_as": None, "hold_time_s": 30}),
        ("peer show rr", "peer set rr --no-ttl-security-hops", {"ttl_security_hops": None}),
        ("peer show rr", "peer set rr --family ipv4 --family evpn", {"families": ["ipv4", "evpn"]}),
    ]:
        seen, now = daemon.ask(before), daemon.ask(words)
        assert {name: value for name, value in now.items() if seen[name] != value and name not in STAMPS} == changed, (
            words
        )
        assert daemon.ask(before) == now


@pytest.mark.parametrize("words", ["set blue --vni 5 --no-vni", "network set n --no-mtu --mtu 1400"])
def test_what_is_given_and_taken_away_at_once_is_wrong_usage(daemon: Daemon, words: str) -> None:
    refused = daemon.call(words)
    assert (refused.exit_code, "exclude each other" in refused.stderr) == (2, True)


def test_keys_of_TCP_AO_come_from_files_and_are_not_shown(daemon: Daemon, tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).write_text(f"{name} s3cret\n")
    told_ = daemon.ask(
        f"peer create rr --address 192.0.2.2 --remote-as 65000 --tcp-ao 2:3:aes-128-cmac-96:{tmp_path}/new"
        f" --tcp-ao 1:1:{tmp_path}/old"
    )
    assert told_["tcp_ao"] == [
        {"send_id": 2, "receive_id": 3, "secret": "***", "algorithm": "aes-128-cmac-96"},
        {"send_id": 1, "receive_id": 1, "secret": "***", "algorithm": "hmac-sha-1-96"},
    ]
    (peer,) = daemon.node.intent.peers.rows.values()
    assert [key.secret for key in peer.tcp_ao] == ["new s3cret", "old s3cret"]
    for words in ("1:2", "x:1:file", "1:1:/nowhere"):
        assert daemon.call(f"peer set rr --tcp-ao {words}").exit_code == 2, words
    assert daemon.ask("peer set rr --no-tcp-ao")["tcp_ao"] == []


def test_set_gives_a_new_name(daemon: Daemon) -> None:
    told(daemon, WISHES["node2"])
    daemon.say("peer create rr --address 192.0.2.2 --remote-as 65000")
    for words, shown in [
        ("set blue --name azure", "show azure"),
        ("network set blue-net --name azure-net", "network show azure-net"),
        ("port set blue2 --name azure2", "port show azure2"),
        ("peer set rr --name mirror", "peer show mirror"),
    ]:
        assert daemon.ask(words) == daemon.ask(shown)


def test_a_vpn_may_be_named_as_openstack_does_it_or_not_at_all(daemon: Daemon) -> None:
    assert daemon.ask("create --name blue")["name"] == "blue"
    nameless = daemon.ask("create")
    assert nameless["name"] == ""
    assert daemon.say("list").splitlines()[2].startswith(nameless["id"])
    assert daemon.call("create blue --name red").exit_code == 2


def test_a_gateway_belongs_to_the_subnet_before_it(daemon: Daemon) -> None:
    made = daemon.ask("network create n --subnet 10.0.0.0/24 --subnet=10.0.1.0/24 --gateway 10.0.1.1 --mtu 1400")
    assert [(each["cidr"], each["gateway_ip"]) for each in made["subnets"]] == [
        ("10.0.0.0/24", None),
        ("10.0.1.0/24", "10.0.1.1"),
    ]
    for words in (
        "--gateway 10.0.0.1 --subnet 10.0.0.0/24",
        "--subnet 10.0.0.0/24 --gateway 10.0.0.1 --gateway 10.0.0.2",
    ):
        refused = daemon.call(f"network create m {words}")
        assert (refused.exit_code, "follows no --subnet of its own" in refused.stderr) == (2, True), words


def test_a_subnet_is_known_by_its_network_and_cidr(daemon: Daemon) -> None:
    daemon.say("network create n --subnet 10.0.0.0/24")
    daemon.say("network create m --subnet 10.0.0.0/24")
    assert daemon.ask("subnet create n 2001:db8::/64 --name six")["network"] == "n"
    assert daemon.ask("subnet set n 10.0.0.0/24 --gateway 10.0.0.1")["gateway_ip"] == "10.0.0.1"
    assert [(each["network"], each["cidr"], each["gateway_ip"]) for each in daemon.ask("subnet list")] == [
        ("n", "10.0.0.0/24", "10.0.0.1"),
        ("m", "10.0.0.0/24", None),
        ("n", "2001:db8::/64", None),
    ]
    assert daemon.ask("subnet set n 10.0.0.0/24 --no-gateway")["gateway_ip"] is None
    daemon.say("subnet delete n 10.0.0.0/24 2001:db8::/64")
    assert daemon.ask("subnet list n") == []
    missing = daemon.call("subnet delete n 10.0.0.0/24")
    assert (missing.exit_code, missing.stderr) == (1, "error: network 'n' has no subnet '10.0.0.0/24'\n")


def test_lists_are_filtered(daemon: Daemon) -> None:
    told(daemon, WISHES["node1"])
    for words, names in [
        ("list", ["blue", "red", "seg"]),
        ("list --route-target 64512:200", ["red"]),
        ("list --property type=l2", ["seg"]),
        ("list --project nobody", []),
        ("port list --network red-net", ["red1"]),
        ("port list --property interface=seg1", ["seg1"]),
        ("network list --property name=seg-net", ["seg-net"]),
    ]:
        assert [each["name"] for each in daemon.ask(words)] == names, words


def test_what_is_bound_is_shown_with_its_vpn_by_name(daemon: Daemon) -> None:
    told(daemon, TWO_OF_A_NAME)
    daemon.say("bind twin blue --network")
    daemon.say("bind twin blue --port")
    shown = daemon.ask("show blue")
    assert (shown["networks"], shown["ports"]) == (["twin"], ["twin"])
    assert daemon.say("list") == (
        "name  type  route_targets  vni  networks  routers  ports  status  reason\n"
        "blue  l3    -              -    twin      -        twin   ACTIVE  -\n"
    )


@pytest.mark.parametrize("command", ["bind", "unbind"])
def test_a_name_of_a_network_and_a_port_is_refused_without_saying_which(daemon: Daemon, command: str) -> None:
    told(daemon, TWO_OF_A_NAME)
    refused = daemon.call(f"{command} twin blue")
    assert refused.exit_code == 2
    assert "there is a network 'twin' and a port 'twin'; say --network or --port" in refused.stderr
    assert daemon.ask("show blue")["networks"] == []


def test_a_port_is_bound_with_prefixes_behind_it(daemon: Daemon) -> None:
    told(daemon, TWO_OF_A_NAME)
    bound = daemon.ask("bind twin blue --port --prefix 10.9.0.0/16 --prefix 2001:db8:9::/48 --no-fixed-ips")
    assert [route["prefix"] for route in bound["routes"]] == ["10.9.0.0/16", "2001:db8:9::/48"]
    assert bound["advertise_fixed_ips"] is False
    refused = daemon.call("bind twin blue --network --prefix 10.9.0.0/16")
    assert (refused.exit_code, refused.stdout) == (1, "")


def test_unbinding_takes_one_of_several_bindings(daemon: Daemon) -> None:
    told(daemon, TWO_OF_A_NAME)
    daemon.say("create red")
    for vpn in ("blue", "red"):
        daemon.say(f"bind twin {vpn} --network")
    daemon.say("unbind twin red --network")
    assert [(vpn["name"], vpn["networks"]) for vpn in daemon.ask("list")] == [("blue", ["twin"]), ("red", [])]
    again = daemon.call("unbind twin red --network")
    assert (again.exit_code, again.stderr) == (1, "error: network 'twin' is not bound to VPN 'red'\n")


def test_deleting_several_goes_on_after_one_that_is_not_there(daemon: Daemon) -> None:
    for name in ("a", "b"):
        daemon.say(f"create {name}")
    result = daemon.call("delete a x y b")
    assert result.exit_code == 1
    assert result.stderr == "error: there is no bgpvpn 'x'\nerror: there is no bgpvpn 'y'\n"
    assert daemon.ask("list") == []


def test_a_vpn_with_the_name_of_a_view_is_shown_as_a_vpn(daemon: Daemon) -> None:
    for name in ("routes", "vpn"):
        daemon.say(f"create {name}")
        assert daemon.ask(f"show vpn {name}")["name"] == name
    assert daemon.ask("show routes") == []


def test_a_word_that_is_neither_a_vpn_nor_a_view_is_told_the_views(daemon: Daemon) -> None:
    refused = daemon.call("show sesions")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: there is no bgpvpn 'sesions', and the views are ")
    assert "sessions" in refused.stderr


@pytest.mark.parametrize("name", ["two words", "50%", "a?b=c&d", "#1", "%2e%2e", "...", "é+ü", "x;y"])
def test_names_may_have_what_urls_give_a_meaning(daemon: Daemon, name: str) -> None:
    daemon.say(f"create '{name}'")
    assert daemon.ask(f"show '{name}'")["name"] == name
    assert [each["name"] for each in daemon.ask(f"list --property 'name={name}'")] == [name]
    daemon.say(f"delete '{name}'")
    assert daemon.ask("list") == []


@pytest.mark.parametrize("words", ["show ''", "show a/b", "bind '' blue", "delete ../status"])
def test_what_cannot_be_a_name_is_wrong_usage(daemon: Daemon, words: str) -> None:
    refused = daemon.call(words)
    assert (refused.exit_code, "is not empty and has no slash" in refused.stderr) == (2, True)


def test_a_password_comes_from_a_file_or_is_typed_and_is_never_shown(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("s3cret\nsecond line\n")
    said = daemon.say(f"peer create rr --address 192.0.2.2 --remote-as 65000 --password-file {file}")
    peers = daemon.node.intent.peers
    assert [peer.password for peer in peers.rows.values()] == ["s3cret"]
    assert ("s3cret" in said, "***" in said) == (False, True)
    assert "s3cret" not in daemon.say("-f json peer show rr")
    for words, stdin, password in [
        ("peer set rr --password-file -", "another\n", "another"),
        ("peer set rr --hold-time 30", None, "another"),
        ("peer set rr --no-password", None, None),
        ("peer set rr --ask-password", "typed\ntyped\n", "typed"),
    ]:
        assert daemon.call(words, stdin).exit_code == 0, words
        assert [peer.password for peer in peers.rows.values()] == [password], words
    assert daemon.call(f"peer set rr --ask-password --password-file {file}", "x\nx\n").exit_code == 2
    assert daemon.call("peer set rr --password s3cret").exit_code == 2
    refused = daemon.call(f"peer set rr --no-password --password-file {file}")
    assert (refused.exit_code, "exclude each other" in refused.stderr) == (2, True)


def test_a_peer_is_known_by_its_address_too(daemon: Daemon) -> None:
    daemon.say("peer create rr --address 192.0.2.2 --remote-as 65000")
    assert daemon.ask("peer disable 192.0.2.2")["admin_state_up"] is False
    assert daemon.ask("peer enable rr")["admin_state_up"] is True
    daemon.say("peer delete 192.0.2.2")
    assert daemon.ask("peer list") == []


ROUTED = """
network create web --subnet 10.1.0.0/24 --subnet 2001:db8::/64
network create db --subnet 10.2.0.0/24
network create outside --external --subnet 192.0.2.0/24
port create web1 --network web --mac 02:00:00:00:00:01 --ip 10.1.0.5 --ip 10.1.0.6
peer create upstream --address 198.51.100.1 --remote-as 64500 --family ipv4
create blue
create red
"""


def test_a_port_is_plugged_into_open_vswitch(daemon: Daemon) -> None:
    port = "port create p --mac 02:00:00:00:00:01 --interface tap0"
    made = daemon.ask(
        f"{port} --ovs bridge=br-mpls,port=patch,vlan=5,fallback-port=2,fallback_src_mac=02:00:00:00:00:02"
    )
    assert made["ovs"] == {
        "bridge": "br-mpls",
        "port": "patch",
        "vlan": 5,
        "fallback_port": "2",
        "fallback_src_mac": "02:00:00:00:00:02",
    }
    assert daemon.ask("port set p --ovs bridge=br-int,port=7")["ovs"]["vlan"] is None
    assert daemon.ask("port set p --no-ovs")["ovs"] is None
    for wrong, said in (
        ("bridge=br,port=1,vlan=x", "--ovs vlan takes a number, not 'x'"),
        ("bridge", "and not 'bridge'"),
        ("bridge=a,bridge=b", "and not 'bridge=b'"),
        ("colour=red", "and not 'colour=red'"),
    ):
        refused = daemon.call(f"port set p --ovs {wrong}")
        assert (refused.exit_code, said in refused.stderr) == (2, True), refused.stderr


def test_a_router_has_subnets_by_their_networks_and_prefixes(daemon: Daemon) -> None:
    told(daemon, ROUTED)
    assert daemon.ask("router create r --subnet web/10.1.0.0/24 --route 10.9.0.0/16=10.1.0.5")["subnets"] == [
        "10.1.0.0/24"
    ]
    assert daemon.ask("router add subnet r db/10.2.0.0/24")["subnets"] == ["10.1.0.0/24", "10.2.0.0/24"]
    assert daemon.ask("router add subnet r db/10.2.0.0/24")["subnets"] == ["10.1.0.0/24", "10.2.0.0/24"]
    assert daemon.ask("router remove subnet r db/10.2.0.0/24")["subnets"] == ["10.1.0.0/24"]
    assert daemon.ask("router set r --gateway-network outside --gateway-ip 192.0.2.9")["gateway_network"] == "outside"
    assert daemon.ask("router set r --no-gateway-network --no-gateway-ip --no-route")["routes"] == []
    assert daemon.ask("router set r --no-subnet --subnet web/2001:db8::/64")["subnets"] == ["2001:db8::/64"]
    assert daemon.say("router list").splitlines()[1].split()[:2] == ["r", "2001:db8::/64"]
    for words, status, said in (
        ("router remove subnet r db/10.2.0.0/24", 1, "the router has no interface in subnet 'db/10.2.0.0/24'"),
        ("router add subnet r db/10.3.0.0/24", 1, "network 'db' has no subnet '10.3.0.0/24'"),
        ("router add subnet r nosuch", 1, "there is no subnet 'nosuch'"),
        ("router set r --route 10.9.0.0/16", 2, "--route takes DESTINATION=NEXTHOP, not '10.9.0.0/16'"),
        ("router set r --subnet nosuch", 1, "subnet_ids: there is no subnet 'nosuch'"),
    ):
        refused = daemon.call(words)
        assert (refused.exit_code, said in refused.stderr) == (status, True), refused.stderr
    daemon.say("router delete r")
    assert daemon.ask("router list") == []


def test_a_floating_address_is_known_by_itself(daemon: Daemon) -> None:
    told(daemon, ROUTED)
    daemon.say("floating-ip create outside 192.0.2.7")
    assert daemon.ask("floating-ip set 192.0.2.7 --port web1 --fixed-ip 10.1.0.6")["port"] == "web1"
    assert daemon.ask("floating-ip show 192.0.2.7")["fixed_ip"] == "10.1.0.6"
    assert daemon.ask("floating-ip set 192.0.2.7 --no-port")["fixed_ip"] is None
    assert [each["network"] for each in daemon.ask("floating-ip list")] == ["outside"]
    refused = daemon.call("floating-ip create web 192.0.2.8")
    assert (refused.exit_code, "network 'web' is not external" in refused.stderr) == (1, True)
    daemon.say("network create beyond --external --subnet 192.0.2.0/24")
    twin = daemon.ask("floating-ip create beyond 192.0.2.7")["id"]
    for words in ("show", "delete", "set --no-port"):
        refused = daemon.call(f"floating-ip {words} 192.0.2.7")
        assert (refused.exit_code, "say which by its id" in refused.stderr, twin in refused.stderr) == (1, True, True)
    daemon.say(f"floating-ip delete {twin}")
    daemon.say("floating-ip delete 192.0.2.7")
    assert daemon.ask("floating-ip list") == []


def test_a_speaker_has_networks_and_peers_and_tells_routes(daemon: Daemon) -> None:
    told(daemon, ROUTED)
    daemon.say("speaker create s --local-as 64512")
    assert daemon.ask("speaker add network s outside")["networks"] == ["outside"]
    assert daemon.ask("speaker add peer s 198.51.100.1")["peers"] == ["upstream"]
    assert daemon.ask("speaker set s --no-advertise-tenant-networks")["advertise_tenant_networks"] is False
    assert daemon.ask("speaker remove network s outside")["networks"] == []
    assert daemon.ask("speaker remove peer s upstream")["peers"] == []
    for words, said in (
        ("speaker remove peer s upstream", "speaker 's' has no peer 'upstream'"),
        ("speaker remove network s outside", "speaker 's' has no network 'outside'"),
        ("speaker add network s web", "network 'web' is not external"),
        ("speaker withdraw s 203.0.113.0/24", "speaker 's' advertises no '203.0.113.0/24' that somebody asked for"),
    ):
        refused = daemon.call(words)
        assert (refused.exit_code, said in refused.stderr) == (1, True), refused.stderr
    daemon.say("speaker advertise s 203.0.113.0/24 --next-hop 192.0.2.1")
    assert daemon.ask("speaker advertise s 203.0.113.0/24 --next-hop 192.0.2.2")["next_hop"] == "192.0.2.2"
    (speaker,) = daemon.node.intent.speakers.rows
    daemon.node.advertised_rows[speaker] = [{"destination": "203.0.113.0/24", "next_hop": "192.0.2.2", "why": "asked"}]
    daemon.node.learned_rows[speaker] = [{"destination": "0.0.0.0/0", "next_hop": "198.51.100.1", "peer": "upstream"}]
    assert len(daemon.ask("speaker routes s")["learned"]) == 1
    assert daemon.say("speaker routes s") == (
        "advertised:\n"
        "destination     next_hop   why\n"
        "203.0.113.0/24  192.0.2.2  asked\n"
        "\n"
        "learned:\n"
        "destination  next_hop      peer      as_path  best  why\n"
        "0.0.0.0/0    198.51.100.1  upstream  -        -     -\n"
    )
    daemon.say("speaker withdraw s 203.0.113.0/24")
    assert len(daemon.node.intent.advertisements) == 0
    daemon.say("speaker delete s")


def test_a_binding_is_changed_in_place(daemon: Daemon) -> None:
    told(daemon, ROUTED)
    daemon.say("bind web1 blue --prefix 10.9.0.0/16,local_pref=7 --leak red")
    before = daemon.ask("binding show web1 blue")
    assert (before["prefixes"], before["leaks"]) == (["10.9.0.0/16,local_pref=7"], ["red"])
    for words, prefixes, leaks in (
        ("--prefix 10.8.0.0/16", ["10.8.0.0/16"], ["red"]),
        ("--no-leak", ["10.8.0.0/16"], []),
        ("--no-leak --leak red,local-pref=0", ["10.8.0.0/16"], ["red,local_pref=0"]),
        ("--no-prefix --no-fixed-ips", [], ["red,local_pref=0"]),
        ("--direction to-port", [], ["red,local_pref=0"]),
    ):
        now = daemon.ask(f"binding set web1 blue {words}")
        assert (now["id"], now["prefixes"], now["leaks"]) == (before["id"], prefixes, leaks), words
    assert (now["direction"], now["advertise_fixed_ips"]) == ("to-port", False)
    (row,) = daemon.ask("binding list blue")
    assert (row["vpn"], row["port"]) == ("blue", "web1")
    assert daemon.ask("binding list red") == []
    for words, status, said in (
        ("binding set web1 red --no-leak", 1, "port 'web1' is not bound to VPN 'red'"),
        (
            "binding set web1 blue --prefix 10.9.0.0/16,local_pref=x",
            2,
            "--prefix 10.9.0.0/16,local_pref takes a number",
        ),
        ("binding set web1 blue --prefix 10.9.0.0/99", 1, "10.9.0.0/99"),
        ("binding set web1 blue --leak nosuch", 1, "there is no bgpvpn 'nosuch'"),
    ):
        refused = daemon.call(words)
        assert (refused.exit_code, said in refused.stderr) == (status, True), refused.stderr


def test_a_router_is_bound_without_its_extra_routes(daemon: Daemon) -> None:
    told(daemon, ROUTED)
    daemon.say("router create r --subnet web/10.1.0.0/24")
    assert daemon.ask("bind r blue --no-extra-routes")["advertise_extra_routes"] is False
    assert daemon.ask("show blue")["routers"] == ["r"]
    assert daemon.ask("binding set r blue --extra-routes")["advertise_extra_routes"] is True
    daemon.say("unbind r blue")
    assert daemon.ask("show blue")["routers"] == []
