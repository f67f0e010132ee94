"""Last night's applications, scored and logged: ``python batch_job.py applications.csv``."""

import sys

import pandas as pd

import modelwatch

monitor = modelwatch.Monitor("loans", version="7")
table = pd.read_csv(sys.argv[1], parse_dates=["applied_at", "decided_at"])
table["score"] = (table["income"] / 50_000).clip(0, 1)
table["prediction"] = (table["score"] > 0.5).astype(int)

# Ids and times of its own: a job that runs again sends duplicates, which the server leaves out.
monitor.log_frame(
    table,
    prediction_id="application",
    ts="applied_at",
    label="repaid",
    label_ts="decided_at",
    features=["income", "region"],
)
if not monitor.flush(timeout=60):
    sys.exit("the server is away; not all rows are sent")
print(f"{monitor.stats()['accepted']} records were accepted")
