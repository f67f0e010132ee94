"""How much the model uses its features: what moves matters as much as it is used."""

from collections.abc import Mapping
from dataclasses import dataclass, field

# A feature with a smaller share of all importance is hardly used; one that has a tenth of what a
# feature has on average is among very many.
HARDLY = 0.01
HARDLY_OF_MEAN = 0.1
# An important feature alarms at half of the minimum effect, an unimportant one at twice.
LEAST_SCALE, LARGEST_SCALE = 0.5, 2.0


@dataclass(frozen=True, slots=True)
class Importance:
    """The importance of the features, in any unit.

    Where nothing is known of any feature, or all of it is 0, all count alike; a feature of which
    nothing is known counts like the average of those of which something is.  ``parts`` maps a
    derived column to the feature that it was made from.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)

    def weight(self, name: str) -> float:
        """Return the importance of a column by that of the average feature, ``>= 0``.

        Examples
        --------
        >>> importance = Importance({"income": 0.6, "age": 0.3, "row_hash": 0.0})
        >>> [round(importance.weight(name), 2) for name in ("income", "age", "score")]
        [2.0, 1.0, 1.0]
        """
        total = sum(self.values.values())
        own = self.values.get(self.parts.get(name, name))
        return 1.0 if own is None or total <= 0 else own * len(self.values) / total

    def is_negligible(self, name: str) -> bool:
        """Say whether the model hardly uses a column: then its drift asks for nothing.

        It has less than 1 % of all importance, and less than a tenth of the average feature's (of
        two hundred equal features each has less than 1 %).
        """
        weight = self.weight(name)
        return weight < HARDLY_OF_MEAN and weight < HARDLY * len(self.values)

    def scale(self, name: str) -> float:
        """Return by what the minimum effect of a column is multiplied, ``0.5 .. 2``.

        It is the inverse of the weight: half of the change in a feature of twice the importance
        matters as much.  It moves no p-value, so that the rate of false alarms stays what it is.

        Examples
        --------
        >>> Importance({"income": 0.6, "age": 0.3, "row_hash": 0.0}).scale("income")
        0.5
        """
        weight = self.weight(name)
        return min(max(1 / weight, LEAST_SCALE), LARGEST_SCALE) if weight > 0 else LARGEST_SCALE


# What holds where nothing is known.
ALIKE = Importance()
