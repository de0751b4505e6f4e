"""What a run found: lines of a table, and the same as JSON."""

import datetime
import json
import os
import platform
from statistics import median, quantiles


class Report:
    """Collects figures; each may stand beside its limit of the same run, and have an aim."""

    def __init__(self):
        self.lines = []
        self.raw = {}
        self.main = ""

    def section(self, title):
        """A heading."""
        print(f"\n## {title}\n", flush=True)
        self.lines.append({"section": title})

    def add(self, what, figure, unit, beside=None, limit=None, ratio=None, aim=None, met=None):
        """One line. `beside`: what the limit is; `ratio`: figure to limit unless given, maybe with its quartiles as
        `in_turns` has them; `met`: whether the aim is."""
        if ratio is None and limit:
            ratio = figure / limit
        ratio, *quartiles = ratio if isinstance(ratio, tuple) else (ratio,)
        if not what.startswith("  "):
            self.main = what
        of = f"{self.main}: {what.strip()}" if what.startswith("  ") else what
        line = {"what": what, "of": of, "figure": figure, "unit": unit, "beside": beside, "limit": limit, "ratio": ratio,
                "quartiles": quartiles, "aim": aim, "met": met}
        self.lines.append(line)
        print(as_text(line), flush=True)

    def note(self, text):
        """A sentence between the lines."""
        self.lines.append({"note": text})
        print(text, flush=True)

    def table(self):
        """All of it, as Markdown."""
        text, in_table = [], False
        for line in self.lines:
            if "figure" in line and not in_table:
                text += ["", "| what | figure | beside | ratio | aim | met |", "|---|---|---|---|---|---|"]
            in_table = "figure" in line
            if "section" in line:
                text += ["", f"### {line['section']}"]
            elif "note" in line:
                text += ["", line["note"]]
            else:
                text.append(as_row(line))
        return "\n".join(text).strip() + "\n"

    def line(self, of):
        """A line by its name, or nothing if it was not measured."""
        return next((line for line in self.lines if line.get("of") == of), None)

    def aims(self):
        """The lines that have an aim."""
        return [line for line in self.lines if line.get("aim")]

    def write(self, path, about):
        """The JSON file."""
        about = {
            "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, load {os.getloadavg()[0]:.1f}",
            **about,
        }
        with open(path, "w") as file:
            json.dump({"about": about, "lines": self.lines, "raw": self.raw}, file, indent=1)


def number(value):
    """Three digits that matter."""
    if value is None:
        return ""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _fields(line):
    beside = f"{line['beside']}: {number(line['limit'])} {line['unit']}" if line["limit"] is not None else ""
    met = {None: "", True: "yes", False: "no"}[line["met"]]
    ratio = number(line["ratio"]) + (" ({} to {})".format(*map(number, line["quartiles"])) if line["quartiles"] else "")
    return line["what"], f"{number(line['figure'])} {line['unit']}", beside, ratio, line["aim"] or "", met


def as_row(line):
    """A row of Markdown."""
    return "| " + " | ".join(_fields(line)) + " |"


def as_text(line):
    """A line for a terminal."""
    what, figure, beside, ratio, aim, met = _fields(line)
    return f"  {what:<52} {figure:>18}   {beside:<40} {ratio:<24} {aim} {met}".rstrip()


def middle(samples, name=None):
    """The median of numbers, or of one field of dictionaries."""
    return median(sample[name] if name else sample for sample in samples)


def take_turns(rounds, runs):
    """Runs each of some functions by name in every round, a different one first each time: what each gave, by name."""
    results = {name: [] for name in runs}
    names = list(runs)
    for n in range(rounds):
        for name in names[n % len(names):] + names[:n % len(names)]:
            results[name].append(runs[name]())
    return results


def in_turns(ours, limit, name=None):
    """The median of the ratios of the rounds, and their quartiles. What was measured one after the other was so on the
    same machine, which half a minute later may be half as fast."""
    of = lambda sample: sample[name] if name else sample
    ratios = [of(one) / of(other) for one, other in zip(ours, limit, strict=True)]
    if len(ratios) < 2:
        return ratios[0], ratios[0], ratios[0]
    first, _, third = quantiles(ratios, n=4, method="inclusive")
    return median(ratios), first, third
