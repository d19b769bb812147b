"""PostgreSQL as the queue: ours beside the engines that were not chosen, on the same work and the same machine.

python -m bench.queues            the whole of it, about twenty minutes
python -m bench.queues --quick    small, about three minutes, for a first impression
"""
