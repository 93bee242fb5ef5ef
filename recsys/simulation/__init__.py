"""A simulated shop whose shoppers choose by what texts say, and the truth behind it."""

from recsys.simulation.config import BehaviourConfig, PolicyConfig, SimulationConfig
from recsys.simulation.oracle import LastPurchases
from recsys.simulation.shop import ORACLE_FILE, SimulatedShop
from recsys.simulation.visitors import ListValue, Opening, VisitorAct, Visitors

__all__ = [
    "ORACLE_FILE",
    "BehaviourConfig",
    "LastPurchases",
    "ListValue",
    "Opening",
    "PolicyConfig",
    "SimulatedShop",
    "SimulationConfig",
    "VisitorAct",
    "Visitors",
]
