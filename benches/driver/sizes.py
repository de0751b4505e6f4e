"""(j) The size of what is deployed."""

from pathlib import Path


def measure(report, binary):
    """The binary that was measured, and the package if scripts/package made one."""
    report.section("Size")
    size = Path(binary).stat().st_size / 1e6
    report.add(f"binary {binary}", size, "MB", aim="≤ 12 MiB", met=size <= 12 * 1.048576)
    if Path("dist.zip").exists():
        packaged = Path("dist/rowgate").stat().st_size / 1e6
        report.add("static binary in the package", packaged, "MB", aim="≤ 12 MiB", met=packaged <= 12 * 1.048576)
        report.add("package dist.zip", Path("dist.zip").stat().st_size / 1e6, "MB")
    else:
        report.note("dist.zip is not there: scripts/package makes it, and refuses a binary above 12 MiB.")
