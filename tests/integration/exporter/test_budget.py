"""A fleet is exported within the budget of series; what is left out is the least important."""

import re

from sqlalchemy.orm import Session, sessionmaker

from service.exporter.collector import BUDGET, read_results, render_results
from tests.conftest import sized
from tests.integration.exporter.reading import collected
from tests.integration.fleet import seed_fleet
from tests.integration.seeded import HOSTILE, seed

Sessions = sessionmaker[Session]


def test_a_fleet_is_within_the_budget_and_vanishes_from_its_least_important_end(
    sessions: Sessions,
) -> None:
    models, features = sized(default=10, full=100), 50
    seed_fleet(sessions, models=models, features=features, slices=10)

    def rendered(**given: int) -> bytes:
        with sessions() as session:
            results = read_results(session)
        return render_results(results, **given).content

    everything = rendered()
    count = everything.decode().count("\nmodelwatch_")
    # The other figure: 100 models of this width.
    assert 100 * count / models < BUDGET
    assert b"modelwatch_export_series_dropped 0.0\n" in everything
    cut = rendered(budget=count // 2).decode()
    assert cut.count("\nmodelwatch_") == count // 2
    assert f"modelwatch_export_series_dropped {float(count - count // 2)}\n" in cut
    for name in ("modelwatch_slice_rows", "modelwatch_class_recall_ratio", "modelwatch_verdict"):
        assert cut.count(f"\n{name}{{") == everything.decode().count(f"\n{name}{{")
    scores = re.findall(r'\nmodelwatch_feature_drift_score\{.*?feature="(\w+)"', cut)
    assert set(scores) == {f"feature_{n:02}" for n in range(len(set(scores)))}
    assert 0 < len(set(scores)) < features


def test_the_budget_is_kept_and_what_is_left_out_is_counted(sessions: Sessions) -> None:
    seed(sessions)
    everything = collected(sessions)
    found = collected(sessions, budget=len(everything) - 3)
    assert len(found) == len(everything) - 3
    assert found["export_series_dropped",] == 3
    assert ("feature_drift_score", HOSTILE, "jensen_shannon") not in found
    assert ("feature_drift_score", "income", "jensen_shannon") in found
