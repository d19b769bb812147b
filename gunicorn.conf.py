"""What gunicorn reads by itself in this folder: Pillarbox speaks ASGI."""

worker_class = "asgi"
graceful_timeout = 30
