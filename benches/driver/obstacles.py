"""What stands in the way of the aims that were not met, in figures of the same run. docs/speed.md has the profile."""


def explain(report):
    """A note for each aim that was not met."""
    missed = [line for line in report.aims() if not line["met"]]
    if not missed:
        return
    report.section("What stands in the way")
    for line in missed:
        why = WHY.get(line["of"])
        said = why(line, report.line) if why else "no other figure of this run says; docs/speed.md has the profile."
        report.note(f"- **{line['of']}**: {said}")


def beside_pgbench(line, known):
    """PostgreSQL's part and ours, beside the whole of pgbench's."""
    postgres, own = known(f"{line['of']}: PostgreSQL's CPU a call"), known(f"{line['of']}: server CPU a call")["figure"]
    whole = postgres["figure"] + own
    return (f"pgbench's message takes {postgres['limit']:.2f} ms of PostgreSQL. A call takes {postgres['figure']:.2f}, since a "
            f"claim that is bound needs the extended protocol, and {own:.2f} of Rowgate: by that alone "
            f"{postgres['limit'] / whole:.2f} of pgbench's calls.")


def server_cpu(line, known):
    """Where it is spent."""
    kernel = known(line["of"].removesuffix("server CPU a call") + "of it in the kernel")
    where = f", of it {kernel['figure']:.2f} in the kernel for sockets and the log" if kernel else ""
    return f"it takes {line['figure']:.2f} ms{where}. docs/speed.md has the profile."


def beside_peer(line, known):
    """The time that a call could take."""
    peer = line["beside"].removeprefix("the best peer, ")
    parts = ("PostgreSQL's CPU a call", "server CPU a call")
    theirs = [known(f"{peer}: calls a second, 16 clients: {part}")["figure"] for part in parts]
    ours = [known(f"{line['of']}: {part}")["figure"] for part in parts]
    return (f"a call of {peer} takes {theirs[0]:.2f} ms of PostgreSQL, for a bare statement that stays prepared, and "
            f"{theirs[1]:.2f} of its own. 1.25 times as many leave {sum(theirs) / 1.25:.2f} ms for all of a call, and the guarded "
            f"transaction takes {ours[0]:.2f} of PostgreSQL, with {ours[1]:.2f} of Rowgate.")


def with_a_collector(line, known):
    """What recording costs."""
    cpu = known(f"{line['of']}: server CPU a call")
    return (f"a call takes {cpu['figure']:.2f} ms of Rowgate with one and {cpu['limit']:.2f} without: three spans, a log record, "
            "eight measures and their encoding, on the cores that PostgreSQL and the collector share.")


def values_alone(line, known):
    """What no form can be shorter than."""
    least = known("20 rows of 7 columns: tokens of the values alone")
    return (f"the values alone, without a name or a type, are {least['figure']:,.0f} tokens, {least['ratio']:.2f} of plain JSON "
            "rows: no form that keeps them gets below that.")


def first_query(line, known):
    """What is waited for."""
    trips = known("start → first query, 0 ms away: round trips")
    count = f"{trips['figure']:.0f} round trips where the bare program has {trips['limit']:.0f}" if trips else "one round trip more"
    return f"it takes {count}: the facts that say whether the database is safe to serve from."


WHY = {
    "start → first query, empty pool": first_query,
    "calls a second, 16 clients": beside_pgbench,
    "calls a second, 16 clients: server CPU a call": server_cpu,
    "Rowgate: calls a second, 16 clients": beside_peer,
    "Rowgate: calls a second, 16 clients: server CPU a call": server_cpu,
    "calls a second, 16 clients, with a collector": with_a_collector,
    "20 rows of 7 columns: tokens": values_alone,
}
