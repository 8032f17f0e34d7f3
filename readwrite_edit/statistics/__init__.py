"""Second moments of what a model's projections read, collected in one pass."""

from readwrite_edit.statistics.collect import collect_statistics, collect_token_statistics, token_batches
from readwrite_edit.statistics.moments import Moments, Statistics, mix
from readwrite_edit.statistics.running import RunningMoments
from readwrite_edit.statistics.store import StatisticsStore, open_statistics, statistics_key, write_statistics
from readwrite_edit.statistics.texts import chat_sequences, prose_sequences, take_tokens

__all__ = [
    "Moments",
    "RunningMoments",
    "Statistics",
    "StatisticsStore",
    "chat_sequences",
    "collect_statistics",
    "collect_token_statistics",
    "mix",
    "open_statistics",
    "prose_sequences",
    "statistics_key",
    "take_tokens",
    "token_batches",
    "write_statistics",
]
