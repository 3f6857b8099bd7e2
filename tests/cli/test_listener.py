"""What a job tells is shown once, on stderr."""

import pytest

from halfpixel.cli.console import Listener
from halfpixel.jobs.events import Failure, Progress
from halfpixel.jobs.runner import Outcome, Runner


def test_warnings_are_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    with Listener() as listener:
        runner = Runner(listener)
        runner.warn("early")
        runner.fail("a.png", "a.png: broken\nin two")
    assert listener.finish(runner.outcome("late", "early")) == 2
    assert capsys.readouterr() == (
        "",
        "halfpixel: warning: early\nhalfpixel: error: a.png: broken in two\n"
        "halfpixel: warning: late\nhalfpixel: warning: early\n",
    )


def test_a_download_is_announced_once_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Listener() as listener:
        for done in (0, 10, 20):
            listener(Progress("download", done, 20_000_000, "coco"))
        listener(Progress("predict", 1, 2))
    assert capsys.readouterr().err == "Downloading the model coco (20 MB)\n"


def test_an_error_of_the_system_is_shown_without_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    Listener()(Failure.of("a.png", PermissionError(13, "Permission denied", "a.png")))
    assert capsys.readouterr().err == "halfpixel: error: a.png: Permission denied\n"


@pytest.mark.parametrize(
    ("images", "failures", "code"), [((), (), 0), (("a",), ("b",), 1), ((), ("b",), 2), (("a",), (), 0)]
)
def test_exit_codes(images: tuple[str, ...], failures: tuple[str, ...], code: int) -> None:
    outcome = Outcome(images, tuple(Failure.of(path, "broken") for path in failures), ())
    assert Listener().finish(outcome) == code
