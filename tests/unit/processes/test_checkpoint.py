from pathlib import Path

from service.processes.checkpoint import Checkpoint, default_path


def killed(path: Path, *saved: tuple[str, str, int]) -> None:
    """Save positions, and end as nobody wants to."""
    checkpoint = Checkpoint(path)
    checkpoint.__enter__()
    for each in saved:
        checkpoint.save(*each)
    checkpoint.__exit__(KeyboardInterrupt)


def test_positions_are_found_again_after_an_end_without_warning(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.jsonl"
    killed(path, ("a", "f1", 10), ("a", "f1", 20), ("b", "f2", 5))
    with path.open("a") as file:
        file.write('["b", "f2", 9')
    killed(path, ("c", "f3", 7))
    with Checkpoint(path) as checkpoint:
        assert checkpoint.position("a", "f1") == 20
        assert checkpoint.position("a", "another content") == 0
        assert checkpoint.position("b", "f2") == 5
        assert checkpoint.position("c", "f3") == 7
        assert checkpoint.position("d", "f4") == 0
    assert not path.exists()


def test_the_same_import_has_the_same_checkpoint(tmp_path: Path) -> None:
    one, other = (default_path(tmp_path, ["s3://a", name]) for name in ("x", "y"))
    assert one == default_path(tmp_path, ["s3://a", "x"]) != other
