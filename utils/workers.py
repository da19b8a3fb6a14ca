"""Processes that read images for a process that computes."""

import cv2

from utils.signals import StopRequest


def init_worker(_: int) -> None:
    """One thread each; a signal to the whole group must not end them before the step is done."""
    cv2.setNumThreads(0)
    StopRequest(patience=0)
