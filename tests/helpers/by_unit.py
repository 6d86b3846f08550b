"""How pytest-xdist hands out tests: unit by unit, as helpers/order.py says."""

from helpers.order import unit
from xdist.scheduler import LoadScopeScheduling


class ByUnit(LoadScopeScheduling):
    """Gives a worker that has nothing left the next unit, in the order of collection."""

    def __init__(self, config, log=None):
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid):
        return unit(nodeid)
