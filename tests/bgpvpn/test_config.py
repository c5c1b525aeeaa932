from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Any

import attrs
import pytest

from bgpvpn.config import (
    BMP_OPTIONS,
    CLIENT_OPTIONS,
    PEER_OPTIONS,
    POLICY_OPTIONS,
    SECTIONS,
    BmpConfig,
    Config,
    ConfigError,
)
from bgpvpn.objects import AoKey, Peer, Policy
from speaker.policy import AsPathMatch, Changes, Edit, Match
from speaker.terms import PrefixLimit

EXAMPLE = Path(__file__).resolve().parents[2] / "conf" / "bgpvpn.toml"
NODE = '[node]\nrouter_id = "192.0.2.11"\nlocal_as = 64512\ntunnel_ip = "192.0.2.11"\n'


def parse(text: str) -> Config:
    return Config.parse(text, Path("/etc/bgpvpn/bgpvpn.toml"))


def uncommented(text: str) -> dict[str, Any]:
    """The example with every commented option switched on."""
    return tomllib.loads(re.sub(r"(?m)^#(?=[\[a-z])", "", text))


def names_in(value: Any) -> set[str]:
    """Every name of an option in a tree, however deep."""
    if isinstance(value, dict):
        return set(value).union(*map(names_in, value.values()))
    return set().union(*map(names_in, value)) if isinstance(value, list) else set()


def test_the_example_is_a_valid_file() -> None:
    assert Config.load(EXAMPLE) == parse(NODE)


def test_the_example_has_every_option_with_its_default() -> None:
    example = uncommented(EXAMPLE.read_text())
    assert set(example) == {*SECTIONS, "policy", "peer", "bmp"}
    (policy,) = example.pop("policy")
    assert list(policy) == POLICY_OPTIONS
    for name, section in SECTIONS.items():
        assert list(example[name]) == [field.name for field in attrs.fields(section)], name
    assert sorted(example["peer"][0]) == sorted(PEER_OPTIONS)
    (peer,) = example.pop("peer")
    (client,) = example["api"].pop("client")
    assert tuple(client) == CLIENT_OPTIONS
    (station,) = example.pop("bmp")
    assert list(station) == BMP_OPTIONS
    shown = BmpConfig(**{key: tuple(value) if isinstance(value, list) else value for key, value in station.items()})
    assert shown == BmpConfig(address=shown.address, port=shown.port)
    lines = [
        f"[{name}]\n" + "".join(f"{k} = {_toml(v)}\n" for k, v in section.items()) for name, section in example.items()
    ]
    assert parse("\n".join(lines)) == parse(NODE), "the values that are shown are the defaults"
    for field in attrs.fields(Peer):
        if field.default not in (attrs.NOTHING, None, ()) and field.name in peer:
            shown = tuple(peer[field.name]) if isinstance(peer[field.name], list) else peer[field.name]
            assert shown == field.default, f"peer.{field.name}"


TOKEN = "t0ken-of-the-automation"


def clients(folder: Path, *sections: str, api: str = "") -> Config:
    """Read a file with these [[api.client]] sections, beside a file with a token."""
    (folder / "token").write_text(TOKEN + "\n")
    (folder / "token").chmod(0o600)
    lines = "".join(f"[[api.client]]\n{section}\n" for section in sections)
    return Config.parse(f"{NODE}[api]\n{api}\n{lines}", folder / "bgpvpn.toml")


def test_clients_of_the_API_are_users_groups_and_tokens(tmp_path: Path) -> None:
    digest = hashlib.sha256(TOKEN.encode()).digest()
    (tmp_path / "hashed").write_text(f"sha256:{hashlib.sha256(b'another').hexdigest()}\n")
    (tmp_path / "hashed").chmod(0o640)
    config = clients(
        tmp_path,
        'user = "root"\nrole = "operator"',
        'group = "root"\nrole = "owner"\nproject = "blue"',
        'token_file = "token"\nrole = "owner"\nproject = "red"',
        'token_file = "hashed"\nrole = "operator"',
        api='tcp = "0.0.0.0:8179"',
    )
    assert [(each.uid, each.gid, each.digest, each.role, each.project) for each in config.api.client] == [
        (0, None, b"", "operator", ""),
        (None, 0, b"", "owner", "blue"),
        (None, None, digest, "owner", "red"),
        (None, None, hashlib.sha256(b"another").digest(), "operator", ""),
    ]
    assert config.api.tcp == ("0.0.0.0", 8179)
    assert TOKEN not in repr(config)


def test_a_client_that_cannot_be_is_told_with_all_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("short")
    (tmp_path / "short").chmod(0o600)
    (tmp_path / "open").write_text(TOKEN)
    (tmp_path / "open").chmod(0o640)
    (tmp_path / "all").write_text(TOKEN)
    (tmp_path / "all").chmod(0o644)
    token = 'token_file = "token"\n'
    for sections, fault in [
        (['role = "operator"'], "line 8: api.client[0].role: takes exactly one of user, group, token_file"),
        ([f'{token}user = "root"\nrole = "operator"'], "api.client[0].token_file: takes exactly one of"),
        (['user = "root"'], "api.client[0].role: is wanted"),
        (['user = "root"\nrole = "admin"'], "api.client[0].role: takes operator or owner, not 'admin'"),
        (['user = "root"\nrole = "owner"'], "api.client[0].project: an owner has a project"),
        (['user = "root"\nrole = "operator"\nproject = "p"'], "api.client[0].project: an owner has"),
        (['user = "nosuch"\nrole = "operator"'], "api.client[0].user: there is no user 'nosuch' on this host"),
        (['group = "nosuch"\nrole = "operator"'], "api.client[0].group: there is no group 'nosuch'"),
        (['token_file = "none"\nrole = "operator"'], "api.client[0].token_file: none cannot be read"),
        (['token_file = "short"\nrole = "operator"'], "token_file: short has no token: 20 characters"),
        (['token_file = "open"\nrole = "operator"'], "token_file: open has a token that its group can read"),
        (['token_file = "all"\nrole = "operator"'], "can be read by everybody"),
        ([f'{token}role = "operator"'] * 2, "api.client[1].token_file: another [[api.client]] has this token"),
        (['user = "root"\nrole = "operator"\ncolour = 1'], "api.client[0].colour: is not known"),
        (['user = 5\nrole = "operator"'], "api.client[0].user: takes text, not 5"),
    ]:
        with pytest.raises(ConfigError) as refused:
            clients(tmp_path, *sections)
        assert fault in str(refused.value), f"{sections}: {refused.value}"
        assert TOKEN not in str(refused.value)


def test_TCP_needs_a_token_where_there_are_clients_and_beyond_the_loopback(tmp_path: Path) -> None:
    user, token = 'user = "root"\nrole = "operator"', 'token_file = "token"\nrole = "operator"'
    for sections, tcp, fault in [
        ([user], "127.0.0.1:80", "api.tcp: callers by TCP need a token, and no [[api.client]] has a token_file"),
        ([user], "[::]:80", "api.tcp: callers by TCP need a token"),
        ([], "0.0.0.0:80", "api.tcp: takes an address of the loopback only, unless an [[api.client]] has a token_file"),
    ]:
        with pytest.raises(ConfigError) as refused:
            clients(tmp_path, *sections, api=f'tcp = "{tcp}"')
        assert fault in str(refused.value)
    for sections, tcp in [([], "[::1]:80"), ([user, token], "192.0.2.1:80"), ([token], "127.0.0.1:80")]:
        assert clients(tmp_path, *sections, api=f'tcp = "{tcp}"').api.tcp is not None


def test_the_example_has_every_option_of_a_policy() -> None:
    example = uncommented(EXAMPLE.read_text())
    (policy,), (peer,) = example["policy"], example["peer"]
    (statement,) = policy["statement"]
    renamed = {"next_hops": "next_hop"}
    assert set(statement) == {"name", "match", "set", "then"}
    assert set(statement["match"]) == {renamed.get(field.name, field.name) for field in attrs.fields(Match)}
    assert set(statement["match"]["as_path"]) == {field.name for field in attrs.fields(AsPathMatch)}
    assert set(statement["set"]) == {field.name for field in attrs.fields(Changes)}
    assert names_in(statement["set"]) >= {field.name for field in attrs.fields(Edit)}
    assert names_in(peer["tcp_ao"]) == {field.name for field in attrs.fields(AoKey)} - {"secret"} | {"key_file"}
    Policy(id=policy["name"], **policy)


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')


def test_what_is_set_is_what_is_read() -> None:
    config = parse(
        '[node]\nrouter_id = "192.0.2.11"\nlocal_as = 64512\ntunnel_ip = ["192.0.2.11", "2001:DB8::B"]\n'
        '[bgp]\nfamilies = ["evpn"]\nhold_time_s = 9\n'
        '[[peer]]\nname = "rr"\naddress = "192.0.2.100"\nremote_as = 64512\n'
        '[[peer]]\naddress = "2001:DB8::1"\nremote_as = 1\nfamilies = ["vpnv4"]\nhold_time_s = 30\n'
        '[api]\nmode = "0600"\ntcp = "[::1]:8179"\n[labels]\nrange = [100, 100]\n'
    )
    assert config.node.tunnel_ip == ("192.0.2.11", "2001:db8::b")
    assert (config.api.mode, config.api.tcp) == (0o600, ("::1", 8179))
    assert config.labels.range == range(100, 101)
    assert [(peer.id, peer.families, peer.hold_time_s) for peer in config.peers] == [
        ("configured-192.0.2.100", ("evpn",), 9),
        ("configured-2001:db8::1", ("vpnv4",), 30),
    ]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", ["node.router_id: is wanted", "node.local_as: is wanted", "node.tunnel_ip: is wanted"]),
        (
            NODE + "lcoal_as = 5\n[api]\n# nothing\nmode = 660\n[nod]\n",
            [
                "line 5: node.lcoal_as: is not known; did you mean local_as?",
                "line 8: api.mode: takes text, not 660",
                "line 9: nod: is not known; did you mean node?",
            ],
        ),
        (
            NODE.replace("64512", "0").replace('"192.0.2.11"', '"fe80::1"'),
            [
                "line 2: node.router_id: takes 4 octets written as an IPv4 address, not 'fe80::1'",
                "line 3: node.local_as: takes a number from 1 to 4294967295, not 0",
                "line 4: node.tunnel_ip: 'fe80::1' is a multicast, unspecified or link-local address",
            ],
        ),
        (NODE + '[api]\ntcp = "0.0.0.0:80"\n', ["line 6: api.tcp: takes an address of the loopback only"]),
        (NODE + '[api]\ntcp = "127.0.0.1"\n', ['line 6: api.tcp: takes "off" or ADDRESS:PORT']),
        (NODE + "[labels]\nrange = [0, 5]\n", ["line 6: labels.range: takes a number from 16 to 1048575, not 0"]),
        (NODE + "[vni]\nrange = [5, 4]\n", ["line 6: vni.range: begins above its end: [5, 4]"]),
        (NODE + "[vni]\nrange = 5\n", ["line 6: vni.range: takes the first and the last number"]),
        (
            NODE + 'tunnel_ip_ = ""\n[store]\npath = "x"\n',
            ["line 5: node.tunnel_ip_", "line 7: store.path: takes a path"],
        ),
        (NODE + '[log]\nlevel = "loud"\n', ["line 6: log.level: takes debug, info, warning or error, not 'loud'"]),
        (NODE + "[bgp]\nhold_time_s = 2\n", ["line 6: bgp.hold_time_s: takes 0 or at least 3 seconds"]),
        (
            NODE + '[[peer]]\naddress = "192.0.2.1"\nremote_as = 1\n[[peer]]\nremote_as = 0\nadress = "x"\n',
            ["line 8: peer[1].address: is wanted", "line 10: peer[1].adress: is not known; did you mean address?"],
        ),
        (
            NODE + '[[peer]]\naddress = "192.0.2.1"\nremote_as = 0\n',
            ["line 7: peer[0].remote_as: takes a number from 1"],
        ),
        (
            NODE + 2 * '[[peer]]\naddress = "192.0.2.1"\nremote_as = 1\n',
            ["line 9: peer[1].address: 192.0.2.1 has a [[peer]] already"],
        ),
        (
            NODE + '[[peer]]\naddress = "192.0.2.1"\nremote_as = 1\npassword_file = "/nowhere/key"\n',
            ["line 8: peer[0].password_file: /nowhere/key cannot be read: No such file"],
        ),
        (
            NODE + '[[peer]]\naddress = "192.0.2.1"\nremote_as = 1\nrolle = "peer"\nport = 0\n'
            'password_file = "/nowhere/key"\nimport_policy = "nope"\npaths_out = 99\ntcp_ao = 5\n',
            [
                "line 8: peer[0].rolle: is not known; did you mean role?",
                "line 9: peer[0].port: takes a number from 1 to 65535, not 0",
                "line 10: peer[0].password_file: /nowhere/key cannot be read: No such file",
                "line 11: peer[0].import_policy: there is no [[policy]] 'nope'",
                "line 12: peer[0].paths_out: takes a number from 1 to 32, not 99",
                "line 13: peer[0].tcp_ao: takes a list of tables",
            ],
        ),
        (
            NODE + '[[peer]]\naddress = "192.0.2.1"\nremote_as = 1\nstrict_role = true\nrole = "pear"\n'
            '[[policy]]\nname = "in"\ndefalt = "no"\ndefault = "no"\n',
            [
                "line 9: peer[0].role: takes ",
                "line 12: policy[0].defalt: is not known; did you mean default?",
                "line 13: policy[0].default: takes accept or reject, not 'no'",
            ],
        ),
        (
            NODE + "peer = 5\n[peer]\n",
            ["line 5: node.peer: is not known", "line 6: peer: is a list of sections, [[peer]]"],
        ),
        ("node = 5\n", ["line 1: node: is a section, [node]"]),
        (NODE + "x = = 5\n", ["syntax: "]),
    ],
)
def test_all_errors_are_told_at_once_with_their_lines(text: str, faults: list[str]) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse(text)
    told = [str(fault) for fault in refusal.value.faults]
    assert len(told) == len(faults), told
    for said, expected in zip(told, faults, strict=True):
        assert said.startswith(expected)
    assert all(line.startswith("/etc/bgpvpn/bgpvpn.toml: ") for line in str(refusal.value).splitlines())


def test_everything_that_is_wrong_with_a_policy_is_told_with_its_line() -> None:
    text = """
[[policy]]
name = "fine"
[[policy.statement]]
then = "next"
[[policy]]
name = "in"
default = "no"
[[policy.statement]]
name = "a"
match.prefixes = ["10.0.0.0/8 le 24", "10.0.0.0/8 le 7"]
match.as_path = { neighbour_as = [0], max_len = 3 }
then = "acept"
[[policy.statement]]
  [policy.statement.match]
  communities = ["64512:1",
     "no-exprt"]
[[policy]]
nam = 3
[[peer]]
address = "192.0.2.1"
remote_as = 1
import_policy = "nope"
export_policy = { vpnv4 = "in", evpn = "out" }
"""
    with pytest.raises(ConfigError) as refusal:
        parse(NODE + text)
    told = [str(fault) for fault in refusal.value.faults]
    for said, expected in zip(
        told,
        [
            "line 12: policy[1].default: takes accept or reject, not 'no'",
            "line 15: policy[1].statement[0].match.prefixes[1]: '10.0.0.0/8 le 7' has lengths that no prefix",
            "line 16: policy[1].statement[0].match.as_path.max_len: is not known; did you mean max_length?",
            "line 17: policy[1].statement[0].then: takes accept, reject or next, not 'acept'",
            "line 18: policy[1].statement[1].then: is wanted",
            "line 20: policy[1].statement[1].match.communities[1]: takes two numbers",
            "line 22: policy[2].name: is wanted",
            "line 23: policy[2].nam: is not known; did you mean name?",
            "line 27: peer[0].import_policy: there is no [[policy]] 'nope'",
            "line 28: peer[0].export_policy: there is no [[policy]] 'out'",
        ],
        strict=True,
    ):
        assert said.startswith(expected), told


def test_a_peer_can_be_all_those_in_a_prefix_and_have_policies_and_limits(tmp_path: Path) -> None:
    (tmp_path / "ao").write_text("s3cret\n")
    (tmp_path / "ao").chmod(0o600)
    (tmp_path / "bgpvpn.toml").write_text(
        NODE + '[[policy]]\nname = "in"\n[[peer]]\naddress = "192.0.2.1/24"\nremote_as = 1\nimport_policy = "in"\n'
        'tcp_ao = [{ send_id = 5, receive_id = 6, key_file = "ao" }]\n'
        'prefix_limits = { vpnv4 = 10, all = { most = 5, action = "warn" } }\n'
    )
    config = Config.load(tmp_path / "bgpvpn.toml")
    (peer,), (policy,) = config.peers, config.policies
    assert (peer.id, peer.address, peer.dynamic) == ("configured-192.0.2.0-24", "192.0.2.0/24", True)
    assert peer.tcp_ao == (AoKey(send_id=5, receive_id=6, secret="s3cret"),)
    assert peer.prefix_limits == {"vpnv4": PrefixLimit(most=10), "all": PrefixLimit(most=5, action="warn")}
    assert (policy.id, policy.read().default) == ("in", "reject")
    assert "s3cret" not in repr(config)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: file: cannot be read: No such file or directory"):
        Config.load(tmp_path / "none.toml")


def test_a_password_comes_from_a_file_that_others_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "bgpvpn.toml").write_text(
        NODE + '[[peer]]\naddress = "192.0.2.1"\nremote_as = 1\npassword_file = "rr.key"\n'
    )
    key = tmp_path / "rr.key"
    key.write_text("s3cret\n")
    key.chmod(0o644)
    with pytest.raises(ConfigError, match=r"line 8: peer\[0\].password_file: .*rr.key can be read by everybody"):
        Config.load(tmp_path / "bgpvpn.toml")
    key.chmod(0o600)
    config = Config.load(tmp_path / "bgpvpn.toml")
    assert config.peers[0].password == "s3cret"
    assert "s3cret" not in repr(config)
    key.write_text("x" * 81)
    with pytest.raises(ConfigError, match=r"line 8: peer\[0\].password_file: takes 1 to 80 octets"):
        Config.load(tmp_path / "bgpvpn.toml")
