"""A model of scikit-learn whose predictions are logged: ``python sklearn_model.py``."""

import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import modelwatch

past = pd.DataFrame({"income": [12e3, 41e3, 18e3, 55e3], "region": ["south", "north"] * 2})
columns = make_column_transformer((StandardScaler(), ["income"]), (OneHotEncoder(), ["region"]))
model = make_pipeline(columns, LogisticRegression()).fit(past, [0, 1, 0, 1])

monitor = modelwatch.Monitor("loans", version="7")
model = monitor.wrap(model)  # the same model in all else

applications = pd.DataFrame({"income": [38_000.0, 15_000.0], "region": ["north", "south"]})
with modelwatch.correlate() as request:
    probabilities = model.predict_proba(applications)[:, 1]
for prediction_id, repaid in zip(request.prediction_ids, [1, 0]):
    monitor.label(prediction_id, repaid)  # when it is known: days later, in any process
monitor.flush()
