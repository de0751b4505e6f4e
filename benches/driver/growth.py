"""How a call grows: with ten and a hundred times the rows, and with more tenants. Not among the parts that run by
default: it makes eleven million rows."""

import time

from aggregate import SCAN
from database import HEAD_OFFICE, QUERY, SEATTLE
from report import middle
from server import Server

TOTALS = "select product, count(*) as sales, sum(total) as revenue from retail.sales group by product order by revenue desc limit 20"
TENANTS = """
insert into rowgate.stores select n from generate_series(1, {count}) n on conflict do nothing;
insert into rowgate.principals (principal, display_name) select 'tenant-' || n, 'tenant ' || n
  from generate_series(9, {count}) n on conflict do nothing;
insert into rowgate.principal_stores select 'tenant-' || n, n from generate_series(9, {count}) n on conflict do nothing;
analyze rowgate.stores, rowgate.principals, rowgate.principal_stores;
"""


def measure(report, binary, database, calls=100):
    """Medians of one client's calls, each figure beside the smallest size's."""
    report.section("Growth")
    server = Server(binary, database, pool=4)
    first = {}
    for rows, name in ((100_000, "sales"), (1_000_000, "sales_1m"), (10_000_000, "sales_10m")):
        if name != "sales":
            database.make_sales(name, rows)
        for what, caller, sql, count in (("20 rows by index, one store", SEATTLE, QUERY, calls),
                                         ("totals over all rows, head office", HEAD_OFFICE, TOTALS, 5)):
            taken = milliseconds(server, caller, sql.replace("retail.sales", f"retail.{name}"), count)
            beside = ("100,000 rows", first[what]) if what in first else ()
            first.setdefault(what, taken)
            report.add(f"{rows:,} rows: {what}", taken, "ms", *beside)
    for count in (8, 1_000, 10_000):
        database.psql("-c", TENANTS.format(count=count))
        for what, caller in (("a caller of one", SEATTLE), ("a caller of all", HEAD_OFFICE)):
            taken = milliseconds(server, caller, QUERY, calls)
            beside = ("8 tenants", first[what]) if what in first else ()
            first.setdefault(what, taken)
            report.add(f"{count:,} tenants: {what}", taken, "ms", *beside)
    taken = milliseconds(server, HEAD_OFFICE, SCAN, 5)
    report.add("10,000 tenants: an aggregate of a caller of all", taken, "ms")
    server.stop()


def milliseconds(server, caller, sql, calls):
    """The median of so many calls, one after the other."""
    client, taken = server.client(caller), []
    for _ in range(calls + 3):
        started = time.perf_counter()
        client.call(server.tool, server.arguments(sql))
        taken.append((time.perf_counter() - started) * 1e3)
    client.close()
    return middle(taken[3:])
