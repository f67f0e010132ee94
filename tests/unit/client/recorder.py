"""A monitor that keeps what its adapters log, and sends nothing."""

from typing import Any

from modelwatch import Monitor


class Recorder(Monitor):
    def __init__(self, model: str = "loans", version: str = "7") -> None:
        super().__init__(model, version, mode="off")
        self.logged: list[dict[str, Any]] = []
        self.labels: list[tuple[str, Any, Any]] = []
        self.faults: list[Exception] = []
        self.filling = False

    def log(self, features: Any, prediction: Any, **fields: Any) -> str:
        made = super().log(features, prediction, prediction_id=fields.pop("prediction_id", None))
        present = {name: value for name, value in fields.items() if value is not None}
        self.logged.append({"id": made, "features": features, "prediction": prediction, **present})
        return made

    def label(
        self, prediction_id: str, label: Any, *, label_ts: Any = None, durable: bool = False
    ) -> None:
        self.labels.append((prediction_id, label, label_ts))

    def _miscarry(self, fault: Exception) -> None:
        self.faults.append(fault)

    def _is_filling(self) -> bool:
        return self.filling

    def features(self) -> list[Any]:
        return [row["features"] for row in self.logged]

    def outcomes(self) -> list[dict[str, Any]]:
        without = {"id", "features", "ts"}
        return [{n: v for n, v in row.items() if n not in without} for row in self.logged]
