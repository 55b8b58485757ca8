"""Draws how the figures of docs/benchmarks.md grow with their load: growth.py PAGE.md PICTURE."""

import re
import sys

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

page = open(sys.argv[1]).read()
late = [tuple(map(float, row)) for row in re.findall(r"beside (\d+): p50 ([\d.]+) ms, p99 ([\d.]+) ms", page)]
memory = [tuple(map(float, row)) for row in re.findall(r"(\d+) keys: [\d.]+ MiB resident, ([\d.]+) MiB at the most, ready after ([\d.]+) s", page)]
if not late or not memory:
    sys.exit(f"{sys.argv[1]} has no figures that grow: they are measured by make bench without --only")

pyplot.rcParams["svg.hashsalt"] = "growth"
figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(12, 3.6))
left.plot([row[0] / 1e6 for row in late], [row[1] for row in late], marker="o", label="p50")
left.plot([row[0] / 1e6 for row in late], [row[2] for row in late], marker="o", label="p99")
left.set(xlabel="other keys with a TTL, millions", ylabel="deadline to 2xx, ms", ylim=0)
left.legend()
middle.plot([row[0] / 1e6 for row in memory], [row[1] for row in memory], marker="o")
middle.set(xlabel="tracked keys, millions", ylabel="the most memory, MiB", ylim=0)
right.plot([row[0] / 1e6 for row in memory], [row[2] for row in memory], marker="o")
right.set(xlabel="tracked keys, millions", ylabel="start until ready, s", ylim=0)
for part in (left, middle, right):
    part.grid(alpha=0.3)
figure.tight_layout()
figure.savefig(sys.argv[2], metadata={"Date": None})
