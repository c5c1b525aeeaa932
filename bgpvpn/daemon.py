"""bgpvpnd: the daemon of a node (rim): its command line, its signals, and the order in which things start and end.

    SIGTERM, SIGINT   stop: peers keep our routes (RFC 4724), the kernel keeps forwarding
    SIGUSR1           drain: everything is withdrawn and taken out of the kernel, then stop; the log tells what stayed

Exit status: 0 as wished, 1 an error that the log or standard error tells, 2 wrong words on the command line. A drained
daemon ends with 0 also where something stayed: after an error systemd would start it again, and it would make all anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path

import attrs
import click

import bgpvpn
from bgpvpn import log as logs
from bgpvpn import systemd
from bgpvpn.api.app import application
from bgpvpn.api.callers import Callers
from bgpvpn.api.server import ApiServer
from bgpvpn.bagpipe import app as bagpipe
from bgpvpn.bagpipe import conf
from bgpvpn.bagpipe.looking_glass import LookingGlass, Recent
from bgpvpn.bagpipe.pings import Pings
from bgpvpn.bagpipe.request import Bridges
from bgpvpn.config import Config, ConfigError
from bgpvpn.dataplane.dryrun import DryRun
from bgpvpn.dataplane.netlink import Netlink
from bgpvpn.dataplane.openflow import Surroundings
from bgpvpn.dataplane.ovs import Ovs
from bgpvpn.intent import StoreError
from bgpvpn.running import RunningNode, drained
from bgpvpn.store.lock import DirectoryLock, holder_of
from bgpvpn.store.sqlite import SqliteStore

log = logging.getLogger("bgpvpnd")

DRAIN_S = 30.0
COLLECT_S = 5.0
DEFAULT_CONFIG = "/etc/bgpvpn/bgpvpn.toml"


@click.command()
@click.option(
    "--config", "path", show_default=DEFAULT_CONFIG, type=click.Path(path_type=Path), help="The settings of the node."
)
@click.option(
    "--bagpipe-config",
    "bagpipe_path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Stand in for bagpipe-bgp, as its bgp.conf says; without --config that file is enough.",
)
@click.option("--check-config", is_flag=True, help="Say all that is wrong with the configuration, and end.")
@click.option("--drain", is_flag=True, help="Withdraw all routes, take all out of the kernel, end a running daemon.")
@click.version_option(bgpvpn.__version__, prog_name="bgpvpnd")
def main(path: Path | None, bagpipe_path: Path | None, check_config: bool, drain: bool) -> None:
    """Run the BGP VPN daemon of this node in the foreground.

    What users want is kept over a stop, and over --drain.
    """
    try:
        translation = None if bagpipe_path is None else conf.load(bagpipe_path)
        if translation is not None and path is None:
            config = translation.config(Path(bagpipe_path or ""))
        else:
            path = path or Path(DEFAULT_CONFIG)
            config = Config.load(path, None if translation is None else translation.tree)
    except ConfigError as error:
        raise SystemExit(str(error)) from None
    if check_config:
        click.echo(f"{path}: in order" if translation is None else translation.text(), nl=translation is None)
        return
    if not config.node.host:
        config = attrs.evolve(config, node=attrs.evolve(config.node, host=socket.gethostname()))
    try:
        if drain:
            _drain(config)
        else:
            _run(config)
    except (OSError, StoreError, LookupError) as error:
        raise SystemExit(f"bgpvpnd: {error}") from None


def _run(config: Config) -> None:
    writer = logs.start(config.log.level, config.log.format)
    try:
        asyncio.run(_serve(config))
    finally:
        writer.stop()


async def _serve(config: Config) -> None:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[signal.Signals] = loop.create_future()

    def end(number: signal.Signals) -> None:
        if not ended.done():
            ended.set_result(number)

    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        loop.add_signal_handler(each, end, each)
    store = SqliteStore(Path(config.store.path))
    dataplane = _dataplane(config)
    try:
        node = RunningNode(config, store, dataplane, _ovs(config))
        api = config.api
        app = application(node, Callers(api.client))
        servers = [ApiServer(app, path=Path(api.socket), group=api.group, mode=api.mode, tcp=api.tcp)]
        if config.bagpipe.listen is not None:
            servers.append(_bagpipe(config, node, config.bagpipe.listen))
        node.start()
        try:
            for server in servers:
                await server.start()
            systemd.notify(READY=1, STATUS="running")
            beside = [asyncio.create_task(each) for each in (_feed_watchdog(), _collect_garbage())]
            number = await ended
            for task in beside:
                task.cancel()
        finally:
            systemd.notify(STOPPING=1)
            draining = ended.done() and ended.result() is signal.SIGUSR1
            log.info("node=%s state=%s", config.node.router_id, "draining" if draining else "stopping")
            stop_apis = [asyncio.create_task(server.stop()) for server in servers]
            if draining:
                for left in await node.drain():
                    log.error("node=%s left=%r", config.node.router_id, left)
            else:
                await node.stop()
            await asyncio.gather(*stop_apis)
        log.info("node=%s state=stopped signal=%s", config.node.router_id, number.name)
    finally:
        dataplane.close()
        store.close()


def _bagpipe(config: Config, node: RunningNode, at: tuple[str, int]) -> ApiServer:
    """Return what serves the clients of bagpipe-bgp."""
    options = config.bagpipe
    bridges = Bridges(options.ipvpn_bridge, options.evpn_bridge, options.evpn_port)
    recent = Recent()
    logging.getLogger().addHandler(recent)
    pings = Pings(Path(config.store.path).with_suffix(".pings"), node.identity)
    return ApiServer(bagpipe.application(node, LookingGlass(node, config, recent), bridges, pings), path=None, tcp=at)


def _dataplane(config: Config) -> Netlink | DryRun:
    if config.dataplane.kind == "dryrun":
        return DryRun(log.info)
    return Netlink(labels=config.labels.range)


def _ovs(config: Config) -> Ovs | None:
    if config.dataplane.kind == "dryrun":
        return None
    return Ovs(config.ovs.run_dir, Surroundings(config.node.gateway_mac, config.bagpipe.evpn_bridge))


async def _feed_watchdog() -> None:
    """Tell systemd that the loop turns; from the loop itself, not from a thread beside it."""
    every = systemd.watchdog_s()
    while every is not None:
        systemd.notify(WATCHDOG=1)
        await asyncio.sleep(every)


async def _collect_garbage() -> None:
    """Look for cyclic garbage among what is new, now and then, instead of whenever much is made.

    Routes are acyclic and go by their reference counts. Left to itself the collector would walk all of them again and
    again while they come in: that trebles the cost of a route, and a full collection of 100,000 takes 60 ms.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    while True:
        await asyncio.sleep(COLLECT_S)
        gc.collect(1)


def _drain(config: Config) -> None:
    """Have a running daemon drain and end; then take out of the kernel whatever is left of ours."""
    folder = Path(config.store.path).parent
    until = time.monotonic() + DRAIN_S
    told: int | None = None
    while (holder := holder_of(folder)) is not None:
        if holder != told:
            with contextlib.suppress(ProcessLookupError):
                os.kill(holder, signal.SIGUSR1)
            told = holder
        if time.monotonic() > until:
            raise StoreError(f"the daemon, process {holder}, did not end in {DRAIN_S:g} s")
        time.sleep(0.1)
    lock = DirectoryLock(folder)
    try:
        with contextlib.closing(_dataplane(config)) as dataplane:
            left = drained(dataplane)
        if (ovs := _ovs(config)) is not None:
            left += asyncio.run(ovs.clear())
    finally:
        lock.release()
    if left:
        raise OSError("not taken out of the kernel: " + "; ".join(left))


if __name__ == "__main__":
    sys.exit(main())
