"""The layers of the code: a file imports only from its own layer or below, and only the rim touches the world.

`LAYERS` is the list, lowest first. A pattern without a star names one module, `package.*` all modules below a package.
The most exact name wins, so that one module can stand lower than the rest of its package.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("speaker", "bgpvpn", "cli")

LAYERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "words",
        (
            "speaker",
            "speaker.wire",
            "speaker.errors",
            "speaker.flowspec",
            "speaker.table",
            "speaker.values",
            "bgpvpn",
            "bgpvpn.api",
            "bgpvpn.bagpipe",
            "bgpvpn.dataplane",
            "bgpvpn.openstack",
            "bgpvpn.store",
        ),
    ),
    ("path", ("speaker.path",)),
    ("wire", ("speaker.wire.*",)),
    (
        "protocol",
        (
            "speaker.notification",
            "speaker.session",
            "speaker.terms",
            "speaker.policy",
            "speaker.membership",
            "speaker.outward",
            "speaker.member",
            "speaker.update_group",
            "speaker.rib",
            "speaker.decision",
            "speaker.derived",
            "speaker.slots",
            "speaker.refusal",
            "speaker.adj_rib_in",
            "speaker.adj_rib_out",
            "speaker.peer",
            "speaker.bmp",
            "speaker.mrt",
        ),
    ),
    ("engine", ("speaker.engine", "speaker.monitor", "speaker.table_dump")),
    (
        "wanted",
        (
            "bgpvpn.desired",
            "bgpvpn.rules",
            "bgpvpn.policies",
            "bgpvpn.objects",
            "bgpvpn.relations",
            "bgpvpn.beside",
            "bgpvpn.intent",
            "bgpvpn.access",
            "bgpvpn.replacing",
            "bgpvpn.bagpipe.request",
            "bgpvpn.bagpipe.wishes",
        ),
    ),
    (
        "instances",
        (
            "bgpvpn.allocate",
            "bgpvpn.segment",
            "bgpvpn.instance",
            "bgpvpn.announcer",
            "bgpvpn.ipvpn",
            "bgpvpn.evpn",
            "bgpvpn.instances",
            "bgpvpn.leak",
            "bgpvpn.advertising",
            "bgpvpn.prefixes",
            "bgpvpn.announcing",
        ),
    ),
    (
        "reconciling",
        (
            "bgpvpn.dataplane.rows",
            "bgpvpn.dataplane.linux",
            "bgpvpn.dataplane.wire",
            "bgpvpn.dataplane.encode",
            "bgpvpn.dataplane.decode",
            "bgpvpn.dataplane.links",
            "bgpvpn.dataplane.words",
            "bgpvpn.dataplane.plugs",
            "bgpvpn.dataplane.openflow",
            "bgpvpn.dataplane.ovsdb",
            "bgpvpn.plan",
            "bgpvpn.refused",
            "bgpvpn.repairs",
            "bgpvpn.wanted",
            "bgpvpn.nexthops",
            "bgpvpn.reconcile",
        ),
    ),
    (
        "node",
        (
            "bgpvpn.node",
            "bgpvpn.views",
            "bgpvpn.speaker_view",
            "bgpvpn.statuses",
            "bgpvpn.sessions",
            "bgpvpn.trial",
            "bgpvpn.kernel_view",
            "bgpvpn.dumping",
            "bgpvpn.metrics",
        ),
    ),
    (
        "rim",
        (
            "speaker.signatures",
            "speaker.sockets",
            "speaker.ranges",
            "speaker.accepting",
            "speaker.connecting",
            "speaker.transport",
            "bgpvpn.dataplane.*",
            "bgpvpn.store.*",
            "bgpvpn.api.*",
            "bgpvpn.bagpipe.*",
            "bgpvpn.openstack.*",
            "bgpvpn.config",
            "bgpvpn.log",
            "bgpvpn.node_view",
            "bgpvpn.peering",
            "bgpvpn.systemd",
            "bgpvpn.running",
            "bgpvpn.monitoring",
            "bgpvpn.daemon",
        ),
    ),
)
COMMAND = ("cli", "cli.*")
"""The command stands beside the layers: it speaks HTTP to the daemon and imports nothing of it."""

WITHOUT_BGP = {
    "bgpvpn.desired",
    "bgpvpn.plan",
    "bgpvpn.refused",
    "bgpvpn.repairs",
    "bgpvpn.wanted",
    "bgpvpn.nexthops",
    "bgpvpn.reconcile",
    "bgpvpn.dataplane.linux",
}
"""The dataplane's side of the house: of the speaker it knows the table only."""

CLOCKS_AND_CHANCE = {"time", "random", "secrets"}
PROCESSES = {
    "asyncio",
    "concurrent",
    "fcntl",
    "multiprocessing",
    "queue",
    "signal",
    "sqlite3",
    "subprocess",
    "threading",
}
NETWORK = {"h11", "http", "httpx", "pyroute2", "select", "selectors", "socket", "ssl", "starlette", "urllib", "uvicorn"}
RIM_ONLY = CLOCKS_AND_CHANCE | PROCESSES | NETWORK | {"prometheus_client"}
"""What only the rim may import."""


def placed(module: str) -> int | None:
    """The number of the module's layer, lowest 0; None for a module that is in no layer."""
    for pattern in (module, *(f"{package}.*" for package in _packages_of(module))):
        for number, (_, patterns) in enumerate(LAYERS):
            if pattern in patterns:
                return number
    return None


def _packages_of(module: str) -> Iterator[str]:
    while "." in module:
        module = module.rpartition(".")[0]
        yield module


def imported(module: str, source: str, modules: Mapping[str, str]) -> set[str]:
    """What a module imports, wherever in the file: full names, of `modules` where the name is one of ours."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found.update(alias.name for alias in names)
            case ast.ImportFrom(module=origin, names=names, level=0):
                below = {f"{origin}.{alias.name}" for alias in names}
                found.update(below & modules.keys() or {str(origin)})
            case ast.ImportFrom():
                raise AssertionError(
                    f"{module}: line {node.lineno} imports relative to its package; we write full names"
                )
    return found


def faults(modules: Mapping[str, str]) -> list[str]:
    """What is wrong in a set of modules, name to source: one sentence each, in the order of the names."""
    found = []
    for module, source in sorted(modules.items()):
        names = imported(module, source, modules)
        ours = {name for name in names if name.split(".")[0] in PACKAGES}
        if module.split(".")[0] == "cli":
            found += [f"{module} imports {name}" for name in sorted(ours) if name.split(".")[0] != "cli"]
            continue
        layer = placed(module)
        if layer is None:
            found.append(f"{module} is in no layer")
            continue
        for name in sorted(ours):
            lower = placed(name)
            if lower is None or lower > layer:
                found.append(f"{module} ({LAYERS[layer][0]}) imports {name} from above")
            if module in WITHOUT_BGP and name.startswith("speaker.") and name != "speaker.table":
                found.append(f"{module} imports {name}, and the dataplane knows no BGP")
        if LAYERS[layer][0] != "rim":
            found += [f"{module} imports {name}, which is for the rim" for name in sorted(names - ours) if _rim(name)]
    return found


def _rim(name: str) -> bool:
    return name.split(".")[0] in RIM_ONLY


def circles(modules: Mapping[str, str]) -> list[str]:
    """Modules that import each other in a circle; within a layer there is an order too."""
    left = {module: imported(module, source, modules) & modules.keys() for module, source in modules.items()}
    while ready := [module for module, names in left.items() if not names & left.keys() - {module}]:
        for module in ready:
            del left[module]
    return sorted(left)


def our_modules() -> dict[str, str]:
    """Every module of the three packages: its full name, its source."""
    files = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    parts = {file: file.relative_to(ROOT).with_suffix("").parts for file in files}
    return {".".join(name[:-1] if name[-1] == "__init__" else name): file.read_text() for file, name in parts.items()}


def test_every_file_imports_only_from_its_own_layer_or_below() -> None:
    assert faults(our_modules()) == []


def test_no_two_files_import_each_other() -> None:
    assert circles(our_modules()) == []


def test_breaches_of_the_layers_are_found() -> None:
    for module, source, fault in [
        (
            "speaker.rib",
            "from speaker.engine import Engine",
            "speaker.rib (protocol) imports speaker.engine from above",
        ),
        ("speaker.rib", "from speaker import engine", "speaker.rib (protocol) imports speaker.engine from above"),
        ("speaker.rib", "import time", "speaker.rib imports time, which is for the rim"),
        (
            "speaker.rib",
            "def f():\n    from os import path\n    import http.client",
            "speaker.rib imports http.client, which is for the rim",
        ),
        (
            "bgpvpn.plan",
            "from speaker.table import Table\nimport speaker.path",
            "bgpvpn.plan imports speaker.path, and the dataplane knows no BGP",
        ),
        ("bgpvpn.dataplane.linux", "import pyroute2", "bgpvpn.dataplane.linux imports pyroute2, which is for the rim"),
        ("bgpvpn.novelty", "", "bgpvpn.novelty is in no layer"),
        ("cli.main", "from bgpvpn.intent import Intent", "cli.main imports bgpvpn.intent"),
    ]:
        assert faults({"speaker.engine": "", module: source}) == [fault], source
    assert (
        faults(
            {
                "bgpvpn.dataplane.netlink": "import pyroute2\nfrom bgpvpn.dataplane.linux import rows",
                "cli.main": "import time",
            }
        )
        == []
    )
    assert circles({"a": "import b", "b": "import c", "c": "import b", "d": "import a"}) == ["a", "b", "c", "d"]
    assert circles({"a": "import b", "b": "import c", "c": ""}) == []
