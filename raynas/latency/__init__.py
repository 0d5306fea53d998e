"""How long a network takes to classify one image: measured, or estimated from a table."""

from raynas.latency.clock import latencies_ms, latency_ms
from raynas.latency.measuring import GrowingTable, measure
from raynas.latency.mobile import mobile
from raynas.latency.table import LatencyTable

__all__ = ["GrowingTable", "LatencyTable", "latencies_ms", "latency_ms", "measure", "mobile"]
