"""PostgreSQL as the queue: ours beside the engines that were not chosen, on the same work and the same machine.

python -m bench.queue            the whole of it, about twenty minutes
python -m bench.queue --quick    small, about three minutes, for a first impression
"""
