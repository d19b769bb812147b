"""Celery on Redis at the same work: a task for each mail, acknowledged when it is done.

    python -m bench.opponents.celery_worker COUNT      enqueues the mails of so many submissions
    celery --app bench.opponents.celery_worker worker --pool prefork --concurrency 4

`REDIS_PORT` and `MAIL_PORT` say where. A worker that dies gives its tasks back after the visibility time-out, which is
an hour unless it is set; here it is as long as our lease.
"""

import os
import queue
import smtplib
import sys
import time
from typing import Any

from celery import Celery, Task

from bench.opponents.work import RETRY_SECONDS, SENDER, compose, jobs, recipient

VISIBLE_AGAIN_AFTER = 30
kept: queue.LifoQueue[smtplib.SMTP] = queue.LifoQueue()
"""Open connections to the mail server: one a process or greenlet."""

app = Celery("mails", broker=f"redis://127.0.0.1:{os.environ.get('REDIS_PORT', '6379')}/0")
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=int(os.environ.get("PREFETCH", "16")),
    worker_hijack_root_logger=False,
    broker_transport_options={"visibility_timeout": VISIBLE_AGAIN_AFTER},
    broker_connection_retry_on_startup=True,
)


def taken() -> smtplib.SMTP:
    """Return a kept connection that nobody uses, or a new one."""
    try:
        return kept.get_nowait()
    except queue.Empty:
        return smtplib.SMTP("127.0.0.1", int(os.environ["MAIL_PORT"]), timeout=60)


@app.task(bind=True, name="mail", max_retries=20)
def mail(self: Task, job: dict[str, Any]) -> None:
    """Compose and send one mail; at a 451 come back a second later."""
    connection = taken()
    try:
        connection.sendmail(SENDER, [recipient(job)], compose(job))
    except smtplib.SMTPRecipientsRefused as later:
        raise self.retry(countdown=RETRY_SECONDS, exc=later) from later
    finally:
        kept.put(connection)


def fill(count: int) -> None:
    """Enqueue the mails of so many submissions."""
    with app.connection_for_write() as broker, broker.Producer() as producer:
        for job in jobs(count, f"{time.time_ns():x}"):
            mail.apply_async((job,), producer=producer)


if __name__ == "__main__":
    fill(int(sys.argv[1]))
