"""A thread that the caller feeds."""

import pytest

from vector_backup_pipeline.engine import piped_thread
from vector_backup_pipeline.engine.piped_thread import PipedThread, Stopped


def test_a_stop_is_never_taken_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even when it comes while the thread looks for the next piece: an upload that took it for the
    end would store half a file."""
    ends: list[str] = []

    def read(thread: PipedThread) -> None:
        def stop() -> None:
            if ends:
                thread._is_stopped = True
                thread._has_ended.set()

        monkeypatch.setattr(piped_thread, "check", stop)
        try:
            for piece in thread.pieces():
                ends.append(piece.decode())
        except Stopped:
            ends.append("stopped")
        else:
            ends.append("complete")

    thread = PipedThread(read, "test", queued=2)
    thread.put(b"piece")
    thread._thread.join()
    assert ends == ["piece", "stopped"]
