from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from bgpvpn.bagpipe.conf import Translation, address_of, load
from bgpvpn.config import Config, ConfigError

AGENT = """
[BGP]
local_address=eth0
peers=192.168.0.101, 192.168.0.102
my_as=64512
enable_rtc=True

[COMMON]
root_helper = sudo

[API]
host=localhost
port=8083

[DATAPLANE_DRIVER_IPVPN]
dataplane_driver = ovs
mpls_interface=*gre*
ovs_bridge = "br-vpn"
ovsbr_interfaces_mtu=4000
gre_tunnel_options="packet_type=legacy_l3"
dataplane_local_address = 192.168.7.1

[dataplane_driver_evpn]
dataplane_driver = linux
# a comment
vxlan_dst_port: 8472
"""


def find(interface: str) -> str:
    if interface != "eth0":
        raise OSError(19, "No such device")
    return "192.168.100.177"


def translated(folder: Path, text: str) -> Translation:
    path = folder / "bgp.conf"
    path.write_text(text)
    return load(path, find)


def test_a_bgp_conf_is_a_whole_configuration_with_our_defaults(tmp_path: Path) -> None:
    translation = translated(tmp_path, AGENT)
    assert translation.remarks == ()
    config = translation.config(tmp_path / "bgp.conf")
    assert (config.node.router_id, config.node.local_as) == ("192.168.100.177", 64512)
    assert config.node.tunnel_ip == ("192.168.7.1",)
    assert config.bagpipe.listen == ("127.0.0.1", 8083)
    assert (config.bagpipe.ipvpn_bridge, config.bagpipe.evpn_bridge) == ("br-vpn", "br-tun")
    assert config.bgp.listen == ()
    assert "rtc" in config.bgp.families
    assert [(peer.address, peer.remote_as, peer.local_address, peer.port) for peer in config.peers] == [
        ("192.168.0.101", 64512, "192.168.100.177", 179),
        ("192.168.0.102", 64512, "192.168.100.177", 179),
    ]
    assert config.dataplane.kind == "linux"
    assert config.dataplane.vxlan_port == 8472
    assert tomllib.loads(translation.text()) == translation.tree


def test_a_short_one_has_the_defaults_of_bagpipe_bgp(tmp_path: Path) -> None:
    text = "[bgp]\nlocal_address=192.0.2.1\nmy_as=64512\nenable_rtc=false\nbgp_port=1179\npeers=192.0.2.9"
    config = Config.parse(translated(tmp_path, text).text(), tmp_path / "bgp.conf")
    assert config.bagpipe.listen == ("127.0.0.1", 8082)
    assert config.bgp.families == ("vpnv4", "vpnv6", "evpn")
    assert config.peers[0].port == 1179
    assert config.dataplane.kind == "dryrun"  # both drivers are the dummy one


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    text = "[BGP]\nlocal_address=eth9\nmy_as=70000\npeers=rr.example\nenable_rtc=maybe\n[API]\nhost=here\nport=0\n"
    with pytest.raises(ConfigError) as caught:
        translated(tmp_path, text)
    assert [fault.key for fault in caught.value.faults] == [
        "BGP.local_address",
        "BGP.my_as",
        "BGP.enable_rtc",
        "BGP.peers",
        "API.port",
        "API.host",
    ]
    for text, words in [
        ("", "BGP.local_address: is wanted\n.*BGP.my_as: is wanted"),
        ("no section\n", "syntax: File contains no section headers"),
        (f"[BGP]\nlocal_address=192.0.2.1\nmy_as={'9' * 5000}\n", "BGP.my_as: takes a number"),
    ]:
        with pytest.raises(ConfigError, match=words):
            translated(tmp_path, text)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "missing")


def test_what_only_its_meaning_shows_to_be_wrong_is_told_without_lines_that_the_file_has_not(tmp_path: Path) -> None:
    text = "[BGP]\nlocal_address=127.0.0.1\nmy_as=64512\n[DATAPLANE_DRIVER_IPVPN]\novs_bridge=br\x01\n"
    with pytest.raises(ConfigError) as caught:
        translated(tmp_path, text).config(tmp_path / "bgp.conf")
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/bgp.conf: node.tunnel_ip: '127.0.0.1' is a loopback address",
        f"{tmp_path}/bgp.conf: bagpipe.ipvpn_bridge: takes no control characters: 'br\\x01'",
    ]


def test_an_IPv6_peer_is_not_asked_from_the_IPv4_address(tmp_path: Path) -> None:
    text = "[BGP]\nlocal_address=192.0.2.1\nmy_as=64512\npeers=2001:db8::1, 192.0.2.9\n"
    config = translated(tmp_path, text).config(tmp_path / "bgp.conf")
    assert [(each.address, each.local_address) for each in config.peers] == [
        ("2001:db8::1", None),
        ("192.0.2.9", "192.0.2.1"),
    ]


def test_a_remark_stays_in_its_line_whatever_it_is_about(tmp_path: Path) -> None:
    driver = "[DATAPLANE_DRIVER_IPVPN]\ndataplane_driver=linux\nmpls_interface=eth1\n  eth\x02\n"
    translation = translated(tmp_path, f"[BGP]\nlocal_address=192.0.2.1\nmy_as=64512\npeers=192.0.2.9\n{driver}")
    assert "# MPLS is carried over GRE, not bare on eth1 eth?." in translation.text().splitlines()
    assert tomllib.loads(translation.text()) == translation.tree


def test_what_is_otherwise_than_it_was_is_remarked(tmp_path: Path) -> None:
    for more, words in [
        ("[DATAPLANE_DRIVER_IPVPN]\ndataplane_driver=linux\nmpls_interface=eth1", "MPLS is carried over GRE, not bare"),
        ("[DATAPLANE_DRIVER_IPVPN]\ndataplane_driver=ovs\nvxlan_encap=True", "not by VXLAN"),
        ("[DATAPLANE_DRIVER_IPVPN]\ndataplane_driver=ovs", "MPLS lies in GRE directly"),
        ("[DATAPLANE_DRIVER_EVPN]\ndataplane_driver=linux", "VXLAN has the port 4789"),
        ("[DATAPLANE_DRIVER_EVPN]\ndataplane_driver=linux", "The dummy driver of ipvpns is not kept"),
        ("", "nothing is written to the kernel"),
        ("[API]\nhost=192.0.2.1", "Only processes of this node may attach"),
        ("[API]\nnovelty=1", r"\[API\] novelty means nothing here"),
    ]:
        translation = translated(tmp_path, f"[BGP]\nlocal_address=192.0.2.1\nmy_as=64512\n{more}\n")
        assert any(words.replace("\\", "") in each for each in translation.remarks), (words, translation.remarks)
        assert all(f"# {each}" in translation.text() for each in translation.remarks)


def test_it_adds_to_a_bgpvpn_toml_whose_own_sections_count(tmp_path: Path) -> None:
    path = tmp_path / "bgpvpn.toml"
    path.write_text(
        '[node]\nrouter_id = "192.0.2.5"\nlocal_as = 64513\ntunnel_ip = "192.0.2.5"\n[bagpipe]\nevpn_bridge = "br-x"\n'
        '[[peer]]\naddress = "192.168.0.102"\nremote_as = 64512\nname = "mine"\n'
    )
    config = Config.load(path, translated(tmp_path, AGENT).tree)
    assert (config.node.router_id, config.node.local_as) == ("192.0.2.5", 64513)
    assert [(peer.address, peer.name) for peer in config.peers] == [("192.168.0.102", "mine"), ("192.168.0.101", "")]
    assert (config.bagpipe.listen, config.bagpipe.evpn_bridge) == (("127.0.0.1", 8083), "br-x")
    assert config.bgp.listen == ()


def test_the_address_of_an_interface_is_the_kernels() -> None:
    assert address_of("lo") == "127.0.0.1"
    with pytest.raises(OSError, match="No such device"):
        address_of("no-such-device")
