"""Public help for tests: worlds in virtual time with faults, given/when/then, replay, what a store must do."""

from holdfast.testing.clock import VirtualClock
from holdfast.testing.faults import Faults
from holdfast.testing.given import given
from holdfast.testing.loop import ProcessDied
from holdfast.testing.replay import replay
from holdfast.testing.world import World

__all__ = ["Faults", "ProcessDied", "VirtualClock", "World", "given", "replay"]
