from service.detection.evidently_methods import METHODS
from service.profiles.columns import Kind
from service.registry import monitor


def test_a_monitor_accepts_only_tests_that_the_adapter_knows() -> None:
    numeric = {name for name, method in METHODS.items() if Kind.NUMERIC in method.kinds}
    categorical = {name for name, method in METHODS.items() if Kind.CATEGORICAL in method.kinds}
    assert set(monitor.EVIDENTLY_NUMERIC) <= numeric
    assert set(monitor.EVIDENTLY_CATEGORICAL) <= categorical
