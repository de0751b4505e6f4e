"""(f) A large aggregate beside the same statement in psql, as the same caller; and whether it runs in parallel."""

import re
import time

from database import ADMIT, HEAD_OFFICE, Psql
from report import middle
from server import Server

AGGREGATE = (
    "select p.category_id, date_trunc('month', o.order_date)::date as month, count(distinct o.customer_id) as customers, "
    "sum(i.quantity) as items, sum(i.total_amount) as revenue from retail.order_items i "
    "join retail.orders o on o.order_id = i.order_id join retail.products p on p.product_id = i.product_id "
    "group by 1, 2 order by revenue desc limit 20"
)
SCAN = (
    "select product_id, count(*) as lines, sum(quantity) as items, avg(unit_price) as price, sum(total_amount) as revenue "
    "from retail.order_items group by product_id order by revenue desc limit 20"
)
WORKERS = "select parallel_workers_launched from pg_stat_database where datname = 'zava'"


def measure(report, binary, database, rounds=9):
    """In turns, medians. Head office sees every row."""
    report.section("A large aggregate")
    claim = database.claim(HEAD_OFFICE)
    psql = Psql(database.app_url, "begin read only;", ADMIT.format(claim=claim))
    server = Server(binary, database, pool=4)
    client = server.client(HEAD_OFFICE)
    for name, sql in (("one table, 20 groups of 424", SCAN), ("three tables, by category and month", AGGREGATE)):
        ours, limit, workers = [], [], 0
        for number in range(rounds + 1):
            if number == 0:
                before = workers_so_far(client, server, database)
            started = time.perf_counter()
            client.call(server.tool, server.arguments(sql))
            taken = (time.perf_counter() - started) * 1e3
            if number == 0:
                workers = workers_so_far(client, server, database) - before
                continue
            ours.append(taken)
            limit.append(psql.milliseconds(f"select * from (\n{sql}\n) r limit 101;"))
        report.raw[f"aggregate, {name}"] = {"rowgate": ours, "psql": limit}
        ratio = middle(ours) / middle(limit)
        report.add(name, middle(ours), "ms", "psql", middle(limit), aim="≤ 1.1 × psql", met=ratio <= 1.1)
        report.add("  parallel workers", workers, "", "psql's plan", planned_workers(database, claim, sql))
    client.close()
    server.stop()


def workers_so_far(client, server, database):
    """Statistics are sent at the end of a transaction, at most once a second: with that of one more call."""
    time.sleep(1.5)
    client.call(server.tool, server.arguments("select 1"))
    time.sleep(0.2)
    return int(database.psql("-c", WORKERS))


def planned_workers(database, claim, sql):
    """How many workers the same statement has in the plan of the same caller."""
    plan = database.as_caller(claim, f"explain (format json) select * from (\n{sql}\n) r limit 101")
    return max((int(number) for number in re.findall(r'"Workers Planned": (\d+)', plan)), default=0)
