"""What a process has used so far, and what the machine is: the figures that stand in a benchmark's line."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

import attrs

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@attrs.frozen
class Usage:
    """What a process has used since its start (proc(5)); inside user-mode-linux processor time has steps of 10 ms."""

    cpu_s: float  # of all threads
    user_s: float
    system_s: float
    faults: int  # pages that it got from the kernel
    rss_mb: float
    peak_mb: float

    @classmethod
    def of(cls, pid: int) -> Usage:
        """Read it; OSError when the process is gone."""
        process = Path(f"/proc/{pid}")
        threads = [(task / "schedstat").read_text() for task in (process / "task").iterdir()]
        return cls.read((process / "stat").read_text(), (process / "status").read_text(), threads)

    @classmethod
    def read(cls, stat: str, status: str, threads: list[str]) -> Usage:
        """Make it of the files stat and status, and schedstat of each thread."""
        words = stat.rpartition(")")[2].split()
        kilobytes = {name: int(size) for name, size in re.findall(r"(?m)^(VmRSS|VmHWM):\s+(\d+) kB", status)}
        return cls(
            cpu_s=sum(int(line.split()[0]) for line in threads) / 1e9,
            user_s=int(words[11]) / TICKS_A_SECOND,
            system_s=int(words[12]) / TICKS_A_SECOND,
            faults=int(words[7]),
            rss_mb=kilobytes["VmRSS"] * 1024 / 1e6,
            peak_mb=kilobytes["VmHWM"] * 1024 / 1e6,
        )

    def since(self, before: Usage, each: int) -> dict[str, float]:
        """What was used since an earlier look, for each of so many; memory as it is now."""
        return {
            "cpu_us": round((self.cpu_s - before.cpu_s) / each * 1e6, 2),
            "user_us": round((self.user_s - before.user_s) / each * 1e6, 2),
            "system_us": round((self.system_s - before.system_s) / each * 1e6, 2),
            "page_faults": round((self.faults - before.faults) / each, 3),
            "rss_mb": round(self.rss_mb, 1),
            "peak_mb": round(self.peak_mb, 1),
        }


def has_mpls() -> bool:
    """Whether the kernel has MPLS, and then all that VPNs need; see lab/kernel-probe."""
    return Path("/proc/sys/net/mpls").is_dir()


def machine() -> dict[str, Any]:
    """What the figures were measured on; lab/bench says what cannot be seen from inside user-mode-linux."""
    uml = "User Mode Linux" in Path("/proc/cpuinfo").read_text()
    return {
        "cpu": os.environ.get("LAB_BENCH_CPU", "unknown"),
        "cores": os.cpu_count(),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_000_000,
        "kernel": platform.release(),
        "uml": uml,
        "python": platform.python_version(),
        "commit": os.environ.get("LAB_BENCH_COMMIT", "unknown"),
    }
