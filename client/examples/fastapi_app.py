"""A model behind FastAPI: ``uvicorn fastapi_app:app``."""

import math

from fastapi import FastAPI
from pydantic import BaseModel

import modelwatch
from modelwatch.asgi import PredictionIdMiddleware

monitor = modelwatch.Monitor("loans", version="7")
app = FastAPI()
app.add_middleware(PredictionIdMiddleware)  # every answer has its X-Prediction-Id


class Loan(BaseModel):
    income: float
    region: str


class Answer(BaseModel):
    repaid: bool
    probability: float


@app.post("/predict")
@monitor.watch(features="loan", output=lambda answer: (answer.repaid, answer.probability))
def predict(loan: Loan) -> Answer:
    probability = 1 / (1 + math.exp(1 - loan.income / 30_000))
    return Answer(repaid=probability > 0.5, probability=probability)


@app.put("/outcomes/{prediction_id}")
def outcome(prediction_id: str, *, repaid: bool) -> None:
    monitor.label(prediction_id, repaid)
