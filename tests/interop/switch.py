"""Open vSwitch in a node of a lab, with the bridges, patch ports and flows that Neutron's agent makes.

    tenants -- br-int -- patch-tun|patch-int -- br-tun -- patch-to-mpls|patch-from-tun -- br-mpls
                 +------------- patch-int-from-mpls|patch-mpls-to-int ----------------------+

The flows are those of neutron-openvswitch-agent with its ARP responder, and of networking-bagpipe's agent extension,
as far as frames of our tests meet them. Another node of the agent's own mesh stands behind a port of br-tun.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
from collections.abc import Mapping

import attrs

from lab.runner import Lab, eventually

GATEWAY_MAC, FALLBACK_MAC = "00:00:5e:00:43:64", "00:00:5e:2a:10:00"
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
RUN = "/run/openvswitch"

UNICAST, MULTICAST = "dl_dst=00:00:00:00:00:00/01:00:00:00:00:00", "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00"
LEARN = (
    "learn(table=20,cookie=0xa,priority=1,hard_timeout=300,NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],"
    "load:0->NXM_OF_VLAN_TCI[],load:NXM_NX_TUN_ID[]->NXM_NX_TUN_ID[],output:NXM_OF_IN_PORT[])"
)


@attrs.frozen
class Switch:
    """Open vSwitch in a node; `datapath` is "system", the kernel's module, or "netdev", ovs-vswitchd itself."""

    lab: Lab
    node: str
    datapath: str

    def start(self) -> None:
        """Start it with an empty database."""
        module = "openvswitch" if self.datapath == "system" else "tun"
        subprocess.run(["modprobe", "-q", module], check=False)  # in the kernel already, it is no module
        self.sh(f"mkdir -p {RUN}; ovsdb-tool create {RUN}/conf.db {SCHEMA}")
        self.lab.spawn(self.node, "ovsdb-server", ["ovsdb-server", f"{RUN}/conf.db", f"--remote=punix:{RUN}/db.sock"])
        eventually(lambda: self.lab.call(self.node, "test", "-S", f"{RUN}/db.sock").returncode == 0, 10, "the database")
        self.sh("ovs-vsctl --no-wait init")
        self.start_switching()

    def start_switching(self) -> None:
        """Start ovs-vswitchd, which makes what the database says, without flows."""
        self.lab.spawn(self.node, "ovs-vswitchd", ["ovs-vswitchd", f"unix:{RUN}/db.sock"])
        self.sh("ovs-vsctl --timeout=20 show")

    def kill_switching(self) -> None:
        """End ovs-vswitchd without a word to it."""
        self.lab.stop(self.node, "ovs-vswitchd", signal.SIGKILL)

    def sh(self, script: str) -> str:
        """Run a script in the node and return what it says."""
        return self.lab.run(self.node, "sh", "-ec", script)

    def vsctl(self, *commands: str) -> str:
        """Do several commands at once."""
        return self.sh(f"ovs-vsctl --timeout=20 {' -- '.join(commands)}").strip()

    def flow(self, bridge: str, *flows: str) -> None:
        """Add flows as the agent does, with its cookie."""
        text = "\n".join(f"cookie=0xa,{flow}" for flow in flows)
        self.sh(f"echo {shlex.quote(text)} | ovs-ofctl -O OpenFlow13 --names add-flows {bridge} -")

    def flows(self, bridge: str) -> str:
        """The flows of a bridge with the names of ports."""
        return self.sh(f"ovs-ofctl -O OpenFlow13 --names dump-flows {bridge}")

    def number(self, port: str) -> int:
        """The OpenFlow number of a port."""
        return int(self.vsctl(f"get Interface {port} ofport"))

    def wire(self, tenants: Mapping[str, int], mesh: str) -> None:
        """Make the bridges; `tenants` are interfaces of br-int with their VLANs, `mesh` one of br-tun."""
        commands = []
        for bridge in ("br-int", "br-tun", "br-mpls"):
            commands += [f"add-br {bridge}", f"set Bridge {bridge} datapath_type={self.datapath} fail_mode=secure"]
        for bridge, port, peer in (
            ("br-int", "patch-tun", "patch-int"),
            ("br-tun", "patch-int", "patch-tun"),
            ("br-tun", "patch-to-mpls", "patch-from-tun"),
            ("br-mpls", "patch-from-tun", "patch-to-mpls"),
            ("br-mpls", "patch-mpls-to-int", "patch-int-from-mpls"),
            ("br-int", "patch-int-from-mpls", "patch-mpls-to-int"),
        ):
            commands.append(f"add-port {bridge} {port}")
            commands.append(f"set Interface {port} type=patch options:peer={peer}")
        commands += [f"add-port br-int {tenant} tag={vlan}" for tenant, vlan in tenants.items()]
        commands.append(f"add-port br-tun {mesh}")
        self.vsctl(*commands)

    def agent(self, vlan: int, mesh: str, mesh_vlan: int) -> None:
        """Write the flows that are there for all networks, and those of the mesh for one."""
        self.flow("br-int", "table=0,priority=0,actions=NORMAL")
        self.flow(
            "br-tun",
            "table=0,priority=1,in_port=patch-int,actions=resubmit(,2)",
            f"table=0,priority=1,in_port={mesh},actions=push_vlan:0x8100,mod_vlan_vid:{mesh_vlan},resubmit(,10)",
            "table=0,priority=0,actions=drop",
            "table=2,priority=1,arp,dl_dst=ff:ff:ff:ff:ff:ff,actions=resubmit(,21)",
            f"table=2,priority=0,{UNICAST},actions=resubmit(,20)",
            f"table=2,priority=0,{MULTICAST},actions=resubmit(,22)",
            f"table=10,priority=1,actions={LEARN},output:patch-int",
            "table=20,priority=0,actions=resubmit(,22)",
            "table=21,priority=0,actions=resubmit(,22)",
            f"table=22,priority=1,dl_vlan={mesh_vlan},actions=strip_vlan,output:{mesh}",
            "table=22,priority=0,actions=drop",
            f"table=2,priority=2,dl_src={FALLBACK_MAC},{UNICAST},actions=resubmit(,20)",
            f"table=2,priority=2,dl_src={FALLBACK_MAC},{MULTICAST},actions=resubmit(,22)",
            "table=0,priority=32768,in_port=patch-to-mpls,actions=output:patch-int",
        )
        self.redirect(vlan, GATEWAY_MAC)

    def redirect(self, vlan: int, mac: str) -> None:
        """Send frames to a router to br-mpls."""
        match = f"in_port=patch-int,dl_dst={mac},dl_vlan={vlan}"
        self.flow("br-tun", f"table=2,priority=1,{match},actions=output:patch-to-mpls")

    def answer_for(self, vlan: int, gateway: str) -> None:
        """Answer ARP requests for a gateway that no router has."""
        answer = (
            f"move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],mod_dl_src:{GATEWAY_MAC},load:0x2->NXM_OF_ARP_OP[],"
            "move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[],"
            f"load:0x{GATEWAY_MAC.replace(':', '')}->NXM_NX_ARP_SHA[],"
            f"load:0x{bytes(map(int, gateway.split('.'))).hex()}->NXM_OF_ARP_SPA[],IN_PORT"
        )
        self.flow("br-tun", f"table=21,priority=2,dl_vlan={vlan},arp,arp_op=1,arp_tpa={gateway},actions={answer}")

    def firewall(self, tenant: str, vlan: int, router: str) -> None:
        """Send a tenant's frames to a router here to br-tun, as the agent does with its Open vSwitch firewall."""
        out = f"push_vlan:0x8100,mod_vlan_vid:{vlan},output:patch-tun"
        self.flow("br-int", f"table=0,priority=2,in_port={tenant},dl_dst={router},actions={out}")
