"""Draws the figures of a soak: soak.py FIGURES.csv PICTURE."""

import csv
import sys

import matplotlib

matplotlib.use("svg" if sys.argv[2].endswith(".svg") else "agg")
from matplotlib import pyplot

with open(sys.argv[1], newline="") as file:
    rows = list(csv.DictReader(file))
minutes = [float(row["seconds"]) / 60 for row in rows]
of = [("memory_mib", "resident memory, MiB"), ("files", "open files"), ("tasks", "tasks"), ("tracked", "tracked keys"),
      ("outbox", "waiting webhooks")]

pyplot.rcParams["svg.hashsalt"] = "soak"
figure, parts = pyplot.subplots(len(of), 1, sharex=True, figsize=(9, 9))
for part, (column, title) in zip(parts, of):
    part.plot(minutes, [float(row[column]) for row in rows], linewidth=1)
    part.set_ylim(bottom=0)
    part.set_ylabel(title)
    part.grid(alpha=0.3)
parts[-1].set_xlabel("minutes")
figure.tight_layout()
figure.savefig(sys.argv[2], metadata={"Date": None} if sys.argv[2].endswith(".svg") else None)
