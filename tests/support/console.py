"""A console for the tests."""

from tfpipeline.system.console import Console


class RecordingConsole(Console):
    """A console that keeps its lines and shows nothing."""

    def __init__(self):
        super().__init__(quiet=True)
        self.lines = []

    def say(self, line):
        self.lines.append(line)
